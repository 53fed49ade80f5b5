//! What the daemon's log and its memory make of a hostile or a broken neighbourhood: bounded both, and the daemon goes
//! on.

use anyhow::{Context, Result, ensure};
use api::proto::{GetRootRequest, IssueRequest, ca_client::CaClient};
use cluster_tests::{Lab, Node, wait_for};
use manager::{dialer::unidentified, identity::MANAGER_NAME, tls};
use rustls::pki_types::ServerName;
use std::{fs, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const LIMIT: Duration = Duration::from_secs(90);
/// What one connection is sent at most.
const SENT: usize = 4 << 20;
/// Connections at once.
const AT_ONCE: usize = 64;
/// What all of it may add to the daemon's memory.
const MEMORY: u64 = 128 << 20;
/// And to its log, bytes, and to one line of it.
const LOGGED: usize = 64 << 10;
const LINE: usize = 1_000;

/// What clusterd has logged since `from`.
fn logged(node: &Node<'_>, from: usize) -> Result<String> {
    let all = fs::read(node.log_path()?)?;
    Ok(String::from_utf8_lossy(all.get(from..).unwrap_or_default()).into_owned())
}

fn log_length(node: &Node<'_>) -> Result<usize> {
    Ok(fs::read(node.log_path()?)?.len())
}

fn leader<'a>(lab: &'a Lab, through: &Node<'_>) -> Result<Node<'a>> {
    let rows = through.run_json(["clusterctl", "node", "ls", "--format", "json"])?;
    let rows = rows.as_array().context("no list")?;
    let row = rows.iter().find(|row| row["leader"] == true);
    let name = row.context("nobody leads")?["description"]["hostname"].clone();
    lab.nodes()
        .find(|node| name == node.name())
        .context("no such node")
}

fn a_lost_manager_is_one_line(lab: &Lab) -> Result<()> {
    let leader = leader(lab, &lab.node(1))?;
    let lost = lab
        .nodes()
        .find(|node| node.name() != leader.name())
        .context("one node")?;
    let address = lost.address().to_string();
    let begin = log_length(&leader)?;
    let lines = |part: &str| -> Result<usize> {
        let log = logged(&leader, begin)?;
        let of = |line: &&str| line.contains(part) && line.contains(&address);
        Ok(log.lines().filter(of).count())
    };
    lost.kill()?;
    wait_for(
        "the leader says that a manager can't be reached",
        LIMIT,
        || Ok(lines("can't be reached")? > 0),
    )?;
    // Heartbeats go on failing all the time that these take.
    for _ in 0..20 {
        leader.run_ok(["clusterctl", "status"])?;
    }
    lost.start()?;
    wait_for("the leader says that it is there again", LIMIT, || {
        Ok(lines("can be reached again")? > 0)
    })?;
    lab.wait_ready()?;
    let log = logged(&leader, begin)?;
    ensure!(lines("manager")? >= 2, "{log}");
    ensure!(
        lines("can't be reached")? == 1 && lines("can be reached again")? == 1,
        "{log}"
    );
    ensure!(log.lines().count() < 30, "{log}");
    Ok(())
}

/// Sends until the other end closes, or enough.
async fn send(mut stream: impl AsyncRead + AsyncWrite + Unpin, begin: Vec<u8>) {
    let garbage: Vec<u8> = (0..64_u32 << 10)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut sent = stream.write_all(&begin).await;
    let mut bytes = 0;
    while sent.is_ok() && bytes < SENT {
        sent = stream.write_all(&garbage).await;
        bytes += garbage.len();
    }
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn encrypted(to: SocketAddr) -> Result<impl AsyncRead + AsyncWrite + Unpin> {
    let mut config = tls::stranger_config()?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(MANAGER_NAME)?;
    let tcp = TcpStream::connect(to).await?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await?)
}

/// One connection's worth of what nobody should send.
async fn one(number: usize, to: SocketAddr) -> Result<()> {
    let frame = |head: &[u8]| {
        [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
            head,
        ]
        .concat()
    };
    match number % 6 {
        // No TLS; a record of TLS that is longer than any.
        0 => send(TcpStream::connect(to).await?, Vec::new()).await,
        1 => send(TcpStream::connect(to).await?, vec![0x16, 3, 1, 0xff, 0xff]).await,
        // No HTTP; a frame of 16 MiB; headers without end.
        2 => send(encrypted(to).await?, Vec::new()).await,
        3 => {
            send(
                encrypted(to).await?,
                frame(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
            )
            .await
        }
        4 => send(encrypted(to).await?, frame(&[0, 0x40, 0, 1, 0, 0, 0, 0, 1])).await,
        // A call that anybody may make, with a name as long as a message, and lines in it that look like the log's.
        _ => {
            let stranger = unidentified(&to.to_string(), Arc::new(tls::stranger_config()?));
            let hostname = "x\n2026-01-01T00:00:00Z  INFO all is well\n".repeat(80_000);
            for hostname in [hostname.repeat(8), hostname] {
                let request = IssueRequest {
                    hostname,
                    secret: "wrong".into(),
                    addr: 1,
                    port: 1,
                    ..IssueRequest::default()
                };
                let refused = CaClient::new(stranger.clone()).issue(request).await;
                ensure!(refused.is_err(), "it was let in: {refused:?}");
            }
        }
    }
    Ok(())
}

/// The most memory a process has had since that was last asked, bytes.
fn peak(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    Ok(kib.context("no VmHWM")?.parse::<u64>()? * 1024)
}

async fn flood(to: SocketAddr) -> Result<()> {
    // Some say nothing at all, and stay.
    let mut silent = Vec::new();
    for _ in 0..AT_ONCE {
        silent.push(TcpStream::connect(to).await?);
    }
    let mut all = tokio::task::JoinSet::new();
    for number in 0..AT_ONCE {
        all.spawn(async move { timeout(LIMIT, one(number, to)).await });
    }
    while let Some(done) = all.join_next().await {
        // What is refused may break off in the middle of a handshake; what stays open for ever may not.
        match done?.context("a connection stays open")? {
            Err(error) if error.to_string().contains("let in") => return Err(error),
            _ => {}
        }
    }
    drop(silent);
    // Who means well is served.
    let stranger = unidentified(&to.to_string(), Arc::new(tls::stranger_config()?));
    CaClient::new(stranger).get_root(GetRootRequest {}).await?;
    Ok(())
}

fn garbage_is_survived(lab: &Lab) -> Result<()> {
    let node = lab.node(1);
    let daemon = node.clusterd()?.context("no clusterd")?;
    let begin = log_length(&node)?;
    peak(daemon.pid)?;
    let before = peak(daemon.pid)?;
    let runtime = tokio::runtime::Runtime::new()?;
    for _ in 0..3 {
        runtime.block_on(flood((node.address(), 2377).into()))?;
        node.run_ok(["clusterctl", "node", "ls"])?;
    }
    let grown = peak(daemon.pid)?.saturating_sub(before);
    ensure!(grown < MEMORY, "{grown} bytes more");
    ensure!(node.clusterd()? == Some(daemon), "clusterd is another");
    let log = logged(&node, begin)?;
    ensure!(
        log.len() < LOGGED,
        "{} bytes were logged:\n{log}",
        log.len()
    );
    let long = log.lines().find(|line| line.len() > LINE);
    ensure!(long.is_none(), "{long:?}");
    ensure!(
        !log.contains("all is well"),
        "a stranger writes the log:\n{log}"
    );
    ensure!(!log.contains("panicked"), "{log}");
    lab.wait_ready()
}

#[test]
fn neither_garbage_nor_a_lost_manager_fills_the_log() {
    let lab = Lab::builder().nodes(3).managers(3).up().expect("a lab");
    a_lost_manager_is_one_line(&lab).expect("one line each");
    garbage_is_survived(&lab).expect("it goes on");
}
