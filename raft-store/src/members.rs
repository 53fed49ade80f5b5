//! Who leads, and who the managers are.

use crate::types::{Peer, TypeConfig};
use openraft::RaftMetrics;
use openraft::async_runtime::Instant;
use std::collections::BTreeSet;
use std::time::Duration;

/// A follower not heard of for this long is taken for unreachable.
const SILENT: Duration = Duration::from_secs(2);

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

pub(crate) fn leadership(metrics: &RaftMetrics<TypeConfig>) -> Leadership {
    let leader = metrics.current_leader;
    Leadership {
        leader: leader.and_then(|id| metrics.membership_config.get_node(&id).cloned()),
        term: metrics.current_term,
        own: leader == Some(metrics.id),
    }
}

pub(crate) fn managers(metrics: &RaftMetrics<TypeConfig>) -> Vec<ManagerState> {
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let last = metrics.last_log_index.unwrap_or(0);
    metrics
        .membership_config
        .nodes()
        .map(|(id, peer)| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id));
            let beat = metrics.heartbeat.as_ref().and_then(|all| all.get(id));
            let own = *id == metrics.id;
            let lag = match matched {
                Some(matched) if !own => last.saturating_sub(matched.as_ref().map_or(0, |log| log.index)),
                _ => 0,
            };
            let reachable = match beat {
                Some(beat) if !own => beat.as_ref().is_some_and(|at| at.elapsed() < SILENT),
                _ => true,
            };
            ManagerState {
                peer: peer.clone(),
                voter: voters.contains(id),
                leader: metrics.current_leader == Some(*id),
                lag,
                reachable,
            }
        })
        .collect()
}
