//! Whose turn it is to stand for election when the leader falls silent.
//!
//! openraft has every follower stand after a time of its own, drawn at random. Two that draw nearly the same each vote
//! for themselves, and another round costs half a second. The followers know each other, so they go by turns: the
//! first of them stands as soon as no other can still hold the leader's lease to be valid, the next when that came to
//! nothing. The drawn times remain behind the turns, for what these don't foresee: they only bring an election forward.

use crate::handle::Handle;
use crate::types::TypeConfig;
use openraft::RaftState;
use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::alias::InstantOf;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

/// When who stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns {
    /// For so long after it heard of the leader no follower votes for another.
    lease: Duration,
    /// Between two followers' turns. The leader's beats reach the followers up to one of its intervals apart, as it leaves
    /// out those that entries make needless; so more than that.
    step: Duration,
}

impl Turns {
    pub fn new(lease: Duration, heartbeat: Duration) -> Self {
        Self {
            lease,
            step: heartbeat * 3 / 2,
        }
    }

    /// How long after it heard of the leader `own` stands; `None` when it is no voter, or leads.
    fn wait(&self, voters: &BTreeSet<u64>, leader: u64, own: u64) -> Option<Duration> {
        if own == leader || !voters.contains(&own) {
            return None;
        }
        let before = voters.range(..own).filter(|&&id| id != leader).count();
        let turn = u32::try_from(before + 1).unwrap_or(u32::MAX);
        Some(self.lease.saturating_add(self.step.saturating_mul(turn)))
    }
}

/// The leader that a follower has voted for or heard of, and when last.
type Heard = (u64, InstantOf<TypeConfig>);

impl Handle {
    /// Stands for election when it is this manager's turn, until the consensus ends.
    pub(crate) async fn take_turns(self, turns: Turns) {
        let own = self.own.node_id.raft_id();
        let mut servers = self.raft.server_metrics();
        // Once for each silence: then openraft goes on by itself.
        let mut stood = None;
        loop {
            let voters = servers
                .borrow_and_update()
                .membership_config
                .voter_ids()
                .collect();
            let Ok(heard) = self.heard().await else {
                return;
            };
            // How long it is still to wait.
            let rest = heard.and_then(|(leader, at)| {
                let wait = turns.wait(&voters, leader, own)?;
                Some(wait.saturating_sub(at.elapsed()))
            });
            if rest == Some(Duration::ZERO) && stood != heard && self.may_stand() {
                stood = heard;
                if self.raft.trigger().elect(true).await.is_err() {
                    return;
                }
            }
            // What begins meanwhile is due later than that.
            let next = rest.filter(|rest| !rest.is_zero()).unwrap_or(turns.lease);
            let changed = tokio::select! {
                changed = servers.changed() => changed,
                () = sleep(next) => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// `None` while an election is under way.
    async fn heard(&self) -> Result<Option<Heard>, ()> {
        let look = |state: &RaftState<TypeConfig>| {
            let vote = state.vote_ref();
            let at = state.vote_last_modified()?;
            vote.committed.then_some((vote.leader_id.node_id, at))
        };
        self.raft.with_raft_state(look).await.map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNS: Turns = Turns {
        lease: Duration::from_millis(600),
        step: Duration::from_millis(150),
    };

    fn waits(voters: &[u64], leader: u64) -> Vec<Option<u128>> {
        let all = voters.iter().copied().collect();
        let wait = |own: &u64| TURNS.wait(&all, leader, *own).map(|d| d.as_millis());
        voters.iter().map(wait).collect()
    }

    #[test]
    fn no_two_stand_at_once_and_none_within_the_lease() {
        assert_eq!(waits(&[3, 7, 9], 3), [None, Some(750), Some(900)]);
        assert_eq!(waits(&[3, 7, 9], 7), [Some(750), None, Some(900)]);
        assert_eq!(waits(&[3, 7, 9], 9), [Some(750), Some(900), None]);
        // A leader that is no manager any more.
        assert_eq!(waits(&[3, 7], 8), [Some(750), Some(900)]);
        assert_eq!(waits(&[3], 3), [None]);
    }

    #[test]
    fn who_has_no_vote_has_no_turn() {
        assert_eq!(TURNS.wait(&BTreeSet::from([1, 2]), 1, 5), None);
    }

    #[test]
    fn a_turn_is_longer_than_the_beats_are_apart() {
        let beat = Duration::from_millis(100);
        assert!(Turns::new(Duration::from_millis(600), beat).step > beat);
    }
}
