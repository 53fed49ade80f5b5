//! Owners, modes, times and extended attributes of what was unpacked.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::Unpacker;
use crate::error::Result;
use crate::fault::Fault;
use crate::root::proc_path_in;
use crate::tarball::{Entry, Kind, shown};

const OPAQUE_XATTR: &[u8] = b"trusted.overlay.opaque";

impl Unpacker<'_> {
    /// Owner, xattrs and mode, in this order: chown clears capabilities and setuid.
    pub(super) fn open_metadata(&self, entry: &Entry, file: impl AsFd, path: &[u8]) -> Result<()> {
        fchown(
            &file,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        )
        .map_err(self.failed("set the owner of", path))?;
        for (name, value) in &entry.xattrs {
            self.xattr(entry, path, name, |name| {
                // SAFETY: the descriptor is open, the name is NUL-terminated, and value and length agree.
                unsafe {
                    libc::fsetxattr(
                        file.as_fd().as_raw_fd(),
                        name.as_ptr(),
                        value.as_ptr().cast(),
                        value.len(),
                        0,
                    )
                }
            })?;
        }
        fchmod(&file, Mode::from_bits_truncate(entry.mode))
            .map_err(self.failed("set the mode of", path))
    }

    /// The same for what must not be opened: links, devices, FIFOs.
    pub(super) fn node_metadata(
        &self,
        entry: &Entry,
        path: &[u8],
        dir: &OwnedFd,
        name: &[u8],
    ) -> Result<()> {
        let os_name = OsStr::from_bytes(name);
        let owner = (
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        );
        fchownat(dir, os_name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(self.failed("set the owner of", path))?;
        for (key, value) in &entry.xattrs {
            let there = c_string(proc_path_in(dir, name).as_os_str().as_bytes());
            self.xattr(entry, path, key, |key| {
                // SAFETY: both names are NUL-terminated, and value and length agree.
                unsafe {
                    libc::lsetxattr(
                        there.as_ptr(),
                        key.as_ptr(),
                        value.as_ptr().cast(),
                        value.len(),
                        0,
                    )
                }
            })?;
        }
        if entry.kind != Kind::Symlink {
            // Just made here, and no symlink: following is no danger, and chmod wants it.
            fchmodat(
                dir,
                os_name,
                Mode::from_bits_truncate(entry.mode),
                FchmodatFlags::FollowSymlink,
            )
            .map_err(self.failed("set the mode of", path))?;
        }
        let time = timespec(entry.mtime);
        utimensat(dir, os_name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(self.failed("set the time of", path))
    }

    fn xattr(
        &self,
        entry: &Entry,
        path: &[u8],
        name: &[u8],
        set: impl Fn(&CString) -> i32,
    ) -> Result<()> {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            tracing::debug!(
                object = self.object,
                path = entry.shown(),
                "overlay attribute of an archive left out"
            );
            return Ok(());
        }
        let plain = matches!(entry.kind, Kind::File | Kind::Directory);
        match Errno::result(set(&c_string(name))) {
            Ok(_) => Ok(()),
            // Labels of a security module or file system this host lacks.
            Err(Errno::EOPNOTSUPP) => Ok(()),
            // The kernel has `user.` attributes on files and folders only.
            Err(Errno::EPERM) if !plain && name.starts_with(b"user.") => Ok(()),
            Err(errno @ (Errno::EINVAL | Errno::ERANGE | Errno::E2BIG)) => {
                Err(self.fault(Fault::Entry {
                    path: entry.shown(),
                    reason: format!("bad extended attribute {}: {}", shown(name), errno.desc()),
                }))
            }
            Err(errno) => Err(self.failed("set an extended attribute of", path)(errno)),
        }
    }
}

/// Makes a folder hide what lower layers hold under its name.
pub(super) fn set_opaque(dir: &OwnedFd, name: &[u8]) -> nix::Result<()> {
    let path = c_string(proc_path_in(dir, name).as_os_str().as_bytes());
    let key = c_string(OPAQUE_XATTR);
    // SAFETY: both names are NUL-terminated, and the value is one byte.
    Errno::result(unsafe {
        libc::lsetxattr(path.as_ptr(), key.as_ptr(), b"y".as_ptr().cast(), 1, 0)
    })
    .map(drop)
}

/// A C string of bytes that were checked to hold no zero; cut at one otherwise.
pub(super) fn c_string(bytes: &[u8]) -> CString {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

pub(super) fn timespec((seconds, nanos): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, nanos.into())
}
