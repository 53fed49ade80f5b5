//! Who leads, who the managers are, and how that changes.
//!
//! A change passes through a joint configuration, which needs both the old majority and the new one. One that
//! its leader did not live to finish is finished by the next.

use crate::error::{ProposeError, closing, write_failed};
use crate::handle::{Handle, PAUSE};
use crate::network::Book;
use crate::types::{LogId, Peer, TypeConfig};
use api::model::NodeId;
use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::{ChangeMembers, RaftMetrics};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// A manager not heard of for this long is taken for unreachable.
const SILENT: Duration = Duration::from_secs(2);
/// How long a change of the managers waits for its majority.
const CHANGE_BOUND: Duration = Duration::from_secs(10);
/// How long a new manager may be out of reach.
const REACH_BOUND: Duration = Duration::from_secs(10);
/// How long a new manager may take over the next step of catching up: a whole snapshot is one.
const CATCH_UP_BOUND: Duration = Duration::from_secs(120);
/// Entries that a new manager may be behind when it becomes a voter.
const LAG_MAX: u64 = 100;
/// How long before a change left half made is tried again.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// Who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<Peer>,
    /// Raft's term.
    pub term: u64,
    /// This manager leads.
    pub own: bool,
}

/// A manager, as the one asked knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerState {
    /// Who and where.
    pub peer: Peer,
    /// Whether it votes; one that doesn't is still catching up.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// How many entries it is behind; 0 where only the leader knows.
    pub lag: u64,
    /// Whether the leader hears of it; true where only the leader knows.
    pub reachable: bool,
}

/// Who leads, by the part of the metrics that changes with it. What has ended leads nobody: that is to be looked at
/// apart.
pub(crate) fn leadership(metrics: &RaftServerMetrics<TypeConfig>) -> Leadership {
    let leader = metrics.current_leader;
    Leadership {
        leader: leader.and_then(|id| metrics.membership_config.get_node(&id).cloned()),
        term: metrics.vote.leader_id.term,
        own: leader == Some(metrics.id),
    }
}

pub(crate) fn book(metrics: &RaftServerMetrics<TypeConfig>) -> Book {
    metrics
        .membership_config
        .nodes()
        .map(|(id, peer)| (*id, peer.clone()))
        .collect()
}

/// Entries that this manager, leading, knows another to be behind.
fn lag(metrics: &RaftMetrics<TypeConfig>, matched: Option<&LogId>) -> u64 {
    metrics
        .last_log_index
        .unwrap_or(0)
        .saturating_sub(matched.map_or(0, |log| log.index))
}

fn managers(metrics: &RaftMetrics<TypeConfig>) -> Vec<ManagerState> {
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    metrics
        .membership_config
        .nodes()
        .map(|(id, peer)| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id));
            let beat = metrics.heartbeat.as_ref().and_then(|all| all.get(id));
            let own = *id == metrics.id;
            ManagerState {
                peer: peer.clone(),
                voter: voters.contains(id),
                leader: metrics.current_leader == Some(*id),
                lag: matched
                    .filter(|_| !own)
                    .map_or(0, |matched| lag(metrics, matched.as_ref())),
                reachable: match beat {
                    Some(beat) if !own => beat.as_ref().is_some_and(|at| at.elapsed() < SILENT),
                    _ => true,
                },
            }
        })
        .collect()
}

/// Whether this manager leads and has not heard of some voter since it began to.
fn has_unheard(metrics: &RaftMetrics<TypeConfig>) -> bool {
    let Some(beats) = &metrics.heartbeat else {
        return false;
    };
    let mut others = metrics
        .membership_config
        .voter_ids()
        .filter(|id| *id != metrics.id);
    others.any(|id| !matches!(beats.get(&id), Some(Some(_))))
}

/// Whether those that would remain could decide anything.
fn would_remain(all: &[ManagerState], gone: NodeId) -> Result<(), ProposeError> {
    let rest = || all.iter().filter(|m| m.voter && m.peer.node_id != gone);
    let (voters, reached) = (rest().count(), rest().filter(|m| m.reachable).count());
    if voters == 0 {
        return Err(ProposeError::Unavailable(
            "this is the last manager: the cluster's state would be lost with it".into(),
        ));
    }
    if reached * 2 <= voters {
        return Err(ProposeError::Unavailable(format!(
            "of the {voters} managers that would remain only {reached} can be reached, and they could decide nothing; bring the others back, or remove those first"
        )));
    }
    Ok(())
}

impl Handle {
    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The managers.
    #[must_use]
    pub fn managers(&self) -> Vec<ManagerState> {
        managers(&self.raft.metrics().borrow_watched())
    }

    /// Whether this manager is the only one.
    pub(crate) fn is_alone(&self) -> bool {
        self.managers()
            .iter()
            .all(|m| m.peer.node_id == self.own.node_id)
    }

    /// Whether it is the only manager of a cluster.
    pub(crate) fn is_the_only_one(&self) -> bool {
        matches!(&self.managers()[..], [one] if one.voter && one.peer.node_id == self.own.node_id)
    }

