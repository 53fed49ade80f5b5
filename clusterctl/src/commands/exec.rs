//! `clusterctl exec`

use crate::client::Client;
use anyhow::{Result, bail};
use api::proto::exec_input::Input;
use api::proto::exec_output::Output;
use api::proto::{ExecInput, ExecStart};
use std::io::Write;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Run a command in a running container, on whatever node it is
#[derive(Debug, clap::Args)]
#[command(
    trailing_var_arg = true,
    after_help = "The exit code is the command's: 126 if it can't be executed, 127 if it is not there.\n\nExamples:\n  \
                  clusterctl exec shop_redis.1 redis-cli get hits\n  echo 'set hits 0' | clusterctl exec -i shop_redis \
                  redis-cli"
)]
pub struct Args {
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Set a variable
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Run as this user of the container: NAME|UID[:GROUP|GID]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Run in this folder of the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// A task, or a service with a running task: name, id or beginning of an id
    #[arg(value_name = "TASK|SERVICE")]
    target: String,
    /// The command and its arguments
    #[arg(required = true, value_name = "COMMAND", allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Messages on their way to clusterd: standard input is read no faster than it is taken.
const IN_FLIGHT: usize = 16;

pub async fn run(client: &Client, args: Args) -> Result<u8> {
    if args.tty {
        bail!(
            "exec -t is not supported yet: there is no terminal in the container; use -i to pass standard input"
        );
    }
    if let Some(wrong) = args
        .env
        .iter()
        .find(|e| !e.contains('=') || e.starts_with('='))
    {
        bail!("the variable {wrong:?} is not KEY=VALUE");
    }
    let start = ExecStart {
        target: args.target,
        args: args.command,
        env: args.env,
        working_dir: args.workdir.unwrap_or_default(),
        user: args.user.unwrap_or_default(),
    };
    let (tx, rx) = mpsc::channel(IN_FLIGHT);
    tx.send(ExecInput {
        input: Some(Input::Start(start)),
    })
    .await?;
    let input = tokio::spawn(pass_input(tx, args.interactive));
    let mut stream = client
        .control()
        .exec(ReceiverStream::new(rx))
        .await?
        .into_inner();
    let mut code = None;
    while let Some(message) = stream.message().await? {
        match message.output {
            Some(Output::Stdout(data)) => write_all(std::io::stdout().lock(), &data)?,
            Some(Output::Stderr(data)) => write_all(std::io::stderr().lock(), &data)?,
            Some(Output::ExitCode(exit)) => code = Some(exit),
            None => {}
        }
    }
    input.abort();
    match code {
        // Codes are bytes; anything else can only be a signal's 128 + n gone wrong.
        Some(code) => Ok(u8::try_from(code).unwrap_or(255)),
        None => bail!("the connection to the container's node was lost before the command ended"),
    }
}

fn write_all(mut to: impl Write, data: &[u8]) -> std::io::Result<()> {
    to.write_all(data)?;
    to.flush()
}

/// Passes standard input and signals on until either side ends.
async fn pass_input(tx: mpsc::Sender<ExecInput>, interactive: bool) {
    let send = |input: Input| {
        let tx = tx.clone();
        async move { tx.send(ExecInput { input: Some(input) }).await.is_ok() }
    };
    let (Ok(mut int), Ok(mut term)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 32 * 1024];
    let mut open = interactive;
    if !interactive && !send(Input::StdinEnd(true)).await {
        return;
    }
    loop {
        let alive = tokio::select! {
            read = stdin.read(&mut buffer), if open => match read {
                Ok(count) if count > 0 => {
                    let data = buffer.get(..count).unwrap_or_default().to_vec();
                    send(Input::Stdin(data.into())).await
                }
                // The end, or an error, which is an end too.
                _ => {
                    open = false;
                    send(Input::StdinEnd(true)).await
                }
            },
            _ = int.recv() => send(Input::Signal(nix::libc::SIGINT)).await,
            _ = term.recv() => send(Input::Signal(nix::libc::SIGTERM)).await,
        };
        if !alive {
            return;
        }
    }
}
