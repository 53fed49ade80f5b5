//! Work inside a folder tree that somebody hostile filled: nothing here follows a link out of it.
//!
//! The kernel does the walking (`openat2` with `RESOLVE_IN_ROOT`, Linux 5.6), so `..` and absolute links
//! stay inside, races included. Devices and FIFOs in the tree are never opened.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::error::{Error, Result};

/// How often a walk is begun again when the tree moves under it (`openat2` then says EAGAIN).
const ATTEMPTS: usize = 64;

/// A folder treated as `/`.
pub(crate) struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl RootDir {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fd = open(
            path,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(Error::os("open", path))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens a path as a process with this root would: links are followed, inside.
    pub(crate) fn resolve(&self, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        // With no name left, the root itself.
        let path = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        for _ in 0..ATTEMPTS {
            match openat2(&self.fd, path, how) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The folder at `path`, if it is one.
    pub(crate) fn dir(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
    }

    /// The folder at `path`, made with all its parents where missing. `made` is called with each new
    /// folder and its path.
    pub(crate) fn make_dirs(
        &self,
        path: &[u8],
        made: &mut dyn FnMut(&OwnedFd, &[u8]) -> nix::Result<()>,
    ) -> nix::Result<OwnedFd> {
        match self.dir(path) {
            Err(Errno::ENOENT) => {}
            result => return result,
        }
        let (parent, name) = split(path);
        let parent = self.make_dirs(parent, made)?;
        match mkdirat(
            &parent,
            OsStr::from_bytes(name),
            Mode::from_bits_truncate(0o755),
        ) {
            Ok(()) => {
                let dir = open_dir_at(&parent, name)?;
                made(&dir, path)?;
                Ok(dir)
            }
            // There all the same: a link to nowhere, or somebody was faster.
            Err(Errno::EEXIST) => self.dir(path),
            Err(errno) => Err(errno),
        }
    }

    /// A regular file's content, at most `bytes_max` of it; none if there is no such file.
    pub(crate) fn read_file(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let shown = self.shown(path.as_bytes());
        let found = match self.resolve(path.as_bytes(), OFlag::O_PATH) {
            Ok(found) => found,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return Err(Error::os("open", &shown)(errno)),
        };
        // Looked at before it is opened: a FIFO would block, a device could act.
        if kind_of(&fstat(&found).map_err(Error::os("stat", &shown))?) != SFlag::S_IFREG {
            return Err(Error::io("read", &shown)(io::Error::other(
                "it is no regular file",
            )));
        }
        let file = File::open(proc_path(&found)).map_err(Error::io("open", &shown))?;
        let mut data = Vec::new();
        file.take(bytes_max.saturating_add(1))
            .read_to_end(&mut data)
            .map_err(Error::io("read", &shown))?;
        if data.len() as u64 > bytes_max {
            return Err(Error::io("read", &shown)(io::Error::other(format!(
                "it is over {bytes_max} bytes"
            ))));
        }
        Ok(Some(data))
    }

    /// The path for messages.
    pub(crate) fn shown(&self, path: &[u8]) -> PathBuf {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        self.path.join(OsStr::from_bytes(relative))
    }
}

/// Makes the folder `path` inside `rootfs`, with its parents, owned by root and mode 0755, and never
/// outside of it whatever links the image holds. For a container's working directory and mount points.
pub fn create_dir_in(rootfs: &Path, path: &Path) -> Result<()> {
    let root = RootDir::open(rootfs)?;
    let path = path.as_os_str().as_bytes();
    let mut looks = |dir: &OwnedFd, _: &[u8]| {
        fchown(dir, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
        fchmod(dir, Mode::from_bits_truncate(0o755))
    };
    root.make_dirs(path, &mut looks)
        .map(drop)
        .map_err(Error::os("create", &root.shown(path)))
}

/// A path's parent and last name. Both empty for the root.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |last| last + 1);
    let path = &path[..end];
    match path.iter().rposition(|byte| *byte == b'/') {
        None => (b"", path),
        Some(slash) => (&path[..slash], &path[slash + 1..]),
    }
}

/// A path by which the kernel finds an open file, whatever it is called now.
pub(crate) fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// The same for a name inside an open folder.
pub(crate) fn proc_path_in(dir: impl AsFd, name: &[u8]) -> PathBuf {
    proc_path(dir).join(OsStr::from_bytes(name))
}

/// The folder `name` itself, not what a link of that name points to.
pub(crate) fn open_dir_at(parent: impl AsFd, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
}

/// What `name` itself is; none if it is not there.
pub(crate) fn stat_at(parent: impl AsFd, name: &[u8]) -> nix::Result<Option<FileStat>> {
    match fstatat(
        parent,
        OsStr::from_bytes(name),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    ) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The file type alone.
pub(crate) fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Removes `name` and, if it is a folder, all below it. A hostile tree can be deeper than descriptors or
/// stack reach, so what is deep is moved up and then removed: never more than two folders are open.
pub(crate) fn remove_at(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
    match unlinkat(parent, OsStr::from_bytes(name), UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => {}
        result => return result,
    }
    let top = open_dir_at(parent, name)?;
    let mut moved = 0_u64;
    loop {
        let mut seen = false;
        for child in remove_files(&top)? {
            seen = true;
            let folder = open_dir_at(&top, &child)?;
            for deep in remove_files(&folder)? {
                loop {
                    moved += 1;
                    match renameat(
                        &folder,
                        OsStr::from_bytes(&deep),
                        &top,
                        format!(".removed-{moved}").as_str(),
                    ) {
                        Err(Errno::ENOTDIR | Errno::ENOTEMPTY | Errno::EEXIST) => {}
                        result => break result?,
                    }
                }
            }
            drop(folder);
            unlinkat(&top, OsStr::from_bytes(&child), UnlinkatFlags::RemoveDir)?;
        }
        if !seen {
            return unlinkat(parent, OsStr::from_bytes(name), UnlinkatFlags::RemoveDir);
        }
    }
}

/// Removes a folder's files and empty folders; the names of what is left.
fn remove_files(dir: &OwnedFd) -> nix::Result<Vec<Vec<u8>>> {
    let mut left = Vec::new();
    let mut listing = nix::dir::Dir::from_fd(open_dir_at(dir, b".")?)?;
    for child in listing.iter() {
        let child = child?;
        let name = child.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let os_name = OsStr::from_bytes(name);
        match unlinkat(dir, os_name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => match unlinkat(dir, os_name, UnlinkatFlags::RemoveDir) {
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => left.push(name.to_vec()),
                result => result?,
            },
            result => result?,
        }
    }
    Ok(left)
}

/// Removes the file or tree at `path`. That it is gone already is no failure.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let failed = Error::os("remove", path);
    let removed = open(
        parent,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .and_then(|parent| remove_at(parent.as_fd(), name.as_bytes()));
    match removed {
        Err(Errno::ENOENT) => Ok(()),
        result => result.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_nowhere_outside() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        let inside = temp.path().join("root");
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(inside.join("etc")).unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        fs::write(inside.join("etc/passwd"), "in").unwrap();
        symlink(&outside, inside.join("abs")).unwrap();
        symlink("../../outside", inside.join("rel")).unwrap();
        symlink("/etc/passwd", inside.join("pw")).unwrap();
        let root = RootDir::open(&inside).unwrap();
        for path in [
            "abs/secret",
            "rel/secret",
            "../outside/secret",
            "/../outside/secret",
        ] {
            assert!(root.read_file(path, 10).unwrap().is_none(), "{path}");
        }
        assert_eq!(root.read_file("pw", 10).unwrap().unwrap(), b"in");
        assert_eq!(root.read_file("/../pw", 10).unwrap().unwrap(), b"in");
        assert!(root.read_file("pw", 1).is_err());
        assert!(root.read_file("etc", 1).is_err());
        create_dir_in(&inside, Path::new("/a/b/../c")).unwrap();
        assert!(inside.join("a/c").is_dir());
        create_dir_in(&inside, Path::new("/../x")).unwrap();
        assert!(inside.join("x").is_dir() && !temp.path().join("x").exists());
        assert!(create_dir_in(&inside, Path::new("/rel/made")).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn removal_takes_the_tree_and_not_what_links_point_to() {
        let temp = tempfile::tempdir().unwrap();
        let deep = temp.path().join("t").join("a/b/".repeat(150));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f"), "x").unwrap();
        fs::write(temp.path().join("keep"), "x").unwrap();
        symlink("../keep", temp.path().join("t/link")).unwrap();
        let root = RootDir::open(temp.path()).unwrap();
        remove_at(root.dir(b"").unwrap().as_fd(), b"t").unwrap();
        assert!(!temp.path().join("t").exists() && temp.path().join("keep").exists());
        remove_tree(&temp.path().join("t")).unwrap();
        remove_tree(&temp.path().join("no/such")).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_descriptors_reach_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let root = RootDir::open(temp.path()).unwrap();
        let mut dir = root.dir(b"").unwrap();
        for depth in 0..3000 {
            // Names that meet those that the removal gives.
            for name in ["d", ".removed-1", ".removed-7"] {
                mkdirat(&dir, name, Mode::S_IRWXU).unwrap();
            }
            if depth % 2 == 0 {
                openat(
                    &dir,
                    ".removed-3",
                    OFlag::O_CREAT | OFlag::O_WRONLY,
                    Mode::S_IRWXU,
                )
                .unwrap();
            }
            dir = open_dir_at(&dir, b"d").unwrap();
        }
        drop(dir);
        remove_tree(&temp.path().join("d")).unwrap();
        assert!(!temp.path().join("d").exists());
    }

    #[test]
    fn paths_split() {
        for (path, parent, name) in [
            ("a/b/c", "a/b", "c"),
            ("a", "", "a"),
            ("a/", "", "a"),
            ("", "", ""),
            ("/", "", ""),
            ("/a", "", "a"),
        ] {
            assert_eq!(
                split(path.as_bytes()),
                (parent.as_bytes(), name.as_bytes()),
                "{path}"
            );
        }
    }
}
