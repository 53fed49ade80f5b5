//! Getting into a node's namespaces.

use std::{
    ffi::{CString, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::record::Record;
use crate::procfs::ProcessId;

/// Which namespaces of the holder to enter.
const NODE: CloneFlags = CloneFlags::CLONE_NEWNET
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC);

/// A way into a holder's namespaces that can't be diverted to another process of the same pid.
pub struct Door {
    holder: OwnedFd,
    which: CloneFlags,
}

impl Door {
    /// The door to a node.
    pub fn to_node(record: &Record, node: &str) -> Result<Self> {
        let node = record.node(node)?;
        Self::open(
            node.holder,
            NODE,
            &format!("{} of lab {}", node.name, record.name),
            &record.name,
        )
    }

    /// The door to the bridge.
    pub fn to_switch(record: &Record) -> Result<Self> {
        let what = format!("the switch of lab {}", record.name);
        Self::open(record.switch, CloneFlags::CLONE_NEWNET, &what, &record.name)
    }

    fn open(holder: Option<ProcessId>, which: CloneFlags, what: &str, lab: &str) -> Result<Self> {
        match holder.map(|h| h.open()) {
            Some(Ok(holder)) => Ok(Self { holder, which }),
            Some(Err(e)) if e.raw_os_error() != Some(libc::ESRCH) => {
                Err(e).with_context(|| format!("cannot reach {what}"))
            }
            _ => {
                bail!("{what} is gone (its holder process was killed): run `lab down --name {lab}`")
            }
        }
    }

    /// Makes `command` run behind the door, in the caller's folder if there is one of that path.
    pub fn apply<'a>(&self, command: &'a mut Command) -> Result<&'a mut Command> {
        let holder = self.holder.try_clone()?;
        let which = self.which;
        let folder = match command.get_current_dir() {
            Some(dir) => dir.to_owned(),
            None => std::env::current_dir().unwrap_or_else(|_| Path::new("/").to_owned()),
        };
        let folder = CString::new(folder.as_os_str().as_bytes())?;
        // SAFETY: runs between fork and exec. It only makes system calls (setns, chdir) on values made
        // before the fork; it neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || {
                setns(holder.as_fd(), which).map_err(io::Error::from)?;
                if nix::unistd::chdir(folder.as_c_str()).is_err() {
                    nix::unistd::chdir(c"/").map_err(io::Error::from)?;
                }
                Ok(())
            });
        }
        Ok(command)
    }
}

/// `PATH` in a node: the built binaries first, and the folders of system tools at least.
#[must_use]
pub fn path(bin_dir: &Path) -> OsString {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![bin_dir.to_owned()];
    folders.extend(std::env::split_paths(&old).filter(|f| f != bin_dir));
    for system in [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ] {
        if !folders.iter().any(|f| f == Path::new(system)) {
            folders.push(system.into());
        }
    }
    std::env::join_paths(folders).unwrap_or(old)
}

/// A command that will run in a node, with the built binaries first in its `PATH`.
pub fn command(record: &Record, node: &str, words: &[OsString]) -> Result<Command> {
    let Some((program, args)) = words.split_first() else {
        bail!("no command given: say `lab run {node} -- COMMAND...`");
    };
    let mut command = Command::new(program);
    command.args(args).env("PATH", path(&record.bin_dir));
    Door::to_node(record, node)?.apply(&mut command)?;
    Ok(command)
}
