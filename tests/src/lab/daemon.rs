//! A node's `clusterd`: started detached, stopped, killed; its log.

use std::{
    fs,
    os::unix::{net::UnixStream, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{clock, enter, record::Record};
use crate::{places, procfs::ProcessId, wait_for};

/// Where clusterd listens for clusterctl, in the node.
pub const SOCKET: &str = "/run/clusterd/clusterd.sock";

const SOCKET_LIMIT: Duration = Duration::from_secs(60);
/// Longer than any grace period clusterd gives its own parts.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The file of everything clusterd printed, over all its starts.
pub fn log_path(record: &Record, node: &str) -> Result<PathBuf> {
    Ok(record
        .node_dir(&record.node(node)?.name)?
        .join("log")
        .join("clusterd.log"))
}

/// The last lines of the log; empty when there is none.
#[must_use]
pub fn log_tail(record: &Record, node: &str, lines: usize) -> String {
    let text = log_path(record, node)
        .ok()
        .and_then(|path| fs::read(path).ok())
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The running clusterd of a node, if it runs.
pub fn running(record: &Record, node: &str) -> Result<Option<ProcessId>> {
    let path = pid_path(record, node)?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let id: Option<ProcessId> = serde_json::from_str(&text).ok();
    Ok(id.filter(ProcessId::is_alive))
}

/// Starts clusterd and waits until its socket answers.
pub fn start(record: &Record, node: &str) -> Result<ProcessId> {
    let node = record.node(node)?.name.as_str();
    if let Some(id) = running(record, node)? {
        bail!("clusterd of {node} runs already, as pid {}", id.pid);
    }
    let program = places::binary(&record.bin_dir, "clusterd")?;
    let log = log_path(record, node)?;
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("cannot open {}", log.display()))?;
    let mut command = Command::new(program);
    command
        .args(&record.clusterd_args)
        .env("PATH", enter::path(&record.bin_dir))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    clock::apply(record, node, &mut command)?;
    // SAFETY: setsid is a plain system call; nothing is allocated or locked between fork and exec.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()
                .map(drop)
                .map_err(std::io::Error::from)
        });
    }
    enter::Door::to_node(record, node)?.apply(&mut command)?;
    let child = command
        .spawn()
        .with_context(|| format!("cannot start clusterd on {node}"))?;
    let id = ProcessId::of(i32::try_from(child.id())?)?;
    fs::write(pid_path(record, node)?, serde_json::to_string(&id)?)?;
    wait_until_answering(record, node, id)?;
    Ok(id)
}

fn wait_until_answering(record: &Record, node: &str, id: ProcessId) -> Result<()> {
    let mut dead = false;
    let waited = wait_for(
        format!("clusterd of {node} answers on {SOCKET}"),
        SOCKET_LIMIT,
        || {
            dead = !id.is_alive();
            Ok(dead || answers(record, node))
        },
    );
    if dead {
        id.reap();
        bail!(
            "clusterd of {node} ended at once; its log ends with:\n{}",
            log_tail(record, node, 20)
        );
    }
    waited.with_context(|| format!("its log ends with:\n{}", log_tail(record, node, 20)))
}

/// Whether something accepts connections on the node's socket.
#[must_use]
pub fn answers(record: &Record, node: &str) -> bool {
    let Some(holder) = record
        .node(node)
        .ok()
        .and_then(|n| n.holder)
        .filter(ProcessId::is_alive)
    else {
        return false;
    };
    UnixStream::connect(format!("/proc/{}/root{SOCKET}", holder.pid)).is_ok()
}

/// Ends clusterd as an init system would: SIGTERM, then wait. Containers go on. Not running is fine.
pub fn stop(record: &Record, node: &str) -> Result<()> {
    end(record, node, libc::SIGTERM)
}

/// SIGKILL, as a crash. Containers go on.
pub fn kill(record: &Record, node: &str) -> Result<()> {
    end(record, node, libc::SIGKILL)
}

fn end(record: &Record, node: &str, signal: i32) -> Result<()> {
    let Some(id) = running(record, node)? else {
        return Ok(());
    };
    id.signal(signal)
        .with_context(|| format!("cannot signal clusterd of {node}, pid {}", id.pid))?;
    wait_for(
        format!("clusterd of {node}, pid {}, has ended", id.pid),
        STOP_LIMIT,
        || Ok(!id.is_alive()),
    )
    .with_context(|| format!("its log ends with:\n{}", log_tail(record, node, 20)))?;
    id.reap();
    Ok(())
}

fn pid_path(record: &Record, node: &str) -> Result<PathBuf> {
    Ok(record
        .node_dir(&record.node(node)?.name)?
        .join("clusterd.pid"))
}
