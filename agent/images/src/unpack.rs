//! Unpacks one layer's tar into a folder that overlayfs can stack, as the OCI image spec says.
//!
//! - `.wh.NAME` becomes the whiteout device 0:0, `.wh..wh..opq` the xattr `trusted.overlay.opaque`; both
//!   hide what lower layers hold, never what this layer holds.
//! - Parents that the layer leaves out look like the lower layers' folder of that name, else 0755 root.
//! - Owners, modes with setuid, times, xattrs, hard links, devices and FIFOs are kept. Attributes that
//!   command overlayfs (`trusted.overlay.*`, `user.overlay.*`) are not taken from an archive.
//! - Names are rooted in the folder: a leading `/` is the folder, `..` is refused, links in a parent's path
//!   are followed inside only. Nothing of the layer is ever opened but files just made.

mod metadata;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, makedev, mkdirat, mknodat, utimensat,
};
use nix::unistd::{Gid, Uid, fchown, linkat, symlinkat};

use crate::decompress::fault_of;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::limits::Budget;
use crate::root::{RootDir, kind_of, open_dir_at, remove_at, split, stat_at};
use crate::tarball::{Entry, Kind, TarError, TarReader, shown};

use metadata::{set_opaque, timespec};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks the tar into `into`, an empty folder. `lowers` are the layers below, lowest first. `object` names
/// the layer in errors. Returns the bytes of its files. On failure `into` holds a part, for the caller to drop.
pub(crate) fn unpack(
    object: &str,
    tar: impl Read,
    into: &Path,
    lowers: &[RootDir],
    budget: &Budget,
) -> Result<u64> {
    let mut reader = TarReader::new(tar, budget.limits);
    let mut unpacker = Unpacker {
        object,
        root: RootDir::open(into)?,
        lowers,
        parent: None,
        dir_times: HashMap::new(),
        bytes: 0,
        buffer: vec![0; 128 << 10],
    };
    while let Some(entry) = reader
        .next_entry()
        .map_err(|error| unpacker.tar_error(error))?
    {
        budget
            .take_entry()
            .map_err(|fault| Error::invalid(object, fault))?;
        unpacker.entry(&entry, &mut reader)?;
    }
    unpacker.finish()?;
    // What follows the end counts for the digest, so the caller's hash must see it.
    std::io::copy(&mut reader.into_inner(), &mut std::io::sink())
        .map_err(|error| unpacker.tar_error(TarError::Read(error)))?;
    Ok(unpacker.bytes)
}

