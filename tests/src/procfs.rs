//! What `/proc` says about processes and their mounts.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

/// A process, named so that a recycled pid is never taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

/// One line of `/proc/PID/stat`, as far as it is used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Pid and start time.
    pub id: ProcessId,
    /// The parent's pid.
    pub parent: i32,
    /// `R`, `S`, `Z`, ...
    pub state: char,
    /// The command's name, cut to 15 characters by the kernel.
    pub command: String,
}

/// One mount of a process's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the file system.
    pub device: String,
    /// Which folder of that file system is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    /// `ext4`, `overlay`, ...
    pub kind: String,
    /// The device, or any text the mounter chose.
    pub source: String,
    /// The file system's own options, comma separated.
    pub options: String,
}

impl ProcessId {
    /// Names the process that has this pid now.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(process(pid)?.id)
    }

    /// Names the calling process.
    pub fn own() -> io::Result<Self> {
        // Linux pids fit 22 bits.
        Self::of(i32::try_from(std::process::id()).map_err(io::Error::other)?)
    }

    /// True until the last of its threads has ended. A process that is a zombie in `/proc` may still be
    /// ending: threads beside the first then hold its locks and its sockets.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.open().is_ok()
    }

    /// A pidfd of it, or ESRCH when it has ended.
    pub fn open(&self) -> io::Result<OwnedFd> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Looked at after opening: if it matches now, the pidfd is of this very process.
        let same = process(self.pid).is_ok_and(|p| p.id == *self);
        // Readable once the whole process has ended, reaped or not.
        let mut ended = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        let ended = poll(&mut ended, PollTimeout::ZERO)? > 0;
        if same && !ended {
            Ok(fd)
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    }

    /// Sends a signal. A process that has ended already is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let fd = match self.open() {
            Ok(fd) => fd,
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(e) => return Err(e),
        };
        // SAFETY: a null siginfo is allowed, and the other arguments are integers.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            e => Err(e),
        }
    }

    /// Collects the exit status if it was a child of ours, so that it leaves no zombie.
    pub fn reap(&self) {
        let pid = nix::unistd::Pid::from_raw(self.pid);
        let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    }
}

/// Reads one process.
pub fn process(pid: i32) -> io::Result<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::other(format!("cannot read /proc/{pid}/stat")))
}

/// All processes of this machine. Those that end meanwhile are left out.
pub fn processes() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_string_lossy().parse::<i32>();
        if let Ok(pid) = pid
            && let Ok(process) = process(pid)
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// What identifies a namespace while something lives in it, like `mnt:[4026531841]`.
#[must_use]
pub fn namespace(pid: i32, kind: &str) -> Option<String> {
    Some(
        fs::read_link(format!("/proc/{pid}/ns/{kind}"))
            .ok()?
            .to_string_lossy()
            .into_owned(),
    )
}

/// The mounts that a process sees.
#[must_use]
pub fn mounts(pid: i32) -> Vec<Mount> {
    let text = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(parse_mount)
        .collect()
}

/// Where a path lies: its file system's device number and the path inside that file system.
#[must_use]
pub fn place_of(path: &Path) -> Option<(String, String)> {
    let own = i32::try_from(std::process::id()).ok()?;
    let mut best: Option<(usize, String, String)> = None;
    for mount in mounts(own) {
        if let Ok(rest) = path.strip_prefix(&mount.point) {
            // Of two mounts on one point, the later one is on top.
            if best
                .as_ref()
                .is_none_or(|(length, ..)| mount.point.len() >= *length)
            {
                let inside = Path::new(&mount.root).join(rest);
                best = Some((
                    mount.point.len(),
                    mount.device,
                    inside.to_string_lossy().into_owned(),
                ));
            }
        }
    }
    best.map(|(_, device, inside)| (device, inside))
}

fn parse_stat(text: &str) -> Option<Process> {
    // The command stands in brackets and may hold brackets and blanks itself.
    let (head, tail) = text.rsplit_once(')')?;
    let (pid, command) = head.split_once(" (")?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    Some(Process {
        id: ProcessId {
            pid: pid.trim().parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        },
        parent: fields.get(1)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        command: command.to_owned(),
    })
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    Some(Mount {
        device: (*left.get(2)?).to_owned(),
        root: unescape(left.get(3)?),
        point: unescape(left.get(4)?),
        kind: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
        options: unescape(right.get(2).unwrap_or(&"")),
    })
}

/// Undoes the kernel's `\040` for blanks, tabs, newlines and backslashes.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match code.and_then(|c| u8::from_str_radix(std::str::from_utf8(c).ok()?, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_may_hold_brackets_and_blanks() {
        let text = "42 (a ) (b) S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99887 0 0";
        let process = parse_stat(text).expect("a stat line");
        assert_eq!(process.command, "a ) (b");
        assert_eq!(
            process.id,
            ProcessId {
                pid: 42,
                start_ticks: 99887
            }
        );
        assert_eq!((process.parent, process.state), (7, 'S'));
    }

    #[test]
    fn mount_lines_are_unescaped() {
        let line =
            r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mount(line).expect("a mount line");
        assert_eq!(mount.point, "/mnt 2");
        assert_eq!(mount.options, "rw,errors=continue");
        assert_eq!(mount.root, "/mnt1");
    }

    #[test]
    fn the_own_process_is_alive_and_another_start_time_is_not() {
        let own = ProcessId::own().expect("own process");
        assert!(own.is_alive());
        let other = ProcessId {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        assert!(!other.is_alive());
        assert!(other.signal(libc::SIGKILL).is_ok(), "must not reach us");
    }

    #[test]
    fn a_path_lies_on_a_mount() {
        let (device, inside) = place_of(Path::new("/proc/self")).expect("proc is mounted");
        assert!(device.contains(':'));
        assert_eq!(inside, "/self");
    }

    /// Ends only the thread that it interrupts.
    extern "C" fn end_thread(_: i32) {
        // SAFETY: a bare system call, allowed in a signal handler; the thread holds no lock, it waits.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }

    /// Ends the first thread of its process, which waits for this one, and goes on until its input ends.
    #[test]
    #[ignore = "is run by the next test, as a process of its own"]
    fn lose_the_first_thread() {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: the handler only makes a system call.
        unsafe { signal(Signal::SIGUSR1, SigHandler::Handler(end_thread)) }.expect("a handler");
        let pid = std::process::id();
        // SAFETY: integers only. The first thread's id is the process's.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGUSR1) };
        assert_eq!(sent, 0);
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    }

    #[test]
    fn a_process_lives_until_its_last_thread_has_ended() {
        let limit = std::time::Duration::from_secs(60);
        let mut child = std::process::Command::new(std::env::current_exe().expect("own path"))
            .args([
                "--ignored",
                "--exact",
                "procfs::tests::lose_the_first_thread",
                "--test-threads=1",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("runs");
        let id = ProcessId::of(i32::try_from(child.id()).expect("a pid")).expect("it runs");
        let zombie = || Ok(process(id.pid)?.state == 'Z');
        crate::wait_for("the first thread has ended", limit, zombie).expect("a zombie");
        assert!(id.is_alive(), "another thread still runs");
        drop(child.stdin.take());
        crate::wait_for("all has ended", limit, || Ok(!id.is_alive()))
            .expect("ended, though not reaped");
        child.wait().expect("reaped");
    }
}
