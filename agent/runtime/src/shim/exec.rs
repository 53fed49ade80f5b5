//! One more process in a running container: starts it on this process's own standard streams, waits for it,
//! ends with its code.

use super::{LIB_STATE, Status, UsualSignals, become_subreaper, code_of, full, to_the_point};
use crate::oci;
use crate::record::{Folder, ORDERS, Orders, RUNNING, Running};
use crate::spec::ExecSpec;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Where the exec's own words are passed; read before anything else.
pub(crate) const SPEC_FD: i32 = 4;

pub(super) fn main(dir: &Path) -> i32 {
    let status = Status::take();
    match start(&Folder(dir.to_owned())) {
        Ok(pid) => {
            status.ok(pid);
            wait(pid)
        }
        Err(text) => {
            let code = code_of(&text);
            status.error(code, &to_the_point(&text));
            code
        }
    }
}

fn start(folder: &Folder) -> Result<i32, String> {
    become_subreaper().map_err(|e| e.to_string())?;
    let orders: Orders = folder
        .read(ORDERS)
        .map_err(|e| full(&e))?
        .ok_or("the container is gone")?;
    let mut text = String::new();
    // SAFETY: the daemon passes the pipe at this number, and nothing else in this process owns it.
    let mut pipe = unsafe { <fs::File as std::os::fd::FromRawFd>::from_raw_fd(SPEC_FD) };
    pipe.read_to_string(&mut text).map_err(|e| e.to_string())?;
    drop(pipe);
    let exec: ExecSpec = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let file = folder.file(&format!("exec-{}.json", std::process::id()));
    let process = oci::exec_process(&orders.spec, &exec, oci::is_unified()).to_string();
    fs::write(&file, process).map_err(|e| format!("can't write {}: {e}", file.display()))?;
    let _usual = UsualSignals::now();
    let built = streams()
        .map_err(|e| e.to_string())
        .and_then(|[stdin, stdout, stderr]| {
            ContainerBuilder::new(orders.spec.id.clone(), SyscallType::Linux)
                .with_root_path(folder.file(LIB_STATE))
                .map(|builder| {
                    builder
                        .with_stdin(stdin)
                        .with_stdout(stdout)
                        .with_stderr(stderr)
                })
                .and_then(|builder| {
                    builder
                        .as_tenant()
                        .with_process(Some(&file))
                        .with_detach(true)
                        .as_sibling(false)
                        .build()
                })
                .map_err(|e| full(&e))
        });
    // The next exec has its own.
    let _ = fs::remove_file(&file);
    close_own_streams();
    built
        .map(|pid| pid.as_raw())
        .map_err(|text| named(text, exec.cwd.as_deref(), |dir| is_in(folder, dir)))
}

/// Whether a container has that folder. One behind a link with a whole path is not found.
fn is_in(folder: &Folder, dir: &Path) -> bool {
    let Ok(Some(running)) = folder.read::<Running>(RUNNING) else {
        return false;
    };
    let root = Path::new("/proc").join(running.init.pid.to_string());
    let below = dir.strip_prefix("/").unwrap_or(dir);
    root.join("root").join(below).is_dir()
}

/// libcontainer doesn't say that it is the folder which it can't enter.
fn named(text: String, cwd: Option<&Path>, is_there: impl Fn(&Path) -> bool) -> String {
    match cwd {
        Some(dir) if !is_there(dir) && text.contains("failed to unix syscall") => format!(
            "can't enter the folder {}: no such file or folder in the container, or it may not be used",
            dir.display()
        ),
        _ => text,
    }
}

/// Duplicates of this process's standard streams, for the container's process.
fn streams() -> io::Result<[OwnedFd; 3]> {
    Ok([
        io::stdin().as_fd().try_clone_to_owned()?,
        io::stdout().as_fd().try_clone_to_owned()?,
        io::stderr().as_fd().try_clone_to_owned()?,
    ])
}

/// So that the other side sees their end when the container's process closes them.
fn close_own_streams() {
    let Ok(null) = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
    else {
        return;
    };
    for fd in 0..3 {
        // SAFETY: replaces a standard stream of this process, which nothing here uses any more.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), fd) };
    }
}

fn wait(pid: i32) -> i32 {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return 255,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_not_be_entered_is_named() {
        let text = "exec process failed with error failed to unix syscall";
        let told = named(text.into(), Some(Path::new("/nosuch")), |_| false);
        assert!(
            told.starts_with("can't enter the folder /nosuch: "),
            "{told}"
        );
        assert_eq!(super::super::code_of(&told), 127);
        assert_eq!(named(text.into(), None, |_| false), text);
        let there = Some(Path::new("/tmp"));
        assert_eq!(named(text.into(), there, |_| true), text);
    }
}
