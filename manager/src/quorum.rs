//! Which managers can be reached, and what to do when too few can.

use crate::dialer::Dialer;
use crate::dispatch::GONE_KEY;
use api::model::NodeId;
use api::proto::HealthRequest;
use api::proto::raft_client::RaftClient;
use futures_util::future::join_all;
use raft_store::{Handle, ManagerState};
use std::time::Duration;
use tokio::time::timeout;

/// How long another manager may take to show that it is there.
const PROBE_BOUND: Duration = Duration::from_millis(1_500);

/// The managers as this one sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// How many vote.
    pub voters: usize,
    /// How many of those can be reached, this one among them.
    pub up: usize,
    /// The others, each with the reason.
    pub down: Vec<String>,
    /// Where one is that says that this machine was removed from the cluster.
    pub removed_by: Option<String>,
    /// How many say so.
    pub removals: usize,
    /// How many others there are.
    pub others: usize,
}

/// What another manager has answered.
enum Answer {
    Here,
    /// This machine was removed from the cluster, it says.
    Removed,
    Down(String),
}

impl Quorum {
    /// Asks every other manager whether it is there.
    pub async fn ask(managers: Vec<ManagerState>, dialer: &Dialer, me: NodeId) -> Self {
        let voters: Vec<_> = managers.into_iter().filter(|m| m.voter).collect();
        let others = voters.iter().filter(|m| m.peer.node_id != me);
        let asked = others.map(|manager| async {
            let addr = &manager.peer.addr;
            match timeout(PROBE_BOUND, dialer.probe(addr)).await {
                Ok(Ok(())) if has_removed_us(dialer, manager).await => (addr, Answer::Removed),
                Ok(Ok(())) => (addr, Answer::Here),
                Ok(Err(error)) => (addr, Answer::Down(error.to_string())),
                Err(_) => (addr, Answer::Down(format!("{addr} does not answer"))),
            }
        });
        let (mut down, mut removed_by, mut removals) = (Vec::new(), None, 0);
        let answers = join_all(asked).await;
        let others = answers.len();
        for (addr, answer) in answers {
            match answer {
                Answer::Here => {}
                Answer::Down(why) => down.push(why),
                Answer::Removed => {
                    down.push(format!("{addr} has removed this machine"));
                    removed_by = Some(addr.clone());
                    removals += 1;
                }
            }
        }
        Self {
            voters: voters.len().max(1),
            up: voters.len().max(1) - down.len(),
            down,
            removed_by,
            removals,
            others,
        }
    }

    /// [`Quorum::ask`] of a running store's managers.
    pub(crate) async fn of(handle: &Handle, dialer: &Dialer, me: NodeId) -> Self {
        Self::ask(handle.managers(), dialer, me).await
    }

    /// How many have to be there.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.voters / 2 + 1
    }

    /// Whether all others say that this machine was removed: none of them counts on it.
    #[must_use]
    pub fn is_removed_by_all(&self) -> bool {
        self.removals > 0 && self.removals == self.others
    }

    /// Whether too few are there for anything to be decided.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.up < self.needed()
    }

    /// What whoever asked for something should know. `revision` is how far this manager's state goes, `causes`
    /// what else went wrong.
    #[must_use]
    pub fn explain(&self, revision: u64, causes: Vec<String>) -> String {
        // It has nothing to say any more, whoever else is there.
        if let Some(addr) = &self.removed_by {
            return format!(
                "this machine was removed from the cluster, the manager at {addr} says: run `clusterctl leave --force` here, then join it again"
            );
        }
        let down = if self.down.is_empty() {
            causes
        } else {
            self.down.clone()
        };
        let why = match down.is_empty() {
            true => String::new(),
            false => format!(": {}", down.join("; ")),
        };
        let mut text = format!(
            "the cluster has no leader now: {} of {} managers can be reached, {} are needed{why}",
            self.up,
            self.voters,
            self.needed()
        );
        if self.is_lost() {
            text.push_str(&format!(
                "\n\nContainers run on meanwhile, and commands that only look show what this manager knows: `clusterctl --stale ...`. \
                 There are two ways out:\n\
                 \x20 - bring a manager back: start its machine and its clusterd, and unlock it where it is locked. Nothing is lost. Should they be up, and have \
                 other addresses than these, `clusterctl node update self --manager ADDRESS` here says where one is.\n\
                 \x20 - only if they are gone for good: `clusterctl init --force-new-cluster` here makes this machine \
                 the only manager. It goes on with what it has (revision {revision}); changes that only the others had \
                 are lost, and none of them may take part again: one that comes back has to `clusterctl leave --force` \
                 and join anew."
            ));
        }
        text
    }
}

/// Whether a manager that is there takes this machine for none of the cluster's: it went on without it.
async fn has_removed_us(dialer: &Dialer, manager: &ManagerState) -> bool {
    let mut client = RaftClient::new(dialer.node(&manager.peer.addr, manager.peer.node_id));
    let answer = timeout(PROBE_BOUND, client.health(HealthRequest {})).await;
    matches!(answer, Ok(Err(status)) if status.metadata().contains_key(GONE_KEY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(voters: usize, down: &[&str]) -> Quorum {
        Quorum {
            voters,
            up: voters - down.len(),
            down: down.iter().map(|text| (*text).to_owned()).collect(),
            removed_by: None,
            removals: 0,
            others: voters - 1,
        }
    }

    #[test]
    fn one_that_was_removed_is_told_that_and_no_way_to_force_itself_back() {
        let removed = |removals| Quorum {
            removed_by: Some("10.0.0.1:2377".into()),
            removals,
            ..quorum(3, &["10.0.0.1:2377 has removed this machine", "c is down"])
        };
        assert!(removed(2).is_removed_by_all());
        let removed = removed(1);
        // The other may count on this one.
        assert!(!removed.is_removed_by_all() && !quorum(1, &[]).is_removed_by_all());
        let text = removed.explain(42, vec![]);
        assert!(text.contains("the manager at 10.0.0.1:2377 says"), "{text}");
        assert!(text.contains("clusterctl leave --force`"), "{text}");
        assert!(!text.contains("force-new-cluster"), "{text}");
    }

    #[test]
    fn who_has_lost_the_majority_is_told_both_ways_out() {
        let text = quorum(3, &["b is down", "c is down"]).explain(42, vec![]);
        for part in [
            "1 of 3 managers can be reached, 2 are needed: b is down; c is down",
            "bring a manager back",
            "init --force-new-cluster",
            "revision 42",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_mere_election_is_no_reason_to_give_managers_up() {
        let text = quorum(3, &["b is down"]).explain(42, vec!["x".into()]);
        assert!(text.ends_with("2 are needed: b is down"), "{text}");
        let text = quorum(3, &[]).explain(42, vec!["x".into()]);
        assert!(text.ends_with("2 are needed: x"), "{text}");
        assert!(quorum(2, &["b"]).is_lost() && !quorum(1, &[]).is_lost());
        assert!(quorum(4, &["b", "c"]).is_lost() && !quorum(5, &["b", "c"]).is_lost());
    }
}
