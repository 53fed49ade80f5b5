//! Nodes: listed, labelled, drained, removed.

use super::{Change, Control, Refusal, lookup, propose_status};
use api::convert;
use api::model::{Availability, NodeId, NodeState, Role};
use api::proto::{
    self, ListNodesReply, ListNodesRequest, NodeRow, RemoveNodeReply, RemoveNodeRequest,
    UpdateNodeRequest,
};
use api::state::{Op, State};
use raft_store::ManagerState;
use std::collections::BTreeMap;
use std::time::Instant;
use tonic::Status;

pub async fn list(control: &Control, request: ListNodesRequest) -> Result<ListNodesReply, Status> {
    let managers: BTreeMap<NodeId, ManagerState> = control
        .handle
        .managers()
        .into_iter()
        .map(|manager| (manager.peer.node_id, manager))
        .collect();
    let rows = control
        .read(|state| {
            let mut chosen = Vec::new();
            if request.nodes.is_empty() {
                chosen.extend(state.nodes().values().cloned());
                chosen.sort_by(|a, b| {
                    (&a.description.hostname, a.id).cmp(&(&b.description.hostname, b.id))
                });
            }
            for text in &request.nodes {
                chosen.push(lookup::node(state, text)?);
            }
            Ok::<_, Refusal>(
                chosen
                    .iter()
                    .map(|node| NodeRow {
                        suspect: control.overview.is_suspect(node.id),
                        twin: control
                            .overview
                            .twin(node.id, Instant::now())
                            .map(|addr| addr.to_string())
                            .unwrap_or_default(),
                        clock_ahead_ms: control.overview.clock_ahead_ms(node.id),
                        ..row(state, node, &managers)
                    })
                    .collect(),
            )
        })
        .await??;
    Ok(ListNodesReply { nodes: rows })
}

fn row(
    state: &State,
    node: &api::model::Node,
    managers: &BTreeMap<NodeId, ManagerState>,
) -> NodeRow {
    let tasks = state
        .tasks_of_node(node.id)
        .filter(|task| !task.status.state.is_ended())
        .count();
    let manager = managers.get(&node.id);
    NodeRow {
        node: Some(node.into()),
        leader: manager.is_some_and(|manager| manager.leader),
        reachable: manager.map_or(node.status.state == NodeState::Ready, |manager| {
            manager.reachable
        }),
        voter: manager.is_some_and(|manager| manager.voter),
        manager: manager.is_some(),
        tasks: u32::try_from(tasks).unwrap_or(u32::MAX),
        ..NodeRow::default()
    }
}

pub async fn update(control: &Control, request: UpdateNodeRequest) -> Result<proto::Node, Status> {
    let availability = request
        .availability
        .map(|number| {
            convert::enumeration::<proto::Availability>(number).and_then(Availability::try_from)
        })
        .transpose()
        .map_err(Refusal::from)?;
    for key in request.labels_set.keys() {
        if key.is_empty() || key.contains(['=', '\0']) || key.len() > 256 {
            return Err(Refusal::invalid(format!("{key:?} is no key of a label")).into());
        }
    }
    let id = control
        .change(|state, _| {
            let node = lookup::node(state, &request.node)?;
            let mut spec = node.spec.clone();
            if let Some(availability) = availability {
                spec.availability = availability;
            }
            for key in &request.labels_removed {
                if spec.labels.remove(key).is_none() {
                    let name = &node.description.hostname;
                    return Err(Refusal::not_found(format!(
                        "node {name} has no label {key:?}"
                    )));
                }
            }
            spec.labels.extend(
                request
                    .labels_set
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone())),
            );
            let ops = if spec == node.spec {
                Vec::new()
            } else {
                vec![Op::UpdateNode {
                    id: node.id,
                    spec,
                    at_revision: node.meta.revision,
                }]
            };
            Ok(Change {
                ops,
                answer: node.id,
            })
        })
        .await?;
    control
        .handle
        .read(|state| {
            state
                .nodes()
                .get(&id)
                .map(|node| proto::Node::from(&**node))
        })
        .ok_or_else(|| Status::not_found("the node was removed meanwhile"))
}

pub async fn remove(
    control: &Control,
    request: RemoveNodeRequest,
) -> Result<RemoveNodeReply, Status> {
    let node = control
        .read(|state| lookup::node(state, &request.node))
        .await??;
    let name = if node.description.hostname.is_empty() {
        node.id.to_string()
    } else {
        node.description.hostname.clone()
    };
    let may_still_run = control.handle.read(|state| {
        let tasks = state.tasks_of_node(node.id);
        let names = tasks.filter(|task| state.may_still_run(task));
        names.map(|task| task.name()).collect::<Vec<_>>()
    });
    let managers = control.handle.managers();
    let is_manager = managers
        .iter()
        .any(|manager| manager.peer.node_id == node.id);
    let mut others = managers
        .iter()
        .filter(|manager| manager.voter && manager.peer.node_id != node.id);
    if is_manager && others.next().is_none() {
        return Err(Refusal::first(format!(
            "node {name} is the only manager: without it there is no cluster; to end the cluster, run `clusterctl leave \
             --force` on it"
        ))
        .into());
    }
    if !request.force {
        if node.status.state == NodeState::Ready {
            return Err(Refusal::first(format!(
                "node {name} is ready: run `clusterctl leave` on it first, or remove it with --force"
            ))
            .into());
        }
        if !may_still_run.is_empty() {
            return Err(Refusal::first(format!(
                "node {name} is down and may still run {}, which must not run twice: wait until the lease is over, or make sure that the node is off and remove it with --force",
                may_still_run.join(", ")
            ))
            .into());
        }
        if node.spec.role == Role::Manager && is_manager {
            return Err(Refusal::first(format!(
                "node {name} is down, and a manager, so that its vote counts: bring it back and run `clusterctl leave` on it, or remove it with --force when it is gone for good"
            ))
            .into());
        }
    }
    if is_manager {
        if node.id == control.me {
            return Err(Refusal::first(format!(
                "node {name} leads the cluster: run `clusterctl leave` on it instead"
            ))
            .into());
        }
        control
            .handle
            .remove_manager(node.id)
            .await
            .map_err(|e| propose_status(e, true))?;
    }
    control
        .change(|state, _| {
            // Gone meanwhile is gone.
            let ops = state
                .nodes()
                .get(&node.id)
                .map(|node| Op::RemoveNode(node.id))
                .into_iter()
                .collect();
            Ok(Change {
                ops,
                answer: RemoveNodeReply {},
            })
        })
        .await
}
