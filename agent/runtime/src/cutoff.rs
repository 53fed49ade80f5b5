//! A start that was cut off: its shim may be at work still, its container half made and in no record.
//!
//! The folder is moved away first: a shim that is at work gives up at its next step. What it has forked may go on
//! without it, and is found by its command line, which names the folder until it has become the container's own
//! program; from then on it is found by its cgroup.

use crate::client::{CGROUP_PARENT, KILL_BOUND};
use crate::error::{Error, IoContext, Result};
use crate::process::{cgroups_named, kill_cgroups, remove_cgroups, with_argument};
use crate::record::{Folder, ORDERS, Orders};
use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often what was killed is looked for.
const LOOK: Duration = Duration::from_millis(5);
/// What a folder's name ends in that was moved away. It is listed and removed like any other, should its removal
/// be cut off, too.
const AWAY: &str = "gone";

/// Moves the folder of a container that has no record of running away, and says where it is. None: there is none.
pub(crate) fn move_away(dir: &Path) -> Result<Option<Folder>> {
    let away = dir.with_added_extension(AWAY);
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
    let Some(orders) = folder.read::<Orders>(ORDERS).ok().flatten() else {
        // It was not started.
        return Ok(());
    };
    let id = orders.spec.id;
    let named = folder.0.with_file_name(&id);
    let cgroups = format!("{CGROUP_PARENT}/{id}");
    loop {
        let left = with_argument(&named);
        for process in &left {
            process
                .signal(libc::SIGKILL)
                .context(|| format!("container {id}: killing its shim"))?;
        }
        if left.is_empty() && kill_cgroups(&cgroups_named(&cgroups)) == 0 {
            return remove_cgroups(&cgroups_named(&cgroups));
        }
        if Instant::now() > until {
            return Err(Error::Io {
                what: format!("container {id}: waiting for the end of its processes"),
                source: io::ErrorKind::TimedOut.into(),
            });
        }
        sleep(LOOK);
    }
}
