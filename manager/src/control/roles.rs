//! What a node shall be: manager or worker. Only the wish is written here; node and leader make it so, and go on with
//! it after a crash of either.

use super::{Change, Control, Refusal, lookup, propose_status};
use crate::proxy::retry_elsewhere;
use crate::raft_rpc::hand_over;
use api::convert;
use api::model::{NodeId, Role};
use api::proto::{self, SetNodeRoleReply, SetNodeRoleRequest};
use api::state::Op;
use raft_store::{Handle, ProposeError};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::Status;

/// How long a new leader is given to hear of the other managers.
const HEAR_BOUND: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_millis(50);

pub async fn set(
    control: &Control,
    request: SetNodeRoleRequest,
) -> Result<SetNodeRoleReply, Status> {
    let role = convert::enumeration::<proto::Role>(request.role)
        .and_then(Role::try_from)
        .map_err(Refusal::from)?;
    let node = control
        .read(|state| lookup::node(state, &request.node))
        .await??;
    let name = if node.description.hostname.is_empty() {
        node.id.to_string()
    } else {
        node.description.hostname.clone()
    };
    let is_manager = || {
        let managers = control.handle.managers();
        managers.iter().any(|m| m.peer.node_id == node.id)
    };
    if role == Role::Worker && is_manager() {
        can_go(&control.handle, node.id)
            .await
            .map_err(|error| Refusal::first(format!("node {name} stays a manager: {error}")))?;
        if node.id == control.me {
            hand_over(&control.handle, control.me).await?;
            return Err(retry_elsewhere("the lead is being handed over"));
        }
    }
    control
        .change(|state, _| {
            let node = lookup::node(state, &node.id.to_string())?;
            let mut spec = node.spec.clone();
            spec.role = role;
            let ops = match spec == node.spec {
                true => Vec::new(),
                false => vec![Op::UpdateNode {
                    id: node.id,
                    spec,
                    at_revision: node.meta.revision,
                }],
            };
            Ok(Change { ops, answer: () })
        })
        .await?;
    tracing::info!(node = %node.id, role = role.as_str(), "a node's role is to be another");
    if role == Role::Worker && is_manager() {
        // What fails here is tried again by the leader, whoever that is then.
        if let Err(error) = control.handle.remove_manager(node.id).await {
            tracing::warn!(node = %node.id, "not let go yet: {}", propose_status(error, true).message());
        }
    }
    Ok(SetNodeRoleReply {
        node_id: convert::id_bytes(node.id.0),
    })
}

/// Whether a manager can be let go. A leader that has just begun has not heard of the others yet, and gives them the
/// time to answer.
async fn can_go(handle: &Handle, node: NodeId) -> Result<(), ProposeError> {
    let end = Instant::now() + HEAR_BOUND;
    loop {
        let has_others = handle
            .managers()
            .iter()
            .any(|manager| manager.voter && manager.peer.node_id != node);
        match handle.check_removal(node) {
            Err(_) if has_others && Instant::now() < end => sleep(PAUSE).await,
            checked => return checked,
        }
    }
}