struct Unpacker<'a> {
    object: &'a str,
    root: RootDir,
    lowers: &'a [RootDir],
    /// The last parent folder used: entries come folder by folder. Dropped whenever something is removed.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Folders' times, set at the end since filling a folder changes them.
    dir_times: HashMap<Vec<u8>, (i64, u32)>,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn fault(&self, fault: Fault) -> Error {
        Error::invalid(self.object, fault)
    }

    fn tar_error(&self, error: TarError) -> Error {
        match error {
            TarError::Fault(fault) => self.fault(fault),
            TarError::Read(error) => match fault_of(&error) {
                Some(fault) => self.fault(fault),
                None => Error::io("read", Path::new(self.object))(error),
            },
        }
    }

    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<()> {
        let path =
            normalise(&entry.path).ok_or_else(|| self.fault(Fault::Traversal(entry.shown())))?;
        let (parent, name) = split(&path);
        if name.is_empty() {
            return self.root_entry(entry);
        }
        if name.starts_with(WHITEOUT) {
            return self.whiteout(entry, parent, name);
        }
        let dir = self.parent_dir(parent)?;
        let result = self.place(entry, &path, &dir, name, data);
        // Kept only while nothing was removed; `place` clears `self.parent` by leaving it none.
        if let Ok(Placed::Added) = result {
            self.parent = Some((parent.to_vec(), dir));
        }
        result.map(drop)
    }

    /// `./` itself: the root folder's owner, mode and time.
    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            let reason = "it names the root, and is no folder".to_owned();
            return Err(self.fault(Fault::Entry {
                path: entry.shown(),
                reason,
            }));
        }
        let root = self
            .root
            .resolve(b"", OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(self.failed("open", b""))?;
        self.open_metadata(entry, &root, b"")?;
        self.dir_times.insert(Vec::new(), entry.mtime);
        Ok(())
    }

    /// The folder that an entry goes into, made if the layer left it out.
    fn parent_dir(&mut self, path: &[u8]) -> Result<OwnedFd> {
        if let Some((cached, fd)) = self.parent.take()
            && cached == path
        {
            return Ok(fd);
        }
        let lowers = self.lowers;
        self.root
            .make_dirs(path, &mut |dir, path| imply(lowers, dir, path))
            .map_err(self.failed("create", path))
    }

    fn place(
        &mut self,
        entry: &Entry,
        path: &[u8],
        dir: &OwnedFd,
        name: &[u8],
        data: &mut impl Read,
    ) -> Result<Placed> {
        let mut placed = Placed::Added;
        let mut opaque = false;
        if let Some(old) = stat_at(dir, name).map_err(self.failed("stat", path))? {
            if entry.kind == Kind::Directory && kind_of(&old) == SFlag::S_IFDIR {
                let made = open_dir_at(dir, name).map_err(self.failed("open", path))?;
                self.open_metadata(entry, &made, path)?;
                self.dir_times.insert(path.to_vec(), entry.mtime);
                return Ok(placed);
            }
            // A whiteout of this layer hides the lower folder, so the new one must not merge with it.
            opaque = entry.kind == Kind::Directory && is_whiteout(&old);
            remove_at(dir.as_fd(), name).map_err(self.failed("replace", path))?;
            placed = Placed::Replaced;
        }
        let os_name = OsStr::from_bytes(name);
        match entry.kind {
            Kind::Directory => {
                mkdirat(dir, os_name, Mode::from_bits_truncate(0o700))
                    .map_err(self.failed("create", path))?;
                let made = open_dir_at(dir, name).map_err(self.failed("open", path))?;
                self.open_metadata(entry, &made, path)?;
                self.dir_times.insert(path.to_vec(), entry.mtime);
                if opaque {
                    set_opaque(dir, name).map_err(self.failed("mark opaque", path))?;
                }
            }
            Kind::File => self.file(entry, path, dir, name, data)?,
            Kind::HardLink => self.hard_link(entry, path, dir, name)?,
            Kind::Symlink => {
                symlinkat(OsStr::from_bytes(&entry.target), dir, os_name)
                    .map_err(self.failed("create", path))?;
                self.node_metadata(entry, path, dir, name)?;
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::CharDevice => SFlag::S_IFCHR,
                    Kind::BlockDevice => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                let device = makedev(entry.device.0.into(), entry.device.1.into());
                mknodat(dir, os_name, kind, Mode::from_bits_truncate(0o600), device)
                    .map_err(self.failed("create", path))?;
                self.node_metadata(entry, path, dir, name)?;
            }
        }
        Ok(placed)
    }

    fn file(
        &mut self,
        entry: &Entry,
        path: &[u8],
        dir: &OwnedFd,
        name: &[u8],
        data: &mut impl Read,
    ) -> Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(
            dir,
            OsStr::from_bytes(name),
            flags,
            Mode::from_bits_truncate(0o600),
        )
        .map_err(self.failed("create", path))?;
        let mut file = File::from(file);
        let mut left = entry.size;
        while left > 0 {
            let n = match data.read(&mut self.buffer) {
                Ok(0) => return Err(self.fault(Fault::Truncated)),
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.tar_error(TarError::Read(error))),
            };
            file.write_all(&self.buffer[..n])
                .map_err(|error| Error::io("write", &self.root.shown(path))(error))?;
            left = left.saturating_sub(n as u64);
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        self.open_metadata(entry, &file, path)?;
        let time = timespec(entry.mtime);
        nix::sys::stat::futimens(&file, &time, &time).map_err(self.failed("set the time of", path))
    }

    fn hard_link(&self, entry: &Entry, path: &[u8], dir: &OwnedFd, name: &[u8]) -> Result<()> {
        let target = normalise(&entry.target).ok_or_else(|| {
            self.fault(Fault::LinkOutside {
                path: entry.shown(),
                target: shown(&entry.target),
            })
        })?;
        let missing = || {
            self.fault(Fault::LinkMissing {
                path: entry.shown(),
                target: shown(&entry.target),
            })
        };
        let (target_parent, target_name) = split(&target);
        if target_name.is_empty() {
            return Err(missing());
        }
        let target_dir = match self.root.dir(target_parent) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Err(missing()),
            result => result.map_err(self.failed("open", target_parent))?,
        };
        // The last name is not followed: a hard link to a symlink is a second name of the symlink.
        match linkat(
            &target_dir,
            OsStr::from_bytes(target_name),
            dir,
            OsStr::from_bytes(name),
            AtFlags::empty(),
        ) {
            Err(Errno::ENOENT) => Err(missing()),
            Err(Errno::EPERM) => Err(self.fault(Fault::Entry {
                path: entry.shown(),
                reason: format!("it is a hard link to the folder `{}`", shown(&entry.target)),
            })),
            result => result.map_err(self.failed("link", path)),
        }
    }

    fn whiteout(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        if name.starts_with(WHITEOUT_META) && name != WHITEOUT_OPAQUE {
            // AUFS's own records, which stand for no file.
            return Ok(());
        }
        let dir = self.parent_dir(parent)?;
        if name == WHITEOUT_OPAQUE {
            return set_opaque(&dir, b".").map_err(self.failed("mark opaque", parent));
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.fault(Fault::Traversal(entry.shown())));
        }
        let path = [parent, hidden].join(&b'/');
        match stat_at(&dir, hidden).map_err(self.failed("stat", &path))? {
            None => mknodat(
                &dir,
                OsStr::from_bytes(hidden),
                SFlag::S_IFCHR,
                Mode::empty(),
                makedev(0, 0),
            )
            .map_err(self.failed("create whiteout", &path))?,
            // Made by this layer: it stays, and hides the lower one by itself, or by being opaque.
            Some(own) if kind_of(&own) == SFlag::S_IFDIR => {
                set_opaque(&dir, hidden).map_err(self.failed("mark opaque", &path))?;
            }
            Some(_) => {}
        }
        self.parent = Some((parent.to_vec(), dir));
        Ok(())
    }

    /// Folders' times, now that nothing is added to them.
    fn finish(&mut self) -> Result<()> {
        for (path, mtime) in &self.dir_times {
            let (parent, name) = split(path);
            let Ok(dir) = self.root.dir(parent) else {
                continue;
            };
            let name = if name.is_empty() { b"." } else { name };
            // It may have been replaced by something else since.
            if !matches!(stat_at(&dir, name), Ok(Some(stat)) if kind_of(&stat) == SFlag::S_IFDIR) {
                continue;
            }
            let time = timespec(*mtime);
            utimensat(
                &dir,
                OsStr::from_bytes(name),
                &time,
                &time,
                UtimensatFlags::NoFollowSymlink,
            )
            .map_err(self.failed("set the time of", path))?;
        }
        Ok(())
    }

    fn failed<'a>(
        &'a self,
        action: &'static str,
        path: &'a [u8],
    ) -> impl FnOnce(Errno) -> Error + use<'a> {
        move |errno| match errno {
            // What an archive can bring about by its names alone.
            Errno::ENAMETOOLONG | Errno::ENOTDIR | Errno::ELOOP | Errno::ENOENT => {
                self.fault(Fault::Entry {
                    path: shown(path),
                    reason: format!("cannot {action} it: {}", errno.desc()),
                })
            }
            errno => Error::os(action, &self.root.shown(path))(errno),
        }
    }
}

/// Whether something was removed to place an entry: then no open folder may be trusted to be in the tree.
enum Placed {
    Added,
    Replaced,
}

/// A rooted path without `.`, empty and leading parts; none if it holds `..`.
pub(crate) fn normalise(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return None,
            _ => {}
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    Some(out)
}

/// Gives a folder that the layer did not describe the looks of the one it will cover.
fn imply(lowers: &[RootDir], dir: &OwnedFd, path: &[u8]) -> nix::Result<()> {
    // Set all of them, against the umask and against a parent whose setgid is inherited.
    let (mut uid, mut gid, mut mode) = (0, 0, 0o755);
    if let Some(lower) = lowers.iter().rev().find_map(|lower| lower.dir(path).ok()) {
        let stat = fstat(&lower)?;
        (uid, gid, mode) = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
    }
    fchown(dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(dir, Mode::from_bits_truncate(mode))
}

fn is_whiteout(stat: &FileStat) -> bool {
    kind_of(stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(0, 0)
}

#[cfg(test)]
mod tests;
