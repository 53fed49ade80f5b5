//! What an agent keeps on disk: its assignments, and the managers it may ask.
//!
//! Files are replaced whole: written beside, synced, renamed, the folder synced.

use crate::aside;
use crate::assignments::Desired;
use api::convert;
use api::model::TaskId;
use api::proto::Assignments;
use prost::Message;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The format of `assignments`; the first byte of the file.
const FORMAT: u8 = 1;

/// A folder that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("can't {action} {path}: {source}")]
    Io {
        /// A verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A newer clusterd wrote it.
    #[error(
        "{path} has format {found}, this clusterd reads {FORMAT}; upgrade clusterd, or remove the file to fetch the assignments anew"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Disk {
    dir: PathBuf,
    /// The tasks that `assignments` may name.
    named: Arc<Mutex<BTreeSet<TaskId>>>,
}

fn ids(desired: &Desired) -> impl Iterator<Item = TaskId> + '_ {
    let ids = desired.tasks.keys();
    ids.filter_map(|id| convert::task_id(id).ok())
}

impl Disk {
    /// Opens the folder, making it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(dir: PathBuf) -> Result<Self, DiskError> {
        fs::create_dir_all(&dir).map_err(|source| DiskError::Io {
            action: "make",
            path: dir.clone(),
            source,
        })?;
        Ok(Self {
            dir,
            named: Arc::default(),
        })
    }

    fn named(&self) -> MutexGuard<'_, BTreeSet<TaskId>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assignments(&self) -> PathBuf {
        self.dir.join("assignments")
    }

    /// What was kept last. A file that can't be read back is told and taken as none: the managers send
    /// everything anew.
    ///
    /// # Errors
    /// When a newer clusterd wrote it, or it can't be read.
    pub fn load(&self) -> Result<Desired, DiskError> {
        let path = self.assignments();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Desired::default()),
            Err(source) => {
                return Err(DiskError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let mut desired = Desired::default();
        match bytes.split_first() {
            Some((&FORMAT, body)) => match Assignments::decode(body) {
                Ok(message) => drop(desired.apply(message)),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "the kept assignments are damaged; asking the managers anew")
                }
            },
            Some((&found, _)) => return Err(DiskError::Format { path, found }),
            None => {
                tracing::error!(path = %path.display(), "the kept assignments are empty; asking the managers anew")
            }
        }
        *self.named() = ids(&desired).collect();
        Ok(desired)
    }

    /// Whether the next daemon may find this task in the kept assignments, though it is wanted no more: a full disk
    /// keeps what it had. How the task ended has to be kept as long.
    #[must_use]
    pub fn names(&self, task: TaskId) -> bool {
        self.named().contains(&task)
    }

    /// Keeps the assignments.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, desired: &Desired) -> Result<(), DiskError> {
        let mut bytes = vec![FORMAT];
        // Encoding into a Vec cannot run out of room.
        let _ = desired.to_message().encode(&mut bytes);
        let replaced = replace(&self.assignments(), &bytes);
        let mut named = self.named();
        if replaced.is_ok() {
            named.clear();
        }
        // When it failed it may be either file.
        named.extend(ids(desired));
        replaced
    }

    /// The managers it was last told of.
    #[must_use]
    pub fn managers(&self) -> Vec<String> {
        fs::read_to_string(self.dir.join("managers"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Keeps the managers.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save_managers(&self, managers: &[String]) -> Result<(), DiskError> {
        replace(&self.dir.join("managers"), managers.join("\n").as_bytes())
    }
}

/// Replaces a file whole and durably.
///
/// # Errors
/// When the disk refuses; the old file is then as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    aside(|| replace_here(path, bytes))
}

fn replace_here(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let fresh = path.with_extension("new");
    let fail = |action, path: &Path| {
        let path = path.to_owned();
        move |source| DiskError::Io {
            action,
            path,
            source,
        }
    };
    let written = (|| {
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_data()
    })();
    if let Err(source) = written {
        // The half file is worth nothing, and a full disk wants its room back.
        let _ = fs::remove_file(&fresh);
        return Err(DiskError::Io {
            action: "write",
            path: fresh,
            source,
        });
    }
    fs::rename(&fresh, path).map_err(fail("replace", path))?;
    if let Some(dir) = path.parent() {
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(fail("sync", dir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().join("agent")).unwrap();
        assert_eq!(disk.load().unwrap(), Desired::default());
        let desired = Desired {
            revision: 9,
            ..Desired::default()
        };
        disk.save(&desired).unwrap();
        assert_eq!(disk.load().unwrap(), desired);
    }

    #[test]
    fn what_the_file_may_name_is_known_when_the_disk_refuses_too() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().to_owned()).unwrap();
        let with = |task: u128| {
            let mut desired = Desired::default();
            let task = api::proto::Task {
                id: convert::id_bytes(task),
                ..Default::default()
            };
            let assigned = api::proto::AssignedTask {
                task: Some(task),
                ..Default::default()
            };
            desired.apply(Assignments {
                tasks: vec![assigned],
                ..Assignments::default()
            });
            desired
        };
        let named = |disk: &Disk| [1, 2].map(|task| disk.names(TaskId(task)));
        disk.save(&with(1)).unwrap();
        assert_eq!(named(&disk), [true, false]);
        let beside = disk.assignments().with_extension("new");
        std::os::unix::fs::symlink("/dev/full", &beside).unwrap();
        disk.save(&with(2)).unwrap_err();
        assert_eq!(named(&disk), [true, true]);
        disk.save(&with(2)).unwrap();
        assert_eq!(named(&disk), [false, true]);
        let next = Disk::open(dir.path().to_owned()).unwrap();
        next.load().unwrap();
        assert_eq!(named(&next), [false, true]);
    }

    #[test]
    fn a_damaged_file_is_no_end_and_a_newer_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().to_owned()).unwrap();
        fs::write(disk.assignments(), [FORMAT, 0xff, 0xff]).unwrap();
        assert_eq!(disk.load().unwrap(), Desired::default());
        fs::write(disk.assignments(), [FORMAT + 1]).unwrap();
        assert!(
            disk.load()
                .unwrap_err()
                .to_string()
                .contains("upgrade clusterd")
        );
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink("/dev/full", path.with_extension("new")).unwrap();
        let error = replace(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("can't write"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}
