//! What the cluster's settings may be.

use super::ClusterSpec;

/// The shortest and the longest time between two heartbeats, ms.
pub const HEARTBEAT_MS: std::ops::RangeInclusive<u32> = 50..=60_000;
/// Most ended tasks kept per slot.
pub const TASK_HISTORY_MAX: u32 = 1_000;

impl ClusterSpec {
    /// What is wrong with the settings, if anything: each with its cure.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let (heartbeat, dead_after) = (self.heartbeat_ms, self.dead_after_ms);
        let mut problems = Vec::new();
        if !HEARTBEAT_MS.contains(&heartbeat) {
            problems.push(format!(
                "a heartbeat every {heartbeat} ms: give from {} ms to {} s",
                HEARTBEAT_MS.start(),
                HEARTBEAT_MS.end() / 1_000
            ));
        }
        // Two may be missed before a node is suspect, and one more before it is given up.
        if dead_after < heartbeat.saturating_mul(3) {
            problems.push(format!(
                "a node would be down after {dead_after} ms, with a heartbeat every {heartbeat} ms: give at least three heartbeats, {} ms",
                heartbeat.saturating_mul(3)
            ));
        }
        if self.task_history > TASK_HISTORY_MAX {
            problems.push(format!(
                "a history of {} tasks per slot: give at most {TASK_HISTORY_MAX}",
                self.task_history
            ));
        }
        problems
    }

    /// The shortest lease that a task may have: one that is renewed in time though a heartbeat is lost, ms.
    #[must_use]
    pub fn lease_min_ms(&self) -> u64 {
        super::LEASE_MIN_MS.max(u64::from(self.heartbeat_ms) * 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_give_nodes_up_for_nothing_are_refused() {
        let with = |heartbeat_ms, dead_after_ms| ClusterSpec {
            heartbeat_ms,
            dead_after_ms,
            ..ClusterSpec::default()
        };
        assert!(ClusterSpec::default().problems().is_empty());
        assert!(with(200, 600).problems().is_empty());
        assert!(with(1_000, 2_999).problems()[0].contains("at least three heartbeats, 3000 ms"));
        assert!(with(10, 3_000).problems()[0].contains("from 50 ms"));
        assert_eq!(with(u32::MAX, 1).problems().len(), 2);
    }
}
