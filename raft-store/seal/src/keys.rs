//! The file that holds a manager's data key: wrapped with a key that stands beside it, or, where the cluster locks
//! its managers, with the unlock key, which stands on no manager's disk.
//!
//! ```text
//! FILE       as it is; replaced whole
//! FILE.new   being written: worth nothing
//! ```
//!
//! The data key never changes: what was sealed stays sealed, and another unlock key is another wrapping of it. Each
//! wrapping carries the number of the setting it follows, so that a manager which reads its log again from an older
//! place doesn't follow a setting that is over.

use crate::format::{self, Bad, Wrapping, Written, from_unlock};
use crate::{DataKey, KEY};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// A manager's keys, opened.
pub struct Keys {
    path: PathBuf,
    data: DataKey,
    now: Mutex<Setting>,
}

/// What the file follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    version: u64,
    is_locking: bool,
}

/// A manager's keys that need the unlock key.
pub struct Locked {
    path: PathBuf,
    written: Written,
}

/// What a look at the file has found.
pub enum Found {
    /// No file.
    None,
    /// Keys that can be used.
    Open(Keys),
    /// Keys that need the unlock key.
    Locked(Locked),
}

/// Why keys stay locked.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// Another key.
    #[error(
        "this key doesn't fit: it is no typing error, but another unlock key than the one that was in force when \
         this manager last ran; take that one, or the one that `clusterctl unlock-key` shows on a manager that runs"
    )]
    Wrong,
    /// The file.
    #[error(transparent)]
    Damaged(#[from] io::Error),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Locked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locked")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn named(error: io::Error, action: &str, path: &Path) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("can't {action} {}: {error}", path.display()),
    )
}

fn damaged(path: &Path, why: &str) -> io::Error {
    let text = format!(
        "the key file {} is damaged: {why}; put it back from a copy, or remove this manager's state and join the \
         cluster again, or restore a backup",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    File::open(above)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| named(e, "sync", above))
}

/// Puts a file in place, whole. What was there is overwritten before its room is given back, as well as a disk
/// does that: it may hold a key that is not to be found any more.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = unfinished(path);
    let before = OpenOptions::new().write(true).open(path).ok();
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    if let Err(error) = written {
        // The half file is worth nothing.
        let _ = fs::remove_file(&fresh);
        return Err(named(error, "write", path));
    }
    sync_parent(path)?;
    if let Some(before) = before {
        wipe(before).map_err(|e| named(e, "overwrite the former content of", path))?;
    }
    Ok(())
}

fn wipe(mut file: File) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    file.write_all(&vec![0; length.min(1 << 16)])?;
    file.sync_all()
}

/// Removes a key file for good, whatever it holds. None is fine.
///
/// # Errors
/// When the disk refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(error, "remove", path)),
    };
    fs::remove_file(path).map_err(|e| named(e, "remove", path))?;
    sync_parent(path)?;
    wipe(file).map_err(|e| named(e, "overwrite the content of", path))
}

impl Found {
    /// Looks at the file.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or of a newer version.
    pub fn look(path: &Path) -> io::Result<Self> {
        match fs::remove_file(unfinished(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(named(error, "remove", &unfinished(path)));
            }
            _ => {}
        }
        let bytes = match fs::read(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::None),
            Err(error) => return Err(named(error, "read", path)),
        };
        let written = format::read(bytes).map_err(|bad| match bad {
            Bad::Damaged(why) => damaged(path, why),
            Bad::Newer(newer) => io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the key file {} has format {newer}, this clusterd reads up to {}; upgrade clusterd",
                    path.display(),
                    format::FORMAT
                ),
            ),
        })?;
        let locked = Locked {
            path: path.to_owned(),
            written,
        };
        match locked.written.wrapping.clone() {
            Some(wrapping) => locked.open(&wrapping, false).map(Self::Open),
            None => Ok(Self::Locked(locked)),
        }
    }
}

impl Locked {
    fn open(&self, wrapping: &Wrapping, is_locking: bool) -> io::Result<Keys> {
        let data = self.written.unwrap(wrapping);
        let data = data.ok_or_else(|| damaged(&self.path, "its data key can't be opened"))?;
        let version = self.written.version;
        Ok(Keys {
            path: self.path.clone(),
            data,
            now: Mutex::new(Setting {
                version,
                is_locking,
            }),
        })
    }

    /// Opens them with the unlock key.
    ///
    /// # Errors
    /// When it is another key, or the file is damaged.
    pub fn unlock(&self, unlock: &[u8; KEY]) -> Result<Keys, UnlockError> {
        let wrapping = from_unlock(unlock);
        if !self.written.fits(&wrapping) {
            return Err(UnlockError::Wrong);
        }
        Ok(self.open(&wrapping, true)?)
    }
}

