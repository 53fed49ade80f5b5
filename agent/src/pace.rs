//! When heartbeats are sent, and when a manager that acknowledges none is given up: pure.

use std::time::{Duration, Instant};

/// The pace of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    heartbeat: Duration,
    /// After so long a silence each side gives the other up.
    pub dead_after: Duration,
}

impl Pace {
    /// As the manager says, within reason.
    #[must_use]
    pub fn new(heartbeat_ms: u32, dead_after_ms: u32) -> Self {
        let heartbeat = Duration::from_millis(u64::from(heartbeat_ms.clamp(50, 60_000)));
        Self {
            heartbeat,
            dead_after: Duration::from_millis(u64::from(dead_after_ms)).max(heartbeat * 2),
        }
    }

    /// Until the next heartbeat; `dice` is random. Up to a fifth sooner than the manager waits for it, so that the
    /// nodes of a cluster that began at the same time do not all speak at the same time.
    #[must_use]
    pub fn next(&self, dice: u16) -> Duration {
        let fifth = self.heartbeat / 5;
        self.heartbeat - fifth * u32::from(dice) / u32::from(u16::MAX)
    }
}

/// What was heard of the manager.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// When it last acknowledged a heartbeat. One that never does is of a version that doesn't.
    last: Option<Instant>,
}

impl Heard {
    /// It has acknowledged one.
    pub fn acknowledged(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Whether it is to be given up, for another one: it is cut off, from this node or from the other managers.
    #[must_use]
    pub fn is_lost(&self, pace: &Pace, now: Instant) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) > pace.dead_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_spread_and_never_late() {
        let pace = Pace::new(1_000, 3_000);
        assert_eq!(pace.next(0), Duration::from_secs(1));
        assert_eq!(pace.next(u16::MAX), Duration::from_millis(800));
        assert_eq!(Pace::new(0, 0).next(0), Duration::from_millis(50));
    }

    #[test]
    fn a_manager_that_stops_acknowledging_is_given_up_and_one_that_never_began_is_not() {
        let (pace, start) = (Pace::new(1_000, 3_000), Instant::now());
        let mut heard = Heard::default();
        assert!(!heard.is_lost(&pace, start + Duration::from_secs(60)));
        heard.acknowledged(start);
        assert!(!heard.is_lost(&pace, start + Duration::from_secs(3)));
        assert!(heard.is_lost(&pace, start + Duration::from_millis(3_001)));
    }
}
