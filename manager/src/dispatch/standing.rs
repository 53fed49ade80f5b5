//! What nodes are told beside their assignments: what their identity should be, and where the managers are.

use super::GONE_KEY;
use crate::ca::{role_now, root_digest};
use api::convert;
use api::model::{NodeId, Role};
use api::proto::Standing;
use api::state::State;
use raft_store::Handle;
use std::collections::BTreeSet;
use tonic::Status;

/// What is to be told: to whom, what is then known to be told, and the words.
type Due = (NodeId, (Role, u64), Standing);

/// Of these nodes, with what each was told last, those that have to hear something new.
pub fn due(
    state: &State,
    managers: &BTreeSet<NodeId>,
    nodes: impl Iterator<Item = (NodeId, Option<(Role, u64)>)>,
) -> Vec<Due> {
    let Some(cluster) = state.cluster() else {
        return Vec::new();
    };
    let mut due = Vec::new();
    let mut common: Option<Standing> = None;
    for (id, told) in nodes {
        let Some(node) = state.nodes().get(&id) else {
            continue;
        };
        let now = (role_now(node, managers), cluster.meta.revision);
        if told == Some(now) {
            continue;
        }
        let common = common.get_or_insert_with(|| Standing {
            roots_pem: cluster.roots_pem(),
            issuer: root_digest(&cluster.ca.cert_pem).unwrap_or_default(),
            revoked: cluster
                .revoked
                .keys()
                .map(|gone| convert::id_bytes(gone.0))
                .collect(),
            ..Standing::default()
        });
        let standing = Standing {
            role: now.0.as_str().into(),
            held_issuer: node.cert.issuer.clone(),
            ..common.clone()
        };
        due.push((id, now, standing));
    }
    due
}

/// `host:port` of every manager that votes; all of them when none does yet.
pub fn managers(handle: &Handle) -> Vec<String> {
    let all = handle.managers();
    let mut addrs: Vec<String> = all
        .iter()
        .filter(|manager| manager.voter)
        .map(|manager| manager.peer.addr.clone())
        .collect();
    if addrs.is_empty() {
        addrs = all.into_iter().map(|manager| manager.peer.addr).collect();
    }
    addrs.sort();
    addrs
}

/// A refusal of a node that was removed.
pub fn marked(text: String) -> Status {
    let mut status = Status::permission_denied(text);
    let yes = tonic::metadata::MetadataValue::from_static("1");
    status.metadata_mut().insert(GONE_KEY, yes);
    status
}

/// What a node that was removed is told.
pub(crate) fn removed_text(node: NodeId) -> String {
    format!(
        "node {node} was removed from the cluster; run `clusterctl leave --force` on it, then join again"
    )
}

/// The end of a session of a node that was removed.
pub fn gone(node: NodeId) -> Status {
    marked(removed_text(node))
}
