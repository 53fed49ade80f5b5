//! What some events may have changed for nodes, sorted by whom it concerns: pure.

use api::model::{NetworkId, NodeId, Service, ServiceId, Task, TaskId};
use api::state::{Event, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Objects that are to be looked at anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Tasks, by the node that is to know of them.
    pub tasks: BTreeMap<NodeId, BTreeSet<TaskId>>,
    /// Endpoints, by network.
    pub endpoints: BTreeMap<NetworkId, BTreeSet<TaskId>>,
    /// Services, by network.
    pub services: BTreeMap<NetworkId, BTreeSet<ServiceId>>,
    /// Networks themselves.
    pub networks: BTreeSet<NetworkId>,
}

impl Batch {
    /// Nothing concerns any node.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds an event. The state may be newer than the event: what it names is looked up there again.
    pub fn add(&mut self, event: &Event, state: &State) {
        match event {
            Event::Task(id, old, new) => self.task(*id, old.as_ref(), new.as_ref()),
            Event::Service(id, old, new) => {
                for network in old
                    .iter()
                    .chain(new)
                    .flat_map(|service| networks_of(service))
                {
                    self.services.entry(network).or_default().insert(*id);
                }
            }
            Event::Network(id, ..) => drop(self.networks.insert(*id)),
            Event::Node(id, old, new) => {
                let moved =
                    old.as_ref().map(|node| node.addr) != new.as_ref().map(|node| node.addr);
                if moved {
                    for task in state.tasks_of_node(*id) {
                        self.endpoint(task);
                    }
                }
            }
            // A content never changes, and comes and goes with its tasks.
            Event::Cluster(..) | Event::Stack(..) | Event::Template(..) | Event::Blob(..) => {}
        }
    }

    fn task(&mut self, id: TaskId, old: Option<&Arc<Task>>, new: Option<&Arc<Task>>) {
        for node in old.into_iter().chain(new).filter_map(|task| task.node) {
            self.tasks.entry(node).or_default().insert(id);
        }
        // Most changes of a task (accepted, preparing, ...) are none of its endpoint's.
        let shape = |task: Option<&Arc<Task>>| {
            task.map(|task| {
                let is_ended = task.status.state.is_ended();
                (
                    is_ended,
                    task.is_running(),
                    task.node,
                    task.addresses.clone(),
                )
            })
        };
        if shape(old) != shape(new) {
            for task in old.into_iter().chain(new) {
                self.endpoint(task);
            }
        }
    }

    fn endpoint(&mut self, task: &Task) {
        for held in &task.addresses {
            self.endpoints
                .entry(held.network)
                .or_default()
                .insert(task.id);
        }
    }
}

fn networks_of(service: &Service) -> impl Iterator<Item = NetworkId> {
    service.spec.template.networks.iter().map(|on| on.network)
}
