//! Processes by pid and start time, and descriptors that stand for them.

use crate::error::{IoContext, Result};
use crate::record::ProcessId;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long what was killed may take to leave its cgroup: some machines' first process is slow to reap.
const EXIT_BOUND: Duration = Duration::from_secs(10);

/// The start time of a process, clock ticks since boot; none when it is gone.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; field 22 is the 20th after it.
    let after = stat.rsplit_once(')')?.1;
    after.split_whitespace().nth(19)?.parse().ok()
}

impl ProcessId {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            started: start_time(pid)?,
        })
    }

    /// Whether it is still there (a zombie is).
    pub fn is_there(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// A descriptor that becomes readable when it ends; none when it has.
    pub fn pidfd(self) -> io::Result<Option<OwnedFd>> {
        // SAFETY: takes two integers and returns a new descriptor or an error.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        let raw = RawFd::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just given us this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // Opened first, looked at second: the pid can't become another's in between.
        Ok(self.is_there().then_some(fd))
    }

    /// Sends a signal; one that is gone is none's business.
    pub fn signal(self, number: i32) -> io::Result<()> {
        let Some(fd) = self.pidfd()? else {
            return Ok(());
        };
        // SAFETY: a valid pidfd, a signal number, no siginfo.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd.as_raw_fd(),
                number,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// A duplicate of one of its descriptors.
    pub fn take_fd(self, number: RawFd) -> io::Result<OwnedFd> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let pidfd = self.pidfd()?.ok_or_else(gone)?;
        // SAFETY: a valid pidfd and a number; returns a new descriptor or an error.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let raw = RawFd::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just given us this descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    }
}

/// The folders of a process's cgroups, on v1 and v2. Each ends in the container's own name.
pub(crate) fn cgroups_of(pid: i32, name: &str) -> Vec<PathBuf> {
    let Ok(table) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
        return Vec::new();
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in table.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        if Path::new(path).file_name().and_then(|n| n.to_str()) != Some(name) {
            continue;
        }
        if let Some(dir) = mount_of(&mounts, controllers)
            .map(|(root, point)| {
                point.join(
                    Path::new(path)
                        .strip_prefix(&root)
                        .unwrap_or(Path::new(path))
                        .strip_prefix("/")
                        .unwrap_or(Path::new(path.trim_start_matches('/'))),
                )
            })
            .filter(|dir| dir.is_dir())
        {
            found.push(dir);
        }
    }
    found
}

/// The processes that have this path among the words of their command line.
pub(crate) fn with_argument(path: &Path) -> Vec<ProcessId> {
    use std::os::unix::ffi::OsStrExt;
    let wanted = path.as_os_str().as_bytes();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(ProcessId::of)
        .filter(|process| {
            fs::read(format!("/proc/{}/cmdline", process.pid))
                .is_ok_and(|words| words.split(|byte| *byte == 0).any(|word| word == wanted))
        })
        .collect()
}

/// The folders of all cgroups of this name, `parent/child`, on v1 and v2.
pub(crate) fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let is_cgroup = matches!(right.split(' ').next()?, "cgroup" | "cgroup2");
            let point = left.split(' ').nth(4).filter(|_| is_cgroup)?;
            Some(Path::new(point).join(name))
        })
        .filter(|dir| dir.is_dir())
        .collect();
    // One hierarchy may be mounted twice at the same place.
    found.sort();
    found.dedup();
    found
}

/// Root and mount point of the hierarchy that has these controllers (none: v2).
fn mount_of(mountinfo: &str, controllers: &str) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
        let matches = match controllers {
            "" => kind == "cgroup2",
            list if list.starts_with("name=") => {
                kind == "cgroup" && options.split(',').any(|o| o == list)
            }
            list => kind == "cgroup" && list.split(',').all(|c| options.split(',').any(|o| o == c)),
        };
        matches.then(|| (PathBuf::from(root), PathBuf::from(point)))
    })
}

/// Whether the kernel has killed something in a cgroup for want of memory.
pub(crate) fn oom_killed(cgroups: &[PathBuf]) -> bool {
    let count = |text: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    cgroups.iter().any(|dir| {
        ["memory.events", "memory.oom_control"]
            .iter()
            .filter_map(|file| fs::read_to_string(dir.join(file)).ok())
            .any(|text| count(&text) > 0)
    })
}

/// Kills every process of the cgroups; returns how many there were.
pub(crate) fn kill_cgroups(cgroups: &[PathBuf]) -> usize {
    let mut killed = 0;
    for dir in cgroups {
        let Ok(list) = fs::read_to_string(dir.join("cgroup.procs")) else {
            continue;
        };
        for pid in list.lines().filter_map(|line| line.parse::<i32>().ok()) {
            if let Some(process) = ProcessId::of(pid) {
                killed += 1;
                // Gone already, or a zombie: what counts is the next look.
                let _ = process.signal(libc::SIGKILL);
            }
        }
    }
    killed
}

/// Removes the cgroups' folders, children first.
pub(crate) fn remove_cgroups(cgroups: &[PathBuf]) -> Result<()> {
    for dir in cgroups {
        remove_cgroup(dir).context(|| format!("removing the cgroup {}", dir.display()))?;
        if let Some(parent) = dir
            .parent()
            .filter(|p| p.ends_with(crate::client::CGROUP_PARENT))
        {
            // The last one goes with it; while others are in it, it stays.
            let _ = fs::remove_dir(parent);
        }
    }
    Ok(())
}

fn remove_cgroup(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    let until = Instant::now() + EXIT_BOUND;
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A process that has ended and is not reaped is not listed any more, and counts all the same.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}
