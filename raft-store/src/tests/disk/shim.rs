//! libc's calls on files, in place of libc's own: what is linked into the program comes before the library. So
//! all that std and sled do to files in a watched folder is seen, and may fail, in this process and nowhere
//! else; other files pass by.

use super::world::{Call, World};
use libc::{c_char, c_int, c_uint, c_void, mode_t, off64_t, size_t, ssize_t};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the kernel says, as libc does.
fn told(result: i64) -> i64 {
    result
}

fn refuse(errno: c_int) -> i64 {
    // SAFETY: the thread's own.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// The file behind a descriptor.
fn path_of(fd: c_int) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{fd}\0");
    let mut buffer = [0_u8; 512];
    // SAFETY: the name ends with 0, and the buffer is as long as it says.
    let length = unsafe {
        libc::readlink(
            link.as_ptr().cast(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    let length = usize::try_from(length).ok()?;
    Some(Path::new(OsStr::from_bytes(&buffer[..length])).to_owned())
}

/// A file that is gone is told so by the kernel; it is nothing to us any more.
fn of_fd(fd: c_int) -> Option<(Arc<World>, PathBuf)> {
    if !World::any() {
        return None;
    }
    let path = path_of(fd)?;
    Some((World::of(&path)?, path))
}

fn of_path(path: *const c_char) -> Option<(Arc<World>, PathBuf)> {
    if !World::any() || path.is_null() {
        return None;
    }
    // SAFETY: a path ends with 0.
    let path = Path::new(OsStr::from_bytes(
        unsafe { CStr::from_ptr(path) }.to_bytes(),
    ))
    .to_owned();
    Some((World::of(&path)?, path))
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as the caller has it.
    let call = || unsafe {
        let at = libc::AT_FDCWD;
        told(libc::syscall(
            libc::SYS_openat,
            at,
            path,
            flags | libc::O_LARGEFILE,
            mode,
        ))
    };
    let result = match of_path(path) {
        Some((world, path)) => {
            let makes = flags & libc::O_CREAT != 0 && !path.exists();
            let empties = flags & libc::O_TRUNC != 0 && !makes;
            let what = match (makes, empties) {
                (true, _) => Call::Create(path),
                (_, true) => Call::Resize(path, 0),
                _ => Call::Open(path),
            };
            world.run(what, call, refuse)
        }
        None => call(),
    };
    result as c_int
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: as the caller has it.
    let call = || unsafe { told(libc::syscall(libc::SYS_write, fd, bytes, count)) };
    let result = match of_fd(fd) {
        Some((world, path)) => {
            // SAFETY: asks the kernel, changes nothing.
            let at = unsafe { libc::lseek64(fd, 0, libc::SEEK_CUR) };
            // SAFETY: the caller's bytes.
            let data = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count) };
            world.run(Call::Write(path, at as u64, data.to_vec()), call, refuse)
        }
        None => call(),
    };
    result as ssize_t
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    bytes: *const c_void,
    count: size_t,
    at: off64_t,
) -> ssize_t {
    // SAFETY: as the caller has it.
    let call = || unsafe { told(libc::syscall(libc::SYS_pwrite64, fd, bytes, count, at)) };
    let result = match of_fd(fd) {
        Some((world, path)) => {
            // SAFETY: the caller's bytes.
            let data = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count) };
            world.run(Call::Write(path, at as u64, data.to_vec()), call, refuse)
        }
        None => call(),
    };
    result as ssize_t
}

/// How much of a read there is before the file's end: beyond it no disk is asked.
fn within(fd: c_int, at: off64_t, count: size_t) -> usize {
    // SAFETY: all zeroes are one.
    let mut file: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: asks the kernel, which writes to what is ours.
    match unsafe { libc::fstat64(fd, &raw mut file) } {
        0 => count.min(usize::try_from(file.st_size - at).unwrap_or(0)),
        _ => count,
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
    // SAFETY: as the caller has it.
    let call = || unsafe { told(libc::syscall(libc::SYS_read, fd, bytes, count)) };
    match of_fd(fd) {
        Some((world, path)) => {
            // SAFETY: asks the kernel, changes nothing.
            let at = unsafe { libc::lseek64(fd, 0, libc::SEEK_CUR) };
            let count = within(fd, at, count);
            world.run(Call::Read(path, at as u64, count), call, refuse) as ssize_t
        }
        None => call() as ssize_t,
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(
    fd: c_int,
    bytes: *mut c_void,
    count: size_t,
    at: off64_t,
) -> ssize_t {
    // SAFETY: as the caller has it.
    let call = || unsafe { told(libc::syscall(libc::SYS_pread64, fd, bytes, count, at)) };
    match of_fd(fd) {
        Some((world, path)) => {
            let count = within(fd, at, count);
            world.run(Call::Read(path, at as u64, count), call, refuse) as ssize_t
        }
        None => call() as ssize_t,
    }
}

fn sync(fd: c_int, number: i64) -> c_int {
    // SAFETY: of a descriptor alone.
    let call = || unsafe { told(libc::syscall(number, fd)) };
    match of_fd(fd) {
        Some((world, path)) => world.run(Call::Sync(path), call, refuse) as c_int,
        None => call() as c_int,
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fdatasync)
}

/// Reaches the disk's cache at most: nothing lasts by it, but it may fail.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(
    fd: c_int,
    at: off64_t,
    count: off64_t,
    flags: c_uint,
) -> c_int {
    // SAFETY: of a descriptor alone.
    let call = || unsafe {
        told(libc::syscall(
            libc::SYS_sync_file_range,
            fd,
            at,
            count,
            flags,
        ))
    };
    match of_fd(fd) {
        Some((world, path)) => world.run(Call::SyncRange(path), call, refuse) as c_int,
        None => call() as c_int,
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    // SAFETY: of a descriptor alone.
    let call = || unsafe { told(libc::syscall(libc::SYS_ftruncate, fd, length)) };
    match of_fd(fd) {
        Some((world, path)) => world.run(Call::Resize(path, length as u64), call, refuse) as c_int,
        None => call() as c_int,
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, at: off64_t, count: off64_t) -> c_int {
    // SAFETY: of a descriptor alone.
    let call = || unsafe { told(libc::syscall(libc::SYS_fallocate, fd, mode, at, count)) };
    match of_fd(fd) {
        Some((world, path)) => {
            let upto = (at + count) as u64;
            world.run(Call::Lengthen(path, upto), call, refuse) as c_int
        }
        None => call() as c_int,
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let at = libc::AT_FDCWD;
    // SAFETY: as the caller has it.
    let call = || unsafe { told(libc::syscall(libc::SYS_renameat2, at, from, at, to, 0)) };
    match (of_path(from), of_path(to)) {
        (Some((world, from)), Some((_, to))) => {
            world.run(Call::Rename(from, to), call, refuse) as c_int
        }
        _ => call() as c_int,
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as the caller has it.
    let call = || unsafe { told(libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0)) };
    match of_path(path) {
        Some((world, path)) => world.run(Call::Remove(path), call, refuse) as c_int,
        None => call() as c_int,
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: as the caller has it.
    let call = || unsafe { told(libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode)) };
    match of_path(path) {
        Some((world, path)) => world.run(Call::MakeDir(path), call, refuse) as c_int,
        None => call() as c_int,
    }
}
