//! Whose turn it is to stand for election when the leader falls silent.
//!
//! openraft has every follower stand after a time of its own, drawn at random from half a second and more: so wide that
//! two seldom stand at once, and on average as late. The followers know each other, so they go by turns instead: the
//! first of them stands as soon as no other can still hold the leader's lease to be valid, the next when that came to
//! nothing, because the first is gone too or lacks an entry, and so on, round and round. The one whose name is the
//! greatest is the first, as openraft takes that one's vote for the greater in one term: who comes late then follows.
//!
//! The turns bring an election forward and forbid none. The drawn times remain for what turns don't know: after a
//! restart, when nobody was heard yet, and when an election that began came to nothing.

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
    /// Between two followers' turns, and before the first: what two of them heard last of the leader is up to one of its
    /// beats apart, and a tick of its clock. So more than that.
    step: Duration,
}

impl Turns {
    pub fn new(lease: Duration, heartbeat: Duration) -> Self {
        Self {
            lease,
            step: heartbeat * 3 / 2,
        }
    }

    /// How long after it heard of the leader `own` stands for the time `round`, counted from 0; `None` when it is no
    /// voter, or leads.
    fn wait(&self, voters: &BTreeSet<u64>, leader: u64, own: u64, round: u32) -> Option<Duration> {
        if own == leader || !voters.contains(&own) {
            return None;
        }
        let followers = |from: u64| {
            let count = voters.range(from..).filter(|id| **id != leader).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        // Those before it are of greater ids; the range counts it, too.
        let turn = followers(0)
            .saturating_mul(round)
            .saturating_add(followers(own));
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
        // In which silence it stood last, and how often.
        let mut stood: (Option<Heard>, u32) = (None, 0);
        loop {
            let voters = servers
                .borrow_and_update()
                .membership_config
                .voter_ids()
                .collect();
            let Ok(heard) = self.heard().await else {
                return;
            };
            if heard != stood.0 {
                stood = (heard, 0);
            }
            // How long it is still to wait.
            let wait = |round: u32| {
                let (leader, at) = heard?;
                let wait = turns.wait(&voters, leader, own, round)?;
                Some(wait.saturating_sub(at.elapsed()))
            };
            let mut rest = wait(stood.1);
            if rest == Some(Duration::ZERO) {
                stood.1 += 1;
                // Not at once again, should it have slept through rounds.
                rest = wait(stood.1).map(|rest| rest.max(turns.step));
                if self.may_stand() && self.raft.trigger().elect(true).await.is_err() {
                    return;
                }
            }
            // What begins meanwhile is due later than that.
            let next = rest.unwrap_or(turns.lease);
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

    fn waits(voters: &[u64], leader: u64, round: u32) -> Vec<Option<u128>> {
        let all = voters.iter().copied().collect();
        let wait = |own: &u64| TURNS.wait(&all, leader, *own, round).map(|d| d.as_millis());
        voters.iter().map(wait).collect()
    }

    #[test]
    fn no_two_stand_at_once_and_none_within_the_lease() {
        assert_eq!(waits(&[3, 7, 9], 3, 0), [None, Some(900), Some(750)]);
        assert_eq!(waits(&[3, 7, 9], 7, 0), [Some(900), None, Some(750)]);
        assert_eq!(waits(&[3, 7, 9], 9, 0), [Some(900), Some(750), None]);
        // Again, once everybody had a turn.
        assert_eq!(waits(&[3, 7, 9], 9, 1), [Some(1_200), Some(1_050), None]);
        // A leader that is no manager any more.
        assert_eq!(waits(&[3, 7], 8, 0), [Some(900), Some(750)]);
        assert_eq!(waits(&[3], 3, 0), [None]);
    }

    #[test]
    fn who_has_no_vote_has_no_turn() {
        assert_eq!(TURNS.wait(&BTreeSet::from([1, 2]), 1, 5, 0), None);
    }

    #[test]
    fn a_turn_is_longer_than_the_beats_are_apart() {
        let beat = Duration::from_millis(100);
        assert!(Turns::new(Duration::from_millis(600), beat).step > beat);
    }
}
