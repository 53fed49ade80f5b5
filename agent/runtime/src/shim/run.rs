//! The shim of one container: starts it, writes its log, waits for its end, says how it ended.

use super::log::{Lines, Log};
use super::warden::Warden;
use super::{
    HELD_FROM, LIB_STATE, Status, UsualSignals, become_subreaper, code_of, full, pipe, to_the_point,
};
use crate::lease;
use crate::oci;
use crate::process::{cgroups_of, oom_killed};
use crate::record::{EXIT, Exit, Folder, ORDERS, Orders, ProcessId, RUNNING, Running, now_ms};
use crate::spec::ContainerSpec;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// After the container's end, its pipes are read for so long at most: a process of the host may hold them.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The entry; the first process only makes the second one an orphan.
pub(super) fn main(dir: &Path) -> i32 {
    let status = Status::take();
    let folder = Folder(dir.to_owned());
    let orders = match folder.read::<Orders>(ORDERS) {
        Ok(Some(orders)) => orders,
        Ok(None) => {
            status.error(
                128,
                &format!("{} is not there", folder.file(ORDERS).display()),
            );
            return 1;
        }
        Err(error) => {
            status.error(128, &full(&error));
            return 1;
        }
    };
    if let Err(error) = setsid() {
        status.error(128, &format!("setsid: {error}"));
        return 1;
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => 0,
        Ok(ForkResult::Child) => attend(&folder, &orders, status),
        Err(error) => {
            status.error(128, &format!("fork: {error}"));
            1
        }
    }
}

fn attend(folder: &Folder, orders: &Orders, status: Status) -> i32 {
    if let Err(error) = become_subreaper() {
        status.error(128, &error.to_string());
        return 1;
    }
    keep_from_container(orders.held);
    let started = match start(folder, orders) {
        Ok(started) => started,
        Err(text) => {
            status.error(code_of(&text), &to_the_point(&text));
            return 1;
        }
    };
    // From here on a child's end waits in the descriptor. Not before: the container would inherit it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    let waiting = signals.thread_block().and_then(|()| {
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    });
    let signals = match waiting {
        Ok(signals) => signals,
        Err(error) => {
            status.error(128, &error.to_string());
            let mut container = started.container;
            // Its own failure would hide the first one.
            let _ = container.delete(true);
            return 1;
        }
    };
    status.ok(started.running.init.pid);
    crate::memory::give_back();
    let mut warden = Warden::new(folder, orders);
    let (code, signal) = serve(&started, orders, &signals, &mut warden);
    let oom_killed = oom_killed(&started.running.cgroups);
    let exit = Exit {
        // However it took being asked: it has not finished by itself.
        code: if warden.has_stopped() && code == 0 {
            128 + libc::SIGTERM
        } else {
            code
        },
        signal,
        oom_killed,
        finished_at_ms: now_ms(),
        message: warden.says(),
    };
    if let Err(error) = folder.write(EXIT, &exit) {
        eprintln!("clusterd shim: {}", full(&error));
    }
    let mut container = started.container;
    if let Err(error) = container.delete(true) {
        // The daemon's delete does the rest.
        eprintln!("clusterd shim: {}", full(&error));
    }
    0
}

