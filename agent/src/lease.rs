//! The node's lease: pure, time is passed in.
//!
//! It runs from when the last heartbeat was sent that a manager has acknowledged; the managers count from when they
//! heard it, which was later. Time is this machine's since its boot, sleep included: it goes on while this
//! process is stopped or the machine is suspended, and no clock on a wall moves it.

use std::collections::VecDeque;

/// Heartbeats on their way that are remembered.
const REMEMBERED: usize = 64;

/// Milliseconds since this machine's boot.
pub type BootMs = u64;

/// The lease.
#[derive(Debug, Default)]
pub struct Lease {
    last: u64,
    /// Sequence, and when it was sent.
    sent: VecDeque<(u64, BootMs)>,
    renewed: Option<BootMs>,
}

impl Lease {
    /// One that was renewed by an earlier daemon of this boot.
    #[must_use]
    pub fn resumed(renewed: Option<BootMs>) -> Self {
        Self {
            renewed,
            ..Self::default()
        }
    }

    /// A heartbeat is sent now: its sequence.
    pub fn beat(&mut self, now: BootMs) -> u64 {
        self.last += 1;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.last, now));
        self.last
    }

    /// A heartbeat is acknowledged, and with it all before. Since when the lease runs, if that is news.
    pub fn acknowledged(&mut self, sequence: u64) -> Option<BootMs> {
        let mut newest = None;
        while let Some((_, at)) = self.sent.pop_front_if(|(sent, _)| *sent <= sequence) {
            newest = Some(at);
        }
        let renewed = newest.filter(|at| self.renewed.is_none_or(|before| *at > before))?;
        self.renewed = Some(renewed);
        Some(renewed)
    }

    /// A session is over: what it had not acknowledged it never will.
    pub fn session_ended(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_runs_from_when_the_heartbeat_was_sent() {
        let mut lease = Lease::default();
        let first = lease.beat(1_000);
        let second = lease.beat(2_000);
        // However late it is acknowledged.
        assert_eq!(lease.acknowledged(first), Some(1_000));
        assert_eq!(lease.acknowledged(second), Some(2_000));
        assert_eq!(lease.renewed, Some(2_000));
        assert_eq!(lease.acknowledged(second), None);
        assert_eq!(lease.acknowledged(99), None);
    }

    #[test]
    fn one_acknowledgement_stands_for_all_before_it() {
        let mut lease = Lease::resumed(Some(500));
        let _ = lease.beat(1_000);
        let second = lease.beat(2_000);
        assert_eq!(lease.acknowledged(second), Some(2_000));
        assert!(lease.sent.is_empty());
    }

    #[test]
    fn another_sessions_heartbeats_renew_nothing() {
        let mut lease = Lease::default();
        let first = lease.beat(1_000);
        lease.session_ended();
        assert_eq!(lease.acknowledged(first), None);
        assert_eq!(lease.renewed, None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut lease = Lease::default();
        for ms in 0..1_000 {
            let _ = lease.beat(ms);
        }
        assert_eq!(lease.sent.len(), REMEMBERED);
        assert_eq!(lease.acknowledged(1_000), Some(999));
    }
}
