//! A wall clock that is wrong, for one process: loaded by `LD_PRELOAD`, it takes the C library's place at
//! `clock_gettime` and moves the wall clock by as many milliseconds as a file says (`FALSE_CLOCK`, eight bytes, the
//! machine's order), which may change at any time. The machine's clock stays as it is.
//!
//! So labs need no switch in the daemon: a kernel's time namespace moves only the clocks since boot. Those stay right
//! here, as they do when a real machine's clock is set.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

/// The mapped file; null where there is none.
static OFFSET_MS: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());

const NS: i64 = 1_000_000_000;

/// Run by the loader, before there is a second thread.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    // SAFETY: getenv's result is used before anything could change the environment; open, mmap and close are given
    // what they ask for, and what they return is checked. The mapping is page-aligned and never removed.
    unsafe {
        let path = libc::getenv(c"FALSE_CLOCK".as_ptr());
        if path.is_null() {
            return;
        }
        let file = libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return;
        }
        let mapped = libc::mmap(
            ptr::null_mut::<c_void>(),
            size_of::<i64>(),
            libc::PROT_READ,
            libc::MAP_SHARED,
            file,
            0,
        );
        libc::close(file);
        if mapped != libc::MAP_FAILED {
            OFFSET_MS.store(mapped.cast(), Ordering::Release);
        }
    }
}

/// The C library's, but for the wall clock.
///
/// # Safety
/// As the C library's: `time` has to be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller vouches for `time`; the kernel checks it, too.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if result != 0 {
        return -1;
    }
    if clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE {
        let offset = OFFSET_MS.load(Ordering::Acquire);
        // SAFETY: either null or the mapping made at the beginning, which lasts; another process writes it whole.
        // The kernel has just written `time`.
        if let (Some(offset), Some(time)) = unsafe { (offset.as_ref(), time.as_mut()) } {
            shift(time, offset.load(Ordering::Relaxed));
        }
    }
    0
}

fn shift(time: &mut libc::timespec, offset_ms: i64) {
    let ns = time.tv_nsec + offset_ms % 1_000 * 1_000_000;
    time.tv_sec += offset_ms / 1_000 + ns.div_euclid(NS);
    time.tv_nsec = ns.rem_euclid(NS);
}
