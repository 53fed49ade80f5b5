//! The cluster as a whole, and its join tokens.

use super::{Change, Control, Refusal};
use crate::ca::{Tokens, new_secret};
use api::convert;
use api::model::{NodeState, ServiceMode, TaskState};
use api::proto::{
    ClusterSpec, ClusterStatus, GetJoinTokensRequest, GetStatusRequest, JoinTokens, ManagerStatus,
};
use api::state::{Op, State};
use tonic::Status;

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub async fn get(control: &Control, _: GetStatusRequest) -> Result<ClusterStatus, Status> {
    let mut status = control.read(summary).await?;
    for manager in control.handle.managers() {
        let id = manager.peer.node_id;
        let hostname = control
            .handle
            .read(|state| {
                state
                    .nodes()
                    .get(&id)
                    .map(|node| node.description.hostname.clone())
            })
            .unwrap_or_default();
        status.managers.push(ManagerStatus {
            node_id: convert::id_bytes(id.0),
            hostname,
            addr: manager.peer.addr,
            leader: manager.leader,
            voter: manager.voter,
            reachable: manager.reachable,
            lag: manager.lag,
        });
    }
    Ok(status)
}

fn summary(state: &State) -> ClusterStatus {
    let wanted = state.services().values().map(|service| {
        let ServiceMode::Replicated { replicas } = service.spec.mode;
        replicas
    });
    let running = state.tasks().values().filter(|task| {
        task.status.state == TaskState::Running && task.desired <= TaskState::Running
    });
    let ready = state
        .nodes()
        .values()
        .filter(|node| node.status.state == NodeState::Ready);
    ClusterStatus {
        cluster_id: state
            .cluster()
            .map(|c| convert::id_bytes(c.id.0))
            .unwrap_or_default(),
        managers: Vec::new(),
        revision: state.revision(),
        nodes: count(state.nodes().len()),
        nodes_ready: count(ready.count()),
        services: count(state.services().len()),
        tasks_running: count(running.count()),
        tasks_wanted: wanted.fold(0, u32::saturating_add),
        spec: state.cluster().map(|c| ClusterSpec::from(&c.spec)),
    }
}

pub async fn join_tokens(
    control: &Control,
    request: GetJoinTokensRequest,
) -> Result<JoinTokens, Status> {
    control
        .change(|state, _| {
            let cluster = state
                .cluster()
                .ok_or_else(|| Refusal::not_found("there is no cluster yet"))?;
            let mut changed = (**cluster).clone();
            if request.rotate_worker {
                changed.tokens.worker = new_secret();
            }
            if request.rotate_manager {
                changed.tokens.manager = new_secret();
            }
            let tokens = Tokens::of(&changed).map_err(|e| Refusal::first(e.to_string()))?;
            let answer = JoinTokens {
                worker: tokens.worker.to_string(),
                manager: tokens.manager.to_string(),
                addr: control.addr.clone(),
            };
            let ops = if changed == **cluster {
                Vec::new()
            } else {
                vec![Op::UpdateCluster {
                    at_revision: cluster.meta.revision,
                    cluster: Box::new(changed),
                }]
            };
            Ok(Change { ops, answer })
        })
        .await
}