    /// Makes a node a manager: a learner until it has caught up, then a voter. Twice is once; with another
    /// address it is known by that from then on. One that doesn't catch up is taken out again.
    ///
    /// # Errors
    /// When this manager doesn't lead, no majority answers, or the new one can't be reached.
    pub async fn add_manager(&self, node: NodeId, addr: String) -> Result<(), ProposeError> {
        let _one_at_a_time = self.changing.lock().await;
        self.settle().await?;
        let (id, peer) = (
            node.raft_id(),
            Peer {
                node_id: node,
                addr,
            },
        );
        let nodes = BTreeMap::from([(id, peer.clone())]);
        let metrics = self.metrics();
        let is_new = match metrics.membership_config.get_node(&id) {
            None => {
                self.change(ChangeMembers::AddNodes(nodes)).await?;
                true
            }
            Some(known) if known.node_id != node => {
                let text = format!(
                    "node {node} would have the Raft id of node {}; remove one of them",
                    known.node_id
                );
                return Err(ProposeError::Unavailable(text));
            }
            Some(known) => {
                if *known != peer {
                    self.addresses.has_moved(id, peer.clone());
                    let changed = self.change(ChangeMembers::SetNodes(nodes)).await;
                    self.addresses.has_settled(id);
                    changed?;
                }
                false
            }
        };
        if metrics
            .membership_config
            .voter_ids()
            .any(|voter| voter == id)
        {
            return Ok(());
        }
        let made = match self.caught_up(id, &peer).await {
            Ok(()) => {
                self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])))
                    .await
            }
            Err(error) => Err(error),
        };
        if made.is_err() && is_new {
            // A learner that was not wanted. One that has become a voter after all is refused here.
            if let Err(error) = self
                .change(ChangeMembers::RemoveNodes(BTreeSet::from([id])))
                .await
            {
                tracing::warn!(%peer, %error, "a manager that did not come in can't be taken out again");
            }
        }
        made
    }

    /// Waits until a learner has almost all that this manager has.
    async fn caught_up(&self, id: u64, peer: &Peer) -> Result<(), ProposeError> {
        let mut metrics = self.raft.metrics();
        let began = Instant::now();
        let mut step = (None, began);
        loop {
            let (matched, is_heard) = {
                let now = metrics.borrow_watched();
                let Some(all) = &now.replication else {
                    let leader = self.leadership().borrow().leader.clone();
                    return Err(ProposeError::NotLeader { leader });
                };
                let matched = all.get(&id).copied().flatten();
                if matched.is_some() && lag(&now, matched.as_ref()) <= LAG_MAX {
                    return Ok(());
                }
                (
                    matched,
                    now.heartbeat
                        .as_ref()
                        .and_then(|all| all.get(&id))
                        .is_some_and(Option::is_some),
                )
            };
            if matched != step.0 {
                step = (matched, Instant::now());
            }
            let end = match is_heard || matched.is_some() {
                true => step.1 + CATCH_UP_BOUND,
                false => began + REACH_BOUND,
            };
            match timeout_at(end, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(ended)) => return Err(closing(ended)),
                Err(_) => {
                    let text = format!(
                        "manager {peer} can't be reached, or does not catch up; it was not taken in"
                    );
                    return Err(ProposeError::Unavailable(text));
                }
            }
        }
    }

    /// Takes a node out of the managers. Twice is once.
    ///
    /// # Errors
    /// When it is the last one, those that remain could decide nothing, this manager doesn't lead, or no
    /// majority answers.
    pub async fn remove_manager(&self, node: NodeId) -> Result<(), ProposeError> {
        // Whoever comes in meanwhile doesn't wait for those that are not heard of.
        self.check_removal(node).await?;
        let _one_at_a_time = self.changing.lock().await;
        self.settle().await?;
        let id = node.raft_id();
        let all = self.managers();
        let Some(known) = all.iter().find(|m| m.peer.node_id == node) else {
            return Ok(());
        };
        if known.voter {
            would_remain(&all, node)?;
            // It is not kept as a learner.
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])))
                .await
        } else {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])))
                .await
        }
    }

    /// Gives the lead to another manager. Returns once that is asked; who leads then, [`Handle::leadership`]
    /// says.
    ///
    /// # Errors
    /// When this manager doesn't lead, the other is none, or the consensus has ended.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), ProposeError> {
        let now = self.leadership().borrow().clone();
        if !now.own {
            return Err(ProposeError::NotLeader { leader: now.leader });
        }
        if to == self.own.node_id {
            return Ok(());
        }
        if !self
            .managers()
            .iter()
            .any(|m| m.voter && m.peer.node_id == to)
        {
            return Err(ProposeError::Unavailable(format!(
                "node {to} is no manager that could lead"
            )));
        }
        self.raft
            .trigger()
            .transfer_leader(to.raft_id())
            .await
            .map_err(closing)
    }

    /// The log index at which the managers last changed, as far as this one knows.
    #[must_use]
    pub fn members_index(&self) -> u64 {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .membership_config
            .log_id()
            .as_ref()
            .map_or(0, |log| log.index)
    }

    /// Returns once this manager knows that it votes since that change of the managers, or a later one.
    pub async fn votes_since(&self, index: u64) {
        let mut metrics = self.raft.metrics();
        loop {
            let own = self.own.node_id.raft_id();
            let votes = {
                let now = metrics.borrow_watched();
                let known = now.membership_config.log_id().as_ref().map(|log| log.index);
                known >= Some(index) && now.membership_config.voter_ids().any(|id| id == own)
            };
            if votes {
                return;
            }
            if metrics.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether a node could be taken out of the managers now. A leader that has just begun has not heard of all
    /// the others yet: it waits for them as long as a silent one is taken for reachable.
    ///
    /// # Errors
    /// Says why it can't: it is the last one, or those that remain could decide nothing.
    pub async fn check_removal(&self, node: NodeId) -> Result<(), ProposeError> {
        let end = Instant::now() + SILENT;
        let mut metrics = self.raft.metrics();
        loop {
            let (checked, may_change) = {
                let now = metrics.borrow_watched();
                let all = managers(&now);
                let checked = match all.iter().find(|m| m.peer.node_id == node) {
                    Some(known) if known.voter => would_remain(&all, node),
                    _ => Ok(()),
                };
                (checked, has_unheard(&now))
            };
            if checked.is_ok() || !may_change {
                return checked;
            }
            match timeout_at(end, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(ended)) => return Err(closing(ended)),
                Err(_) => return checked,
            }
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Result<(), ProposeError> {
        let end = Instant::now() + CHANGE_BOUND;
        loop {
            let made = self.raft.change_membership(change.clone(), false);
            let Ok(made) = timeout_at(end, made).await else {
                return Err(ProposeError::Unavailable(format!(
                    "no majority of the managers confirmed the change of managers within {} s; it may still be made",
                    CHANGE_BOUND.as_secs()
                )));
            };
            match made {
                Ok(response) => {
                    // For whoever asks for the managers next.
                    let seen = self
                        .raft
                        .wait(Some(end.saturating_duration_since(Instant::now())));
                    let seen = seen.metrics(
                        |m| *m.membership_config.log_id() >= Some(response.log_id),
                        "the change of the managers",
                    );
                    if let Err(error) = seen.await {
                        tracing::debug!(%error, "the managers are shown late");
                    }
                    return Ok(());
                }
                // An earlier change is not committed yet.
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_),
                ))) if Instant::now() + PAUSE < end => sleep(PAUSE).await,
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                    self.not_leader(forward, end).await?;
                }
                Err(error) => return Err(write_failed(error)),
            }
        }
    }

    fn is_half_made(&self) -> bool {
        let servers = self.raft.server_metrics();
        let servers = servers.borrow_watched();
        let membership = servers.membership_config.membership();
        membership.get_joint_config().len() > 1 && servers.current_leader == Some(servers.id)
    }

    /// Finishes a change that was left half made. Only while `changing` is held.
    async fn settle(&self) -> Result<(), ProposeError> {
        if self.is_half_made() {
            tracing::info!("finishing a change of the managers");
            self.change(ChangeMembers::AddVoterIds(BTreeSet::new()))
                .await?;
        }
        Ok(())
    }

    /// Goes on until the consensus ends.
    pub(crate) async fn settle_always(self) {
        // The others change with each write.
        let mut servers = self.raft.server_metrics();
        loop {
            servers.borrow_and_update();
            if self.is_half_made() {
                let settled = {
                    // Whoever makes a change now finishes it.
                    let _one_at_a_time = self.changing.lock().await;
                    self.settle().await
                };
                if let Err(error) = settled {
                    tracing::debug!(%error, "a change of the managers is not finished yet");
                    sleep(SETTLE_AGAIN).await;
                    continue;
                }
            }
            if servers.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(node: u128, voter: bool, reachable: bool) -> ManagerState {
        let peer = Peer {
            node_id: NodeId(node),
            addr: String::new(),
        };
        ManagerState {
            peer,
            voter,
            leader: false,
            lag: 0,
            reachable,
        }
    }

    #[test]
    fn a_manager_goes_only_if_those_that_remain_can_decide() {
        let check = |all: &[(bool, bool)], gone: u128| {
            let all: Vec<_> = (1..)
                .zip(all)
                .map(|(node, (voter, reachable))| manager(node, *voter, *reachable))
                .collect();
            would_remain(&all, NodeId(gone)).map_err(|e| e.to_string())
        };
        assert!(
            check(&[(true, true)], 1)
                .unwrap_err()
                .contains("last manager")
        );
        assert!(
            check(&[(true, true), (false, true)], 1)
                .unwrap_err()
                .contains("last manager")
        );
        check(&[(true, true), (true, false)], 2).unwrap();
        assert!(
            check(&[(true, true), (true, false)], 1)
                .unwrap_err()
                .contains("only 0")
        );
        check(&[(true, true), (true, true), (true, false)], 3).unwrap();
        assert!(
            check(&[(true, true), (true, true), (true, false)], 2)
                .unwrap_err()
                .contains("only 1")
        );
        check(&[(true, true), (true, true), (true, true)], 2).unwrap();
    }
}
