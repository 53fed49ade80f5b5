//! The process that keeps a node's (or the switch's) namespaces alive.
//!
//! It is this same binary run again, so that it is single-threaded when it unshares. It makes the
//! namespaces, mounts what the node sees differently, says `ready` and then only sleeps.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::{SigSet, Signal},
};

use crate::procfs::ProcessId;

/// The hidden subcommand of `lab` that runs a holder.
pub const COMMAND: &str = "__hold";

/// Folders that a node sees its own version of. Made on the machine where missing, to mount on.
pub const MOUNT_POINTS: [&str; 3] = ["/var/lib/clusterd", "/run/clusterd", "/run/netns"];

/// What a holder keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A network namespace for the bridge, nothing else.
    Switch,
    /// A host.
    Node,
}

/// The source text of a node's tmpfs mounts: marks every process of the node, in `/proc/PID/mountinfo`.
#[must_use]
pub fn marker(node_dir: &Path) -> String {
    format!("cluster-lab:{}", node_dir.display())
}

/// Starts a holder and waits until its namespaces are ready.
///
/// `dir` is the node's folder; its last part is the host's name.
pub fn spawn(lab_binary: &Path, role: Role, dir: &Path) -> Result<ProcessId> {
    let mut command = Command::new(lab_binary);
    command.arg(COMMAND).arg(dir);
    if role == Role::Switch {
        command.arg("switch");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", lab_binary.display()))?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| anyhow!("no stdout of the holder"))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() != "ready" {
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "cannot make the namespaces of {}: {}",
            dir.display(),
            said.trim()
        );
    }
    Ok(ProcessId::of(i32::try_from(child.id())?)?)
}

/// The holder's whole life. Returns only if the namespaces could not be made.
pub fn main(args: &[OsString]) -> Result<()> {
    let dir = args
        .first()
        .map(Path::new)
        .ok_or_else(|| anyhow!("no folder given"))?;
    let switch = args.get(1).is_some_and(|a| a == "switch");
    nix::unistd::setsid().context("setsid")?;
    if switch {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot unshare the network namespace")?;
    } else {
        become_node(dir)?;
    }
    let mut signals = SigSet::all();
    signals.remove(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals")?;
    std::io::stdout().write_all(b"ready\n")?;
    // Whoever started us may go on waiting for the end of our output: let go of it.
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    std::env::set_current_dir("/")?;
    loop {
        nix::unistd::pause();
    }
}

fn become_node(dir: &Path) -> Result<()> {
    let name = dir
        .file_name()
        .ok_or_else(|| anyhow!("{} has no name", dir.display()))?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .context("cannot unshare namespaces")?;
    nix::unistd::sethostname(name).context("cannot set the host name")?;
    // Nothing mounted here may show on the machine, nor the other way round.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("cannot make the mounts private")?;
    mount_sys(dir)?;
    bind(&dir.join("state"), Path::new(MOUNT_POINTS[0]))?;
    for point in &MOUNT_POINTS[1..] {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some(marker(dir).as_str()),
            *point,
            Some("tmpfs"),
            flags,
            Some("mode=755"),
        )
        .with_context(|| format!("cannot mount a tmpfs on {point}"))?;
    }
    for file in ["hosts", "resolv.conf"] {
        let own = dir.with_file_name(file);
        let point = Path::new("/etc").join(file);
        // A machine may be without one, or have a link into nowhere.
        if own.exists() && point.exists() {
            bind(&own, &point)?;
        }
    }
    Ok(())
}

/// `/sys` shows the interfaces of the namespace it was mounted from: mount it anew, keep the cgroups.
fn mount_sys(dir: &Path) -> Result<()> {
    let cgroups = Path::new("/sys/fs/cgroup");
    let aside = dir.join("cgroup");
    fs::create_dir_all(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    let no = None::<&str>;
    mount(
        Some(cgroups),
        &aside,
        no,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        no,
    )
    .context("cannot set the cgroup mounts aside")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, no).context("cannot mount sysfs")?;
    mount(Some(&aside), cgroups, no, MsFlags::MS_MOVE, no)
        .context("cannot put the cgroup mounts back")
}

fn bind(what: &Path, on: &Path) -> Result<()> {
    mount(Some(what), on, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot mount {} on {}", what.display(), on.display()))
}
