//! Whether a node's clock is as this manager's: pure.
//!
//! Nothing is decided by the clock on the wall, but certificates hold by it, and logs and times are shown by it.

use api::model::Timestamp;
use std::time::{Duration, Instant};

/// Clocks that differ by more are told of, milliseconds.
const APART_MS: i64 = 10_000;
/// And until they differ by no more than this: one that drifts slowly is not told again and again.
const CLOSE_MS: i64 = 8_000;
/// It has to be so for so long. A manager that was stopped, or a network that hung, makes heartbeats late by any time;
/// but those come all at once.
const LASTS: Duration = Duration::from_secs(5);

/// What the heartbeats of a session have said.
#[derive(Debug, Default)]
pub struct Skew {
    /// Since when each of them was too far off.
    since: Option<Instant>,
    /// It was told of.
    is_told: bool,
}

impl Skew {
    /// A heartbeat sent at `theirs` was read at `ours`, which is `at` by the steady clock. How far the node's clock is
    /// ahead, milliseconds; 0 while it is right, or not known to be wrong.
    pub fn heard(&mut self, theirs: Timestamp, ours: Timestamp, at: Instant) -> i64 {
        let ahead = theirs.0.saturating_sub(ours.0);
        let apart = if self.is_told { CLOSE_MS } else { APART_MS };
        if theirs.0 == 0 || ahead.saturating_abs() <= apart {
            *self = Self::default();
            return 0;
        }
        let since = *self.since.get_or_insert(at);
        self.is_told |= at.saturating_duration_since(since) >= LASTS;
        if self.is_told { ahead } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    #[test]
    fn a_clock_is_wrong_when_it_stays_so() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        for off in [-3_600_000, 3_600_000, i64::MAX, i64::MIN] {
            let mut skew = Skew::default();
            let theirs = Timestamp(NOW.0.saturating_add(off));
            for n in 0..5 {
                assert_eq!(skew.heard(theirs, NOW, start + second * n), 0, "{n}");
            }
            let ahead = skew.heard(theirs, NOW, start + second * 5);
            assert_eq!(ahead, theirs.0.saturating_sub(NOW.0));
            // Right again, and that at once.
            assert_eq!(skew.heard(NOW, NOW, start + second * 6), 0);
            assert_eq!(skew.heard(theirs, NOW, start + second * 7), 0);
        }
    }

    #[test]
    fn a_clock_at_the_edge_is_told_once() {
        let start = Instant::now();
        let mut skew = Skew::default();
        let told: Vec<bool> = (0..60)
            .map(|n| {
                // Drifting away, by jumps of a network's jitter.
                let off =
                    9_000 + i64::try_from(n).unwrap() * 50 - 400 * (i64::try_from(n).unwrap() % 2);
                let at = start + Duration::from_secs(n);
                skew.heard(Timestamp(NOW.0 + off), NOW, at) != 0
            })
            .collect();
        let changes = told.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!((changes, told.last()), (1, Some(&true)), "{told:?}");
        let at = start + Duration::from_secs(60);
        assert_eq!(skew.heard(Timestamp(NOW.0 + 7_999), NOW, at), 0);
    }

    #[test]
    fn what_was_late_for_once_says_nothing() {
        let start = Instant::now();
        let mut skew = Skew::default();
        // The manager was stopped for 20 seconds, and reads what came meanwhile.
        for late in (0..20_000).rev().step_by(1_000) {
            assert_eq!(skew.heard(Timestamp(NOW.0 - late), NOW, start), 0);
        }
        assert_eq!(
            skew.heard(NOW, NOW, start + Duration::from_secs(10)),
            0,
            "and goes on"
        );
        // An agent that says no time.
        for n in 0..20 {
            let at = start + Duration::from_secs(n);
            assert_eq!(skew.heard(Timestamp(0), NOW, at), 0);
        }
    }
}
