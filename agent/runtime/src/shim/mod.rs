//! The processes that this crate's daemon re-executes itself as: one thread, small, short of words.
//!
//! - `run DIR`: owns one container for its whole life.
//! - `exec DIR`: starts one more process in a container and waits for it.
//!
//! Each says how it went on its status pipe, `ok PID` or `error CODE TEXT`, and closes it.

pub(crate) mod exec;
mod log;
mod run;
mod warden;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// Where the status pipe is.
pub(crate) const STATUS_FD: RawFd = 3;
/// Where the held descriptors begin.
pub(crate) const HELD_FROM: RawFd = 10;
/// Where libcontainer keeps its own state, below the container's folder.
pub(crate) const LIB_STATE: &str = "oci";

/// Runs as what the arguments say; the exit code is the process's. To be called before there is a second
/// thread.
pub fn shim_main(mut args: impl Iterator<Item = OsString>) -> i32 {
    let (what, dir) = (args.next(), args.next().map(PathBuf::from));
    let (Some(what), Some(dir)) = (what, dir) else {
        eprintln!("clusterd shim: started by clusterd itself only");
        return 2;
    };
    match what.to_str() {
        Some("run") => run::main(&dir),
        Some("exec") => exec::main(&dir),
        _ => {
            eprintln!("clusterd shim: unknown part {}", what.display());
            2
        }
    }
}

/// The status pipe.
struct Status(File);

impl Status {
    /// Takes it over from whoever started this process.
    fn take() -> Self {
        // SAFETY: the daemon passes the pipe at this number, and nothing else in this process owns it.
        Self(unsafe { File::from_raw_fd(STATUS_FD) })
    }

    fn ok(mut self, pid: i32) {
        // A daemon that is gone finds the container in its folder.
        let _ = writeln!(self.0, "ok {pid}");
    }

    fn error(mut self, code: i32, text: &str) {
        let _ = writeln!(self.0, "error {code} {}", text.replace('\n', " "));
    }
}

/// All of an error's words.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

/// The shell's exit code for a start that failed.
fn code_of(text: &str) -> i32 {
    let lower = text.to_lowercase();
    if lower.contains("permission denied")
        || lower.contains("correct permission")
        || lower.contains("eacces")
    {
        126
    } else if lower.contains("not found")
        || lower.contains("no such file")
        || lower.contains("enoent")
    {
        127
    } else {
        128
    }
}

/// What libcontainer says before it comes to the point.
const PREAMBLES: [&str; 2] = [
    "error in executing process : ",
    "exec process failed with error ",
];

/// The point of libcontainer's words.
fn to_the_point(text: &str) -> String {
    let rest = PREAMBLES
        .iter()
        .find_map(|p| text.split_once(p).map(|(_, rest)| rest));
    rest.unwrap_or(text).to_owned()
}

/// While it lives, signals do what programs expect of them. What is ignored is inherited, and Rust ignores a
/// broken pipe from the start, others may have been ignored by whoever started the daemon.
struct UsualSignals;

impl UsualSignals {
    fn now() -> Self {
        for number in 1..=libc::SIGSYS {
            Self::set(number, libc::SIG_DFL);
        }
        Self
    }

    fn set(number: libc::c_int, how: libc::sighandler_t) {
        // SAFETY: a signal's default or its being ignored, no handler of ours; the two that can't be changed
        // are refused.
        unsafe { libc::signal(number, how) };
    }
}

impl Drop for UsualSignals {
    fn drop(&mut self) {
        Self::set(libc::SIGPIPE, libc::SIG_IGN);
    }
}

fn become_subreaper() -> io::Result<()> {
    // SAFETY: a flag of this process; no pointers.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A pipe, read end first, neither end passed on to programs.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}
