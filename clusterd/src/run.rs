//! The process: starts, serves the local socket, stops.

use crate::checks;
use crate::cli::Cli;
use crate::daemon::Daemon;
use crate::listen;
use crate::node::Node;
use crate::places::Places;
use anyhow::{Context, Result, bail};
use api::proto::daemon_server::DaemonServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

/// How long connections may take to end at shutdown.
const DRAIN_BOUND: Duration = Duration::from_secs(3);
/// How long calls wait for the membership to be up.
const START_BOUND: Duration = Duration::from_secs(5);
/// How often memory is given back.
const MEMORY_PAUSE: Duration = Duration::from_secs(15);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(cli: Cli) -> Result<()> {
    let lacks = checks::machine();
    for lack in &lacks {
        if lack.fatal {
            bail!("{}", lack.text);
        }
        tracing::warn!("{}", lack.text);
    }
    // Before anything is started, so that no early signal is lost.
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let places = Places::open(&cli.state_dir, &cli.run_dir)?;
    let images = images::Store::open(&places.images()).map_err(|e| anyhow::anyhow!(e.full()))?;
    let runtime = runtime::Runtime::new(runtime::RuntimeConfig::new(
        places.run.join("containers"),
        shim(),
    ))?;
    let hostname = nix::unistd::gethostname()
        .context("can't tell the host name")?
        .to_string_lossy()
        .into_owned();
    let socket = cli.socket();
    let node = Arc::new(Node::new(cli, places, lacks, hostname, images, runtime));
    let listener = listen::bind_unix(&socket).await?;
    let stop = CancellationToken::new();
    // Calls made before the membership is up wait for it: "belongs to no cluster" would be untrue.
    let (begin, begun) = oneshot::channel();
    let server = tokio::spawn(serve_socket(node.clone(), listener, begun, stop.clone()));
    let quiet = tokio::spawn(give_memory_back());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %socket.display(), "clusterd is up");
    let moves = tokio::spawn(follow_address(node.clone(), stop.clone()));
    let started = tokio::select! {
        started = start_member(&node, begin) => started,
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    };
    let ended = match started {
        Err(error) => Err(error),
        Ok(()) => tokio::select! {
            _ = term.recv() => {
                tracing::info!("told to stop; containers run on");
                Ok(())
            }
            _ = int.recv() => {
                tracing::info!("interrupted; containers run on");
                Ok(())
            }
            why = node.failed() => Err(anyhow::anyhow!(why)),
        },
    };
    stop.cancel();
    if let Err(error) = moves.await {
        tracing::error!(%error, "what follows this machine's address failed");
    }
    quiet.abort();
    // Aborted, or ended by itself.
    let _ = quiet.await;
    let why = match &ended {
        Ok(()) => {
            "clusterd is stopping on this node; start it again, then repeat the call".to_owned()
        }
        Err(error) => format!("clusterd is ending: {error:#}"),
    };
    node.shutdown(&why).await;
    if tokio::time::timeout(DRAIN_BOUND, server).await.is_err() {
        tracing::debug!("some calls were cut off");
    }
    // What can't be removed is replaced at the next start.
    let _ = std::fs::remove_file(&socket);
    ended
}

/// What a burst has used is given back soon after, and then now and again.
async fn give_memory_back() {
    let mut pause = Duration::from_secs(2);
    loop {
        tokio::time::sleep(pause).await;
        if tokio::task::spawn_blocking(runtime::memory::give_back)
            .await
            .is_err()
        {
            return;
        }
        pause = (pause * 2).min(MEMORY_PAUSE);
    }
}

/// Not cut off in the middle: a membership that begins anew is there whole or not at all.
async fn follow_address(node: Arc<Node>, stop: CancellationToken) {
    node.follow_address(&stop).await;
}

/// The program that becomes a container's shim: this very file, even if it is replaced meanwhile.
fn shim() -> runtime::ShimCommand {
    runtime::ShimCommand {
        program: "/proc/self/exe".into(),
        args: vec!["shim".into()],
    }
}

/// Goes on with the membership; the socket is served once it is up, or takes too long.
async fn start_member(node: &Node, begin: oneshot::Sender<()>) -> Result<()> {
    let starting = node.start_member();
    tokio::pin!(starting);
    let early = tokio::time::timeout(START_BOUND, &mut starting).await;
    // The server may have been told to stop.
    let _ = begin.send(());
    match early {
        Ok(started) => started,
        Err(_) => starting.await,
    }
}

async fn serve_socket(
    node: Arc<Node>,
    listener: tokio::net::UnixListener,
    begun: oneshot::Receiver<()>,
    stop: CancellationToken,
) {
    tokio::select! {
        _ = begun => {}
        () = stop.cancelled() => return,
    }
    let own = Routes::new(DaemonServer::new(Daemon(node.clone())));
    let served = Server::builder()
        .add_routes(node.routes(own))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the local socket failed");
    }
}
