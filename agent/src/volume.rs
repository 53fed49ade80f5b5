//! Volumes of this node: folders under the state folder. Named ones stay, nameless ones go with their task.
//!
//! A new volume gets what the image holds at its place, as docker's does: a database finds its folder with
//! its owner and mode.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A volume that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A name that could leave the folder.
    #[error(
        "volume {0:?}: a name is letters, digits, -, _ and ., and begins with a letter or a digit"
    )]
    Name(String),
    /// The system refused.
    #[error("volume {name}: can't {action} {path}: {source}")]
    Io {
        /// Its name.
        name: String,
        /// A verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

/// The node's named volumes.
#[derive(Debug, Clone)]
pub struct Volumes {
    dir: PathBuf,
    /// One is filled at a time: tasks that start together may share one.
    filling: Arc<Mutex<()>>,
}

impl Volumes {
    /// Volumes under a folder, made when the first one is.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            filling: Arc::default(),
        }
    }

    /// The folder of a named volume; made, and filled from `seed` (a folder of the image), when it is new.
    ///
    /// # Errors
    /// When the name is none, or the disk refuses; a volume half filled is not left behind.
    pub fn get(&self, name: &str, seed: Option<&Path>) -> Result<PathBuf, VolumeError> {
        let ok = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && name.len() <= 255;
        if !ok {
            return Err(VolumeError::Name(name.chars().take(80).collect()));
        }
        let _one_at_a_time = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        make(name, &self.dir.join(name), seed)
    }
}

/// The folder of a nameless volume.
///
/// # Errors
/// When the disk refuses.
pub fn anonymous(dir: &Path, seed: Option<&Path>) -> Result<PathBuf, VolumeError> {
    make("(without a name)", dir, seed)
}

fn make(name: &str, dir: &Path, seed: Option<&Path>) -> Result<PathBuf, VolumeError> {
    let fail = |action, path: &Path| {
        let (name, path) = (name.to_owned(), path.to_owned());
        move |source| VolumeError::Io {
            name,
            action,
            path,
            source,
        }
    };
    let data = dir.join("_data");
    if data.is_dir() {
        return Ok(data);
    }
    let half = dir.join("_new");
    if half.exists() {
        fs::remove_dir_all(&half).map_err(fail("remove", &half))?;
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .map_err(fail("make", dir))?;
    DirBuilder::new()
        .mode(0o755)
        .create(&half)
        .map_err(fail("make", &half))?;
    if let Some(seed) = seed
        && let Err(source) = copy_dir(seed, &half)
    {
        // What can't be removed is removed before the next try.
        let _ = fs::remove_dir_all(&half);
        return Err(VolumeError::Io {
            name: name.into(),
            action: "copy the image's files into",
            path: data,
            source,
        });
    }
    fs::rename(&half, &data).map_err(fail("make", &data))?;
    Ok(data)
}

/// Where the image has a folder that a volume covers: resolved inside `rootfs`, links never followed out.
#[must_use]
pub fn seed_in(rootfs: &Path, target: &str) -> Option<PathBuf> {
    let mut path = rootfs.to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) => {
                path.push(part);
                // A link could lead anywhere; such a volume begins empty.
                if !fs::symlink_metadata(&path).ok()?.is_dir() {
                    return None;
                }
            }
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (path != rootfs).then_some(path)
}

/// Copies what a folder holds, owners, modes and times kept. Devices and sockets are passed over.
fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = fs::symlink_metadata(&source)?;
        let kind = meta.file_type();
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_dir(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
            chown(&target, Some(meta.uid()), Some(meta.gid()))?;
            fs::set_permissions(&target, meta.permissions())?;
            set_time(&target, &meta)?;
        }
    }
    let meta = fs::metadata(from)?;
    chown(to, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    set_time(to, &meta)
}

fn set_time(path: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let time = libc::timespec {
        tv_sec: meta.mtime(),
        tv_nsec: meta.mtime_nsec(),
    };
    let path = CString::new(path.as_os_str().as_bytes())?;
    let times = [time, time];
    // SAFETY: the path is a C string and the two times are valid for the call.
    match unsafe {
        libc::utimensat(
            libc::AT_FDCWD,
            path.as_ptr(),
            times.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_volume_has_the_images_files_and_an_old_one_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let seed = dir.path().join("image/data");
        fs::create_dir_all(seed.join("sub")).unwrap();
        fs::write(seed.join("sub/file"), "from the image").unwrap();
        symlink("sub/file", seed.join("link")).unwrap();
        fs::set_permissions(&seed, fs::Permissions::from_mode(0o700)).unwrap();
        let volumes = Volumes::new(dir.path().join("volumes"));
        let data = volumes.get("shop_data", Some(&seed)).unwrap();
        assert_eq!(
            fs::read_to_string(data.join("link")).unwrap(),
            "from the image"
        );
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
        fs::write(data.join("sub/file"), "mine").unwrap();
        assert_eq!(volumes.get("shop_data", Some(&seed)).unwrap(), data);
        assert_eq!(fs::read_to_string(data.join("sub/file")).unwrap(), "mine");
    }

    #[test]
    fn tasks_that_start_together_share_a_new_volume() {
        let dir = tempfile::tempdir().unwrap();
        let seed = dir.path().join("image");
        fs::create_dir(&seed).unwrap();
        for n in 0..200 {
            fs::write(seed.join(n.to_string()), "from the image").unwrap();
        }
        let volumes = Volumes::new(dir.path().join("volumes"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let data = volumes.get("shared", Some(&seed)).unwrap();
                    assert_eq!(fs::read_dir(data).unwrap().count(), 200);
                });
            }
        });
    }

    #[test]
    fn a_name_that_could_leave_the_folder_is_refused() {
        let volumes = Volumes::new("/nowhere".into());
        for name in ["", ".", "..", "a/b", "-a", "a\0"] {
            assert!(
                matches!(volumes.get(name, None), Err(VolumeError::Name(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_link_in_the_image_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("data")).unwrap();
        assert_eq!(seed_in(dir.path(), "/data"), None);
        assert_eq!(seed_in(dir.path(), "/data/../.."), None);
        assert_eq!(seed_in(dir.path(), "/"), None);
    }

    #[test]
    fn a_half_filled_volume_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("v/_new/left")).unwrap();
        let data = Volumes::new(dir.path().to_owned()).get("v", None).unwrap();
        assert_eq!(fs::read_dir(data).unwrap().count(), 0);
    }
}