/// The held descriptors are this process's, not the container's.
fn keep_from_container(held: usize) {
    let count = i32::try_from(held).unwrap_or(0);
    for fd in HELD_FROM..HELD_FROM + count {
        // SAFETY: sets a flag of a descriptor that this process was started with.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

struct Begun {
    container: Container,
    running: Running,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Whether the container may begin now.
fn check_lease(folder: &Folder, spec: &ContainerSpec) -> Result<(), String> {
    let Some(terms) = &spec.lease else {
        return Ok(());
    };
    let now = lease::boot_ms().map_err(|e| e.to_string())?;
    if !terms.hold(folder.renewed(), now) {
        return Err("the node has no lease: no manager has been heard lately".into());
    }
    match spec.begin_before_ms {
        Some(before) if now >= before => {
            Err("the lease it was to begin in was over before it had begun".into())
        }
        _ => Ok(()),
    }
}

fn start(folder: &Folder, orders: &Orders) -> Result<Begun, String> {
    let spec = &orders.spec;
    check_lease(folder, spec)?;
    let unified = oci::is_unified();
    let config = oci::config(
        spec,
        &format!("/{}/{}", crate::client::CGROUP_PARENT, spec.id),
        unified,
    );
    folder.write("config.json", &config).map_err(|e| full(&e))?;
    let state = folder.file(LIB_STATE);
    std::fs::create_dir_all(&state).map_err(|e| format!("can't make {}: {e}", state.display()))?;
    let io = |e: std::io::Error| e.to_string();
    let (stdout, out) = pipe().map_err(io)?;
    let (stderr, err) = pipe().map_err(io)?;
    let null = File::open("/dev/null").map_err(io)?;
    let _usual = UsualSignals::now();
    let mut container = ContainerBuilder::new(spec.id.clone(), SyscallType::Linux)
        .with_root_path(&state)
        .and_then(ContainerBuilder::validate_id)
        .map(|builder| builder.with_stdin(null).with_stdout(out).with_stderr(err))
        .and_then(|builder| {
            builder
                .as_init(&folder.0)
                .with_systemd(false)
                .with_detach(true)
                .build()
        })
        .map_err(|e| full(&e))?;
    let made = (|| {
        let pid = container
            .pid()
            .ok_or("libcontainer names no process")?
            .as_raw();
        let init = ProcessId::of(pid).ok_or("the container's process is gone")?;
        let own = i32::try_from(std::process::id()).map_err(|e| e.to_string())?;
        let shim = ProcessId::of(own).ok_or("/proc can't be read")?;
        let running = Running {
            shim,
            init,
            started_at_ms: now_ms(),
            cgroups: cgroups_of(pid, &spec.id),
        };
        folder.write(RUNNING, &running).map_err(|e| full(&e))?;
        // All of that took its time.
        check_lease(folder, spec)?;
        container.start().map_err(|e| full(&e))?;
        Ok::<_, String>(running)
    })();
    match made {
        Ok(running) => Ok(Begun {
            container,
            running,
            stdout,
            stderr,
        }),
        Err(text) => {
            // Its own failure would hide the first one.
            let _ = container.delete(true);
            let _ = std::fs::remove_file(folder.file(RUNNING));
            Err(text)
        }
    }
}

/// Until the container has ended and its pipes are empty.
fn serve(
    begun: &Begun,
    orders: &Orders,
    signals: &SignalFd,
    warden: &mut Warden<'_>,
) -> (i32, Option<i32>) {
    let mut log = Log::open(orders.spec.log.clone());
    let mut streams = [
        (Some(&begun.stdout), Lines::new("stdout")),
        (Some(&begun.stderr), Lines::new("stderr")),
    ];
    let mut ended: Option<((i32, Option<i32>), Instant)> = None;
    let init = Pid::from_raw(begun.running.init.pid);
    loop {
        // It may have ended before the signal was blocked.
        if let Some(how) = reap(init)
            && ended.is_none()
        {
            ended = Some((how, Instant::now() + LAST_WORDS));
        }
        if ended.is_none() {
            warden.look(&begun.running.init);
        }
        let timeout = match &ended {
            None => warden.patience(),
            Some((how, end)) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || streams.iter().all(|(fd, _)| fd.is_none()) {
                    for (_, lines) in &mut streams {
                        lines.end(&mut log);
                    }
                    return *how;
                }
                PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)
            }
        };
        let open: Vec<usize> = (0..streams.len())
            .filter(|n| streams.get(*n).is_some_and(|s| s.0.is_some()))
            .collect();
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(open.iter().filter_map(|n| {
            let fd: BorrowedFd<'_> = streams.get(*n)?.0?.as_fd();
            Some(PollFd::new(fd, PollFlags::POLLIN))
        }));
        if poll(&mut fds, timeout).is_err() {
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        if ready.first() == Some(&true) {
            while let Ok(Some(_)) = signals.read_signal() {}
        }
        for (n, _) in open
            .iter()
            .zip(ready.iter().skip(1))
            .filter(|(_, ready)| **ready)
        {
            let Some((fd, lines)) = streams.get_mut(*n) else {
                continue;
            };
            if !pump(fd.as_ref().map(|f| f.as_raw_fd()), lines, &mut log) {
                lines.end(&mut log);
                *fd = None;
            }
        }
    }
}

/// Reads once; false at the end.
fn pump(fd: Option<i32>, lines: &mut Lines, log: &mut Log) -> bool {
    let Some(fd) = fd else { return false };
    let mut buffer = [0; 16 * 1024];
    // SAFETY: the descriptor is open as long as its owner, which outlives this call; it is not closed here.
    let mut file =
        std::mem::ManuallyDrop::new(unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(fd) });
    match file.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            lines.take(buffer.get(..count).unwrap_or_default(), log);
            true
        }
        Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
    }
}

/// Reaps every child that has ended; says how the container's first process did.
fn reap(init: Pid) -> Option<(i32, Option<i32>)> {
    let mut how = None;
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        let ended = match status {
            WaitStatus::Exited(pid, code) => (pid, (code, None)),
            WaitStatus::Signaled(pid, signal, _) => {
                (pid, (128 + signal as i32, Some(signal as i32)))
            }
            WaitStatus::StillAlive => break,
            _ => continue,
        };
        if ended.0 == init {
            how = Some(ended.1);
        }
    }
    how
}
