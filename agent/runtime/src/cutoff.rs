//! A start that was cut off: its shim may be at work still, its container half made and in no record.
//!
//! The folder is moved away first. A shim that has not yet written who it is can't any more, and gives up; one that
//! has is found by its record. What it has made is found by its process group and, from the moment it has one, by
//! its cgroup.

use crate::client::{CGROUP_PARENT, KILL_BOUND};
use crate::error::{Error, IoContext, Result};
use crate::process::{cgroups_named, kill_cgroups, remove_cgroups};
use crate::record::{Folder, ORDERS, Orders, STARTING, Starting};
use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often what was killed is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// Moves the folder of a container that has no record of running away, and says where it is. None: it is gone.
pub(crate) fn move_away(dir: &Path) -> Result<Option<Folder>> {
    // A name that is listed and removed like any other, should this be cut off, too.
    let away = dir.with_added_extension("gone");
    match fs::rename(dir, &away) {
        Ok(()) => Ok(Some(Folder(away))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(error).context(|| format!("moving {} to {}", dir.display(), away.display()))
        }
    }
}

/// Ends the shim, and all that it has begun.
pub(crate) fn end(folder: &Folder) -> Result<()> {
    let until = Instant::now() + KILL_BOUND;
    if let Some(starting) = folder.read::<Starting>(STARTING).ok().flatten() {
        while starting.shim.is_there() {
            // SAFETY: sends a signal; as long as the shim is there, the group's number is its own.
            unsafe { libc::kill(-starting.group, libc::SIGKILL) };
            wait(until, folder, "its shim")?;
        }
    }
    if let Some(orders) = folder.read::<Orders>(ORDERS).ok().flatten() {
        let cgroups = cgroups_named(&format!("{CGROUP_PARENT}/{}", orders.spec.id));
        while kill_cgroups(&cgroups) > 0 {
            wait(until, folder, "its processes")?;
        }
        remove_cgroups(&cgroups)?;
    }
    Ok(())
}

fn wait(until: Instant, folder: &Folder, what: &str) -> Result<()> {
    if Instant::now() > until {
        return Err(Error::Io {
            what: format!("{}: waiting for the end of {what}", folder.0.display()),
            source: io::ErrorKind::TimedOut.into(),
        });
    }
    sleep(LOOK);
    Ok(())
}
