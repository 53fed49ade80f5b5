//! Who is alive: pure.
//!
//! A node is given up when nothing was heard of it for the whole bound, counted only over time in which this
//! manager itself was running: when its own ticks come late, everybody gets that much longer. A new leader
//! has heard of nobody yet and gives every node twice the bound to find it. A leader that has not been sure of its
//! lead for a while gives nobody up: its acknowledgements are missed, nodes leave it and look for another. Once it is
//! sure again, it begins as a new one does.

use api::model::NodeId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// When each node was last heard of.
#[derive(Debug)]
pub struct Liveness {
    heard: BTreeMap<NodeId, Instant>,
    began: Instant,
    ticked: Instant,
    /// When this manager was the leader for sure.
    led: Instant,
    /// Time in which this manager did not run, since it began to lead.
    lost: Duration,
}

/// How often [`Liveness::tick`] is to be called, at least.
pub const TICK: Duration = Duration::from_millis(200);

impl Liveness {
    /// Leading begins.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            heard: BTreeMap::new(),
            began: now,
            ticked: now,
            led: now,
            lost: Duration::ZERO,
        }
    }

    /// It is sure now that this manager led at that time. `dead_after` as in [`Liveness::is_dead`].
    pub fn led(&mut self, at: Instant, dead_after: Duration, now: Instant) {
        let was_sure = self.is_sure(dead_after, at);
        let led = self.led.max(at);
        if !was_sure {
            *self = Self::new(now);
        }
        self.led = led;
    }

    /// Whether this manager knows well enough that it leads to give nodes up: they end their sessions when nothing has
    /// been acknowledged for `dead_after`, and it asks several times as often.
    #[must_use]
    pub fn is_sure(&self, dead_after: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.led) <= dead_after / 2
    }

    /// A node was heard of.
    pub fn heard(&mut self, node: NodeId, now: Instant) {
        if now < self.began {
            return;
        }
        // Kept in running time, so that later stalls don't count against it.
        let at = now.checked_sub(self.lost).unwrap_or(self.began);
        let entry = self.heard.entry(node).or_insert(at);
        *entry = (*entry).max(at);
    }

    /// A node is no member any more.
    pub fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.ticked);
        self.lost += passed.saturating_sub(2 * TICK);
        self.ticked = now;
    }

    /// Whether a node is to be given up.
    #[must_use]
    pub fn is_dead(&self, node: NodeId, dead_after: Duration, now: Instant) -> bool {
        if !self.is_sure(dead_after, now) {
            return false;
        }
        let now = now.checked_sub(self.lost).unwrap_or(self.began);
        match self.heard.get(&node) {
            #[cfg(feature = "sabotage")]
            None if api::sabotage::has(api::sabotage::Bug::NewLeaderImpatient) => true,
            Some(heard) => now.saturating_duration_since(*heard) > dead_after,
            None => now.saturating_duration_since(self.began) > 2 * dead_after,
        }
    }

    /// Whether this leader has heard of a node at all.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.heard.contains_key(&node)
    }

    /// The bounds are other ones from now on: what nodes were told before counts against nobody.
    pub fn forgive(&mut self, now: Instant) {
        let at = now.checked_sub(self.lost).unwrap_or(self.began);
        for heard in self.heard.values_mut() {
            *heard = (*heard).max(at);
        }
    }

    /// For how long nothing was heard of a node.
    #[must_use]
    pub fn silence(&self, node: NodeId, now: Instant) -> Duration {
        let now = now.checked_sub(self.lost).unwrap_or(self.began);
        now.saturating_duration_since(self.heard.get(&node).copied().unwrap_or(self.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);
    const BOUND: Duration = Duration::from_secs(3);

    /// Ticks on time until `until` after `start`.
    fn run(liveness: &mut Liveness, start: Instant, from_ms: u64, until_ms: u64) {
        for ms in (from_ms..=until_ms).step_by(200) {
            let now = start + Duration::from_millis(ms);
            liveness.tick(now);
            liveness.led(now, BOUND, now);
        }
    }

    #[test]
    fn a_silent_node_is_given_up_after_the_bound_and_not_before() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.heard(NODE, start);
        run(&mut liveness, start, 0, 3_000);
        assert!(!liveness.is_dead(NODE, BOUND, start + BOUND));
        assert!(liveness.is_dead(NODE, BOUND, start + BOUND + Duration::from_millis(1)));
        liveness.heard(NODE, start + BOUND);
        assert!(!liveness.is_dead(NODE, BOUND, start + 2 * BOUND));
    }

    #[test]
    fn a_new_leader_gives_everybody_twice_the_bound() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        run(&mut liveness, start, 0, 6_000);
        assert!(!liveness.is_dead(NODE, BOUND, start + 2 * BOUND));
        assert!(liveness.is_dead(NODE, BOUND, start + 2 * BOUND + Duration::from_millis(1)));
    }

    #[test]
    fn a_stall_of_this_manager_counts_against_nobody() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        run(&mut liveness, start, 0, 1_000);
        liveness.heard(NODE, start + Duration::from_secs(1));
        // Frozen for a second, and it leads still.
        let woken = start + Duration::from_secs(2);
        run(&mut liveness, start, 2_000, 4_600);
        assert!(!liveness.is_dead(NODE, BOUND, woken + BOUND - 2 * TICK));
        run(&mut liveness, start, 4_800, 5_000);
        assert!(liveness.is_dead(NODE, BOUND, woken + BOUND));
        liveness.heard(NODE, woken + BOUND);
        assert!(!liveness.is_dead(NODE, BOUND, woken + 2 * BOUND));
        // For a minute: it may lead no more. Once it does, it knows nothing of anybody.
        let woken = start + Duration::from_secs(65);
        liveness.tick(woken);
        assert!(!liveness.is_dead(NODE, BOUND, woken));
        run(&mut liveness, start, 65_200, 71_200);
        assert!(!liveness.is_dead(NODE, BOUND, start + Duration::from_millis(71_200)));
        run(&mut liveness, start, 71_400, 71_400);
        assert!(liveness.is_dead(NODE, BOUND, start + Duration::from_millis(71_400)));
    }

    #[test]
    fn a_leader_that_was_without_a_majority_gives_nobody_up_for_the_silence_meanwhile() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut liveness = Liveness::new(start);
        run(&mut liveness, start, 0, 1_000);
        liveness.heard(NODE, at(1_000));
        // It runs, and asks in vain.
        for ms in (1_200..=20_000).step_by(200) {
            liveness.tick(at(ms));
            assert!(!liveness.is_dead(NODE, BOUND, at(ms)), "{ms} ms");
        }
        // What it had asked while it was sure says nothing of now.
        liveness.led(at(1_200), BOUND, at(20_000));
        assert!(!liveness.is_sure(BOUND, at(20_000)));
        liveness.led(at(20_000), BOUND, at(20_100));
        assert!(liveness.is_sure(BOUND, at(20_100)) && !liveness.knows(NODE));
        // The end of a session that was heard of before.
        liveness.heard(NODE, at(1_000));
        run(&mut liveness, start, 20_200, 26_000);
        assert!(!liveness.is_dead(NODE, BOUND, at(26_000)));
        run(&mut liveness, start, 26_200, 26_400);
        assert!(liveness.is_dead(NODE, BOUND, at(26_400)));
    }
}
