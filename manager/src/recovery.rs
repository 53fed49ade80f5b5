//! A cluster that goes on with one manager: the others are given up.
//!
//! Those that were given up are fenced: their ids are never used again, so whatever one of them says later,
//! with a certificate that is still good, is refused by every manager of the cluster that went on.

use crate::backup;
use crate::ca::CaError;
use crate::identity::Identity;
use api::model::{NodeId, Role, Timestamp};
use api::state::{ApplyError, Op, State, Transaction};
use raft_store::recover::{self, Fresh};
use raft_store::{DataKey, OpenError, Peer};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Why a cluster can't be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store of this manager.
    #[error("this manager's state can't be read")]
    Store(#[source] OpenError),
    /// The disk.
    #[error("the new state can't be written")]
    Disk(#[from] io::Error),
    /// The backup's file.
    #[error(transparent)]
    File(#[from] backup::OpenError),
    /// What is in it.
    #[error("what is in it can't be used: {0}")]
    Content(String),
    /// The state refuses the change.
    #[error("the state can't be taken over: {0}")]
    Refused(#[from] ApplyError),
    /// A new certificate.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// It belongs to no cluster.
    #[error("this manager has not got the cluster's state yet, so it can't go on alone")]
    Empty,
}

/// What makes a state one of a cluster with one manager.
pub struct Alone {
    /// The change.
    pub ops: Vec<Op>,
    /// Managers that are none any more: `name address`.
    pub dropped: Vec<String>,
    /// Other nodes: `name address`.
    pub kept: Vec<String>,
}

/// Gives up every manager but one: those of the state, and those that took part.
///
/// # Errors
/// When there is no cluster.
pub fn alone(state: &State, managers: &[NodeId], own: NodeId) -> Result<Alone, RecoverError> {
    let cluster = state.cluster().ok_or(RecoverError::Empty)?;
    let by_role = state
        .nodes()
        .values()
        .filter(|node| node.spec.role == Role::Manager)
        .map(|node| node.id);
    let gone: BTreeSet<NodeId> = by_role
        .chain(managers.iter().copied())
        .filter(|id| *id != own)
        .collect();
    let mut changed = (**cluster).clone();
    changed.recovery.fenced.extend(&gone);
    let mut alone = Alone {
        ops: vec![Op::UpdateCluster {
            at_revision: cluster.meta.revision,
            cluster: Box::new(changed),
        }],
        dropped: Vec::new(),
        kept: Vec::new(),
    };
    for node in state.nodes().values().filter(|node| node.id != own) {
        let shown = format!("{} {}", node.description.hostname, node.addr);
        if gone.contains(&node.id) {
            alone.ops.push(Op::RemoveNode(node.id));
            alone.dropped.push(shown);
        } else {
            alone.kept.push(shown);
        }
    }
    Ok(alone)
}

/// Writes, beside the store of a manager that doesn't run, one in which it is the only manager;
/// [`raft_store::swap::settle`] puts it in place.
///
/// # Errors
/// See [`RecoverError`]; the store is as it was.
pub async fn force_new(
    dir: &Path,
    key: &DataKey,
    identity: Identity,
    addr: String,
    at: Timestamp,
) -> Result<Alone, RecoverError> {
    let found = recover::read(dir, key).await.map_err(RecoverError::Store)?;
    let managers: Vec<NodeId> = found.managers.iter().map(|peer| peer.node_id).collect();
    let mut alone = alone(&found.state, &managers, identity.node)?;
    let first = Transaction {
        at,
        ops: std::mem::take(&mut alone.ops),
    };
    let own = Peer {
        node_id: identity.node,
        addr,
    };
    let fresh = Fresh::new(
        found.state.tables(),
        found.index + 1,
        found.term + 1,
        own,
        first,
    )?;
    fresh.write(dir, key).await?;
    Ok(alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{apply, cluster_state, node};
    use api::model::Node;

    fn manager(id: u128, hostname: &str) -> Op {
        let mut node: Node = node(id, hostname);
        node.spec.role = Role::Manager;
        Op::CreateNode(Box::new(node))
    }

    #[test]
    fn every_other_manager_is_given_up_and_fenced_and_workers_stay() {
        let mut state = cluster_state();
        let worker = Op::CreateNode(Box::new(node(4, "worker")));
        apply(
            &mut state,
            vec![manager(1, "one"), manager(2, "two"), worker],
        );
        // 9 takes part, and its node was removed already.
        let made = alone(&state, &[NodeId(1), NodeId(2), NodeId(9)], NodeId(1)).unwrap();
        assert_eq!(made.dropped, ["two 192.0.2.2"]);
        assert_eq!(made.kept, ["worker 192.0.2.4"]);
        apply(&mut state, made.ops);
        let left: Vec<_> = state.nodes().keys().copied().collect();
        assert_eq!(left, [NodeId(1), NodeId(4)]);
        let fenced = &state.cluster().unwrap().recovery.fenced;
        assert_eq!(*fenced, BTreeSet::from([NodeId(2), NodeId(9)]));
        // And once more, later: what was fenced stays so.
        apply(&mut state, vec![manager(3, "three")]);
        let made = alone(&state, &[], NodeId(3)).unwrap();
        apply(&mut state, made.ops);
        let fenced = &state.cluster().unwrap().recovery.fenced;
        assert_eq!(*fenced, BTreeSet::from([NodeId(1), NodeId(2), NodeId(9)]));
    }

    #[test]
    fn a_manager_without_the_state_is_told_so() {
        assert!(matches!(
            alone(&State::new(), &[], NodeId(1)),
            Err(RecoverError::Empty)
        ));
    }
}
