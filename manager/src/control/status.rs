//! The cluster as a whole, and its join tokens.

use super::{Change, Control, Refusal, reason, shortage};
use crate::ca::{Tokens, new_secret};
use crate::clock::now;
use crate::raft_rpc;
use api::convert;
use api::model::{Node, NodeId, NodeState, ServiceMode};
use api::proto::raft_client::RaftClient;
use api::proto::{
    ClusterSpec, ClusterStatus, GetJoinTokensRequest, GetStatusRequest, HealthReply, HealthRequest,
    JoinTokens, ManagerStatus, NodeTrouble,
};
use api::state::{Op, State};
use futures_util::future::join_all;
use raft_store::Peer;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status};

/// How long a manager may take to say how it does.
const HEALTH_BOUND: Duration = Duration::from_millis(1_500);
/// Nodes, and services, that are told of by name.
const TROUBLES: usize = 20;

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub async fn get(control: &Control, _: GetStatusRequest) -> Result<ClusterStatus, Status> {
    let clocks = control.overview.wrong_clocks();
    let mut status = control.read(|state| summary(state, &clocks)).await?;
    status.stale = control.stale;
    status.answered_by = convert::id_bytes(control.me.0);
    let asked = control.handle.managers().into_iter().map(|manager| async {
        let health = health(control, &manager.peer).await;
        (manager, health)
    });
    for (manager, health) in join_all(asked).await {
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
        // It may be heard of and not answer, or the other way round: then not all is well.
        let reachable = manager.reachable && health.is_ok();
        let trouble = health.as_ref().err().cloned().unwrap_or_default();
        status.managers.push(ManagerStatus {
            node_id: convert::id_bytes(id.0),
            hostname,
            addr: manager.peer.addr,
            leader: manager.leader,
            voter: manager.voter,
            reachable,
            lag: manager.lag,
            health: health.ok(),
            trouble,
        });
    }
    Ok(status)
}

/// The first nodes that are not ready, then those whose clocks are wrong: `clocks` are so far ahead, milliseconds.
fn troubles(state: &State, clocks: &BTreeMap<NodeId, i64>) -> Vec<NodeTrouble> {
    let is_ready = |node: &Node| node.status.state == NodeState::Ready;
    let not_ready = state.nodes().values().filter(|node| !is_ready(node));
    let wrong = clocks.keys().filter_map(|id| state.nodes().get(id));
    not_ready
        .chain(wrong.filter(|node| is_ready(node)))
        .take(TROUBLES)
        .map(|node| NodeTrouble {
            node_id: convert::id_bytes(node.id.0),
            hostname: node.description.hostname.clone(),
            addr: node.addr.to_string(),
            status: (!is_ready(node)).then(|| (&node.status).into()),
            clock_ahead_ms: clocks.get(&node.id).copied().unwrap_or_default(),
        })
        .collect()
}

/// Asks a manager how it does.
async fn health(control: &Control, peer: &Peer) -> Result<HealthReply, String> {
    if peer.node_id == control.me {
        return Ok(raft_rpc::health(&control.handle, &control.instance));
    }
    let mut client = RaftClient::new(control.dialer.node(&peer.addr, peer.node_id));
    match timeout(HEALTH_BOUND, client.health(HealthRequest {})).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        // Of a version that can't say is there all the same.
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(HealthReply::default()),
        Ok(Err(status)) => Err(reason(&status)),
        Err(_) => Err(format!("{} does not answer", peer.addr)),
    }
}

fn summary(state: &State, clocks: &BTreeMap<NodeId, i64>) -> ClusterStatus {
    let wanted = state.services().values().map(|service| {
        let ServiceMode::Replicated { replicas } = service.spec.mode;
        replicas
    });
    let running = shortage::running(state);
    let (short, short_count) = shortage::short(state, &running, now(), TROUBLES);
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
        tasks_running: running.values().fold(0, |sum, n| sum.saturating_add(*n)),
        tasks_wanted: wanted.fold(0, u32::saturating_add),
        spec: state.cluster().map(|c| ClusterSpec::from(&c.spec)),
        backups: Some(super::backups::show(state)),
        troubles: troubles(state, clocks),
        wrong_clocks: count(clocks.len()),
        services_short: short,
        services_short_count: count(short_count),
        ..ClusterStatus::default()
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