impl Keys {
    /// New keys in a new file, which needs no unlock key yet.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(path: &Path) -> io::Result<Self> {
        let data = DataKey::random();
        let wrapping = Zeroizing::new(rand::random());
        replace(path, &format::write(&data, 0, &wrapping, true)?)?;
        Ok(Self {
            path: path.to_owned(),
            data,
            now: Mutex::new(Setting {
                version: 0,
                is_locking: false,
            }),
        })
    }

    /// What the store is sealed with.
    #[must_use]
    pub fn data(&self) -> &DataKey {
        &self.data
    }

    /// Whether the next start needs the unlock key.
    #[must_use]
    pub fn is_locking(&self) -> bool {
        self.now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_locking
    }

    /// Wraps the data key anew, as the cluster's setting of this number says: with its unlock key, or with none. One
    /// that is no newer than what is followed changes nothing. Whether anything was written.
    ///
    /// # Errors
    /// When the disk refuses; the file is as it was, or as it should be.
    pub fn follow(&self, version: u64, unlock: Option<&[u8; KEY]>) -> io::Result<bool> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if version <= now.version {
            return Ok(false);
        }
        let wrapping = match unlock {
            Some(unlock) => from_unlock(unlock),
            None => Zeroizing::new(rand::random()),
        };
        let is_locking = unlock.is_some();
        let bytes = format::write(&self.data, version, &wrapping, !is_locking)?;
        replace(&self.path, &bytes)?;
        *now = Setting {
            version,
            is_locking,
        };
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raft.key");
        (dir, path)
    }

    fn open(path: &Path) -> Keys {
        match Found::look(path).unwrap() {
            Found::Open(keys) => keys,
            other => panic!("{}", matches!(other, Found::None)),
        }
    }

    fn locked(path: &Path) -> Locked {
        match Found::look(path).unwrap() {
            Found::Locked(locked) => locked,
            other => panic!("{}", matches!(other, Found::None)),
        }
    }

    #[test]
    fn keys_are_made_locked_locked_anew_and_opened_for_good() {
        let (_dir, path) = place();
        assert!(matches!(Found::look(&path).unwrap(), Found::None));
        let keys = Keys::create(&path).unwrap();
        let id = keys.data().id();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            (open(&path).data().id(), open(&path).is_locking()),
            (id, false)
        );

        assert!(keys.follow(1, Some(&[1; KEY])).unwrap());
        assert!(keys.is_locking());
        let shut = locked(&path);
        assert!(matches!(shut.unlock(&[2; KEY]), Err(UnlockError::Wrong)));
        let keys = shut.unlock(&[1; KEY]).unwrap();
        assert_eq!((keys.data().id(), keys.is_locking()), (id, true));

        // Another unlock key: the one before opens no more.
        assert!(keys.follow(2, Some(&[2; KEY])).unwrap());
        assert!(matches!(
            locked(&path).unlock(&[1; KEY]),
            Err(UnlockError::Wrong)
        ));
        let keys = locked(&path).unlock(&[2; KEY]).unwrap();

        // A log that is read again says again what was said before.
        for (version, unlock) in [(0, None), (1, Some([1; KEY])), (2, None)] {
            assert!(!keys.follow(version, unlock.as_ref()).unwrap());
        }
        assert_eq!(locked(&path).unlock(&[2; KEY]).unwrap().data().id(), id);

        assert!(keys.follow(3, None).unwrap());
        assert_eq!(
            (open(&path).data().id(), open(&path).is_locking()),
            (id, false)
        );
    }

    #[test]
    fn a_former_content_is_overwritten_and_half_a_file_is_none() {
        let (dir, path) = place();
        let keys = Keys::create(&path).unwrap();
        let former = fs::read(&path).unwrap();
        let other_name = dir.path().join("kept");
        fs::hard_link(&path, &other_name).unwrap();
        keys.follow(1, Some(&[1; KEY])).unwrap();
        assert_eq!(fs::read(&other_name).unwrap(), vec![0; former.len()]);
        fs::write(unfinished(&path), "half").unwrap();
        locked(&path);
        assert!(!unfinished(&path).exists());
        fs::remove_file(&other_name).unwrap();
        fs::hard_link(&path, &other_name).unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists() && fs::read(&other_name).unwrap() == vec![0; former.len()]);
    }

    #[test]
    fn damage_is_named_and_is_no_wrong_key() {
        let (_dir, path) = place();
        Keys::create(&path)
            .unwrap()
            .follow(1, Some(&[1; KEY]))
            .unwrap();
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).filter(|at| *at != 8) {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            let error = Found::look(&path).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("raft.key is damaged"), "byte {at}: {error}");
        }
        let mut later = whole;
        later[8] += 1;
        fs::write(&path, later).unwrap();
        let error = Found::look(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("upgrade clusterd"), "{error}");
    }

    #[test]
    fn a_disk_that_refuses_leaves_what_was() {
        let (dir, path) = place();
        let keys = Keys::create(&path).unwrap();
        // The half file can't be made.
        fs::create_dir(unfinished(&path)).unwrap();
        assert!(keys.follow(1, Some(&[1; KEY])).is_err());
        fs::remove_dir(unfinished(&path)).unwrap();
        assert!(!keys.is_locking() && !open(&path).is_locking());
        drop(dir);
    }
}
