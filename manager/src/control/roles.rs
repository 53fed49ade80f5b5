//! What a node shall be: manager or worker. Only the wish is written here; node and leader make it so, and go on with
//! it after a crash of either.

use super::{Change, Control, Refusal, lookup, propose_status};
use crate::proxy::retry_elsewhere;
use crate::raft_rpc::hand_over;
use api::convert;
use api::model::Role;
use api::proto::{self, SetNodeRoleReply, SetNodeRoleRequest};
use api::state::Op;
use tonic::Status;

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
        control
            .handle
            .check_removal(node.id)
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
