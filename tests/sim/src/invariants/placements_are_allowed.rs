//! The scheduler gives a task only to a node that is ready, takes tasks and meets the service's constraints, and
//! whose ports it needs are free.

use super::Invariant;
use crate::sight::Sight;
use api::model::{Availability, NodeId, NodeState, Protocol, PublishedPort, ServiceId};
use api::state::{Op, State as Cluster};
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct State;

impl Invariant for State {
    fn name(&self) -> &'static str {
        "placements are allowed"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        let Sight::Decided { state, decision } = sight else {
            return Ok(());
        };
        let mut taken = BTreeSet::new();
        for op in decision.transactions.iter().flat_map(|t| &t.ops) {
            let (service, node, ports) = match op {
                Op::CreateTask(task) => (task.service, task.node, &task.ports),
                Op::AssignTask {
                    id, node, ports, ..
                } => {
                    let Some(task) = state.tasks().get(id) else {
                        continue;
                    };
                    (task.service, Some(*node), ports)
                }
                _ => continue,
            };
            if let Some(node) = node {
                allowed(state, service, node, ports, &mut taken)?;
            }
        }
        Ok(())
    }
}

fn allowed(
    state: &Cluster,
    service: ServiceId,
    id: NodeId,
    ports: &[PublishedPort],
    taken: &mut BTreeSet<(NodeId, Protocol, u16)>,
) -> Result<(), String> {
    let (Some(node), Some(service)) = (state.nodes().get(&id), state.services().get(&service))
    else {
        return Err(format!("a task is given to node {id}, which is not there"));
    };
    let name = &service.spec.name;
    if node.status.state != NodeState::Ready || node.spec.availability != Availability::Active {
        return Err(format!(
            "a task of {name} is given to node {id}, which is {:?} and {:?}",
            node.status.state, node.spec.availability
        ));
    }
    let wants_ssd = !service.spec.template.placement.constraints.is_empty();
    let disk = node.description.engine_labels.get("disk");
    if wants_ssd && disk.map(String::as_str) != Some("ssd") {
        return Err(format!(
            "a task of {name} is given to node {id}, whose disk is {disk:?}"
        ));
    }
    for port in ports {
        let held = state.port_holder(id, port.protocol, port.published);
        if held.is_some() || !taken.insert((id, port.protocol, port.published)) {
            return Err(format!(
                "a task of {name} is given port {} of node {id}, which is taken",
                port.published
            ));
        }
    }
    Ok(())
}
