//! Leases, as a container's shim keeps them: it ends the container when its time is over, whatever has become of the
//! daemon.
//!
//! The daemon writes into one file, beside the containers' folders, since when the node's lease runs; each shim knows
//! how long its container may go on from there. Time is the machine's since its boot, sleep included, so that it goes
//! on while a process is stopped or the machine is suspended.

use crate::client::Runtime;
use crate::error::{IoContext, Result};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How long a container may run without its node's lease being renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// So long, milliseconds.
    pub lease_ms: u64,
    /// Between its stop signal and its kill then, milliseconds.
    pub grace_ms: u64,
}

/// What the shim does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Look again at that time.
    Wait(u64),
    /// The lease is over: ask it to end.
    Stop,
    /// It has had its grace.
    Kill,
}

impl Terms {
    /// What is due at `now`. `renewed`: since when the node's lease runs; `stopped`: when the container was asked to end;
    /// all in milliseconds since the machine's boot.
    #[must_use]
    pub fn next(&self, renewed: Option<u64>, stopped: Option<u64>, now: u64) -> Step {
        if let Some(stopped) = stopped {
            let end = stopped.saturating_add(self.grace_ms);
            return if now >= end {
                Step::Kill
            } else {
                Step::Wait(end)
            };
        }
        // One from the future is of another boot.
        let end = renewed
            .filter(|renewed| *renewed <= now)
            .map(|renewed| renewed.saturating_add(self.lease_ms));
        match end {
            Some(end) if now < end => Step::Wait(end),
            _ => Step::Stop,
        }
    }

    /// Whether a container may begin now.
    #[must_use]
    pub fn hold(&self, renewed: Option<u64>, now: u64) -> bool {
        matches!(self.next(renewed, None, now), Step::Wait(_))
    }
}

/// Milliseconds since this machine's boot.
///
/// # Errors
/// When the kernel has no such clock.
pub fn boot_ms() -> io::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let ms = now.tv_sec() * 1_000 + now.tv_nsec() / 1_000_000;
    Ok(u64::try_from(ms).unwrap_or(0))
}

fn file(dir: &Path) -> PathBuf {
    dir.join("lease")
}

/// Since when the node's lease runs; none when it never did, or can't be read.
pub(crate) fn read(dir: &Path) -> Option<u64> {
    fs::read_to_string(file(dir)).ok()?.trim().parse().ok()
}

impl Runtime {
    /// The node's lease runs from `at_ms` ([`boot_ms`]) on.
    ///
    /// # Errors
    /// When it can't be written; the lease then runs on from before.
    pub fn renew_lease(&self, at_ms: u64) -> Result<()> {
        let path = file(self.dir());
        let fresh = path.with_extension("new");
        // Of this boot alone, on a tmpfs: nothing to sync.
        fs::write(&fresh, at_ms.to_string())
            .and_then(|()| fs::rename(&fresh, &path))
            .context(|| format!("writing {}", path.display()))
    }

    /// Since when the node's lease runs, as it was last written.
    #[must_use]
    pub fn lease_renewed(&self) -> Option<u64> {
        read(self.dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        lease_ms: 5_000,
        grace_ms: 1_000,
    };

    #[test]
    fn a_container_is_asked_to_end_when_its_lease_is_over_and_killed_after_its_grace() {
        assert_eq!(TERMS.next(Some(1_000), None, 2_000), Step::Wait(6_000));
        // Renewed meanwhile.
        assert_eq!(TERMS.next(Some(3_000), None, 6_000), Step::Wait(8_000));
        assert_eq!(TERMS.next(Some(3_000), None, 8_000), Step::Stop);
        assert_eq!(
            TERMS.next(Some(3_000), Some(8_000), 8_500),
            Step::Wait(9_000)
        );
        // What is renewed too late saves nothing: it may run elsewhere by now.
        assert_eq!(TERMS.next(Some(8_900), Some(8_000), 9_000), Step::Kill);
    }

    #[test]
    fn without_a_lease_nothing_begins() {
        assert!(!TERMS.hold(None, 10));
        assert!(!TERMS.hold(Some(1), 10_000));
        assert!(TERMS.hold(Some(9_000), 10_000));
        assert!(!TERMS.hold(Some(20_000), 10_000), "of another boot");
    }
}
