//! Leases: what becomes of a task whose node hears no manager any more.
//!
//! ```text
//! node:     heartbeat sent ─ acknowledged: the lease runs from when it was sent ─ over: stop, kill after the grace
//! managers: heartbeat heard (later than sent) ───────────────── silence ── + grace ── + margin: surely over
//! ```
//!
//! Both sides reckon from here, so that they can't differ.

use serde::{Deserialize, Serialize};

/// The lease of an exclusive service that names none, ms: longer than an election, and than a manager's restart.
pub const EXCLUSIVE_LEASE_MS: u64 = 15_000;
/// The shortest lease, ms.
pub const LEASE_MIN_MS: u64 = 1_000;
/// Between a container's stop signal and its kill, ms, as docker's default is.
pub const STOP_GRACE_MS: u64 = 10_000;
/// What a killed container may take to be gone, and a node to notice that a lease is over, ms.
const MARGIN_MS: u64 = 1_000;
/// Clocks of two machines differ by less than one in so many.
const DRIFT: u64 = 100;

/// What becomes of a task whose node hears no manager any more. By default the node keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnect {
    /// The node stops it when it has heard no manager for so long, milliseconds.
    pub stop_after_ms: Option<u64>,
    /// No slot of the service ever runs twice: a successor waits until the node has surely stopped it.
    pub exclusive: bool,
}

impl Disconnect {
    /// How long the node may run it without hearing a manager; for ever when absent.
    #[must_use]
    pub fn lease_ms(&self) -> Option<u64> {
        self.stop_after_ms
            .or(self.exclusive.then_some(EXCLUSIVE_LEASE_MS))
    }

    /// The silence after which the node has surely stopped it, ms; none when it never does.
    #[must_use]
    pub fn over_after_ms(&self) -> Option<u64> {
        let stopped = self.lease_ms()?.saturating_add(STOP_GRACE_MS);
        Some(
            stopped
                .saturating_add(stopped / DRIFT)
                .saturating_add(MARGIN_MS),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_surely_over_after_the_stop_the_grace_and_a_margin() {
        let terms = |stop_after_ms, exclusive| Disconnect {
            stop_after_ms,
            exclusive,
        };
        assert_eq!(terms(None, false).lease_ms(), None);
        assert_eq!(terms(None, false).over_after_ms(), None);
        assert_eq!(terms(None, true).lease_ms(), Some(EXCLUSIVE_LEASE_MS));
        assert_eq!(terms(Some(2_000), true).lease_ms(), Some(2_000));
        assert_eq!(terms(Some(2_000), false).over_after_ms(), Some(13_120));
        assert_eq!(terms(Some(u64::MAX), true).over_after_ms(), Some(u64::MAX));
    }
}
