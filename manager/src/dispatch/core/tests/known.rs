//! A node's side of the messages.

use crate::dispatch::view;
use api::convert;
use api::model::NodeId;
use api::proto::{AssignedBlob, AssignedTask, Assignments, Endpoint, NetworkView, ServiceView};
use api::state::State;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What a node knows, by adding up its messages as the agent does.
#[derive(Debug, Default, PartialEq)]
pub struct Known {
    pub tasks: BTreeMap<Bytes, AssignedTask>,
    pub networks: BTreeMap<Bytes, NetworkView>,
    pub endpoints: BTreeMap<(Bytes, Bytes), Endpoint>,
    pub services: BTreeMap<(Bytes, Bytes), ServiceView>,
    pub blobs: BTreeMap<Bytes, AssignedBlob>,
}

impl Known {
    pub fn take(&mut self, message: Assignments) {
        if message.full {
            *self = Self::default();
        }
        for id in message.tasks_removed {
            self.tasks.remove(&id);
        }
        for assigned in message.tasks {
            self.tasks
                .insert(assigned.task.as_ref().unwrap().id.clone(), assigned);
        }
        for id in message.networks_removed {
            self.networks.remove(&id);
            self.endpoints.retain(|(network, _), _| *network != id);
            self.services.retain(|(network, _), _| *network != id);
        }
        for network in message.networks {
            self.networks.insert(network.id.clone(), network);
        }
        for key in message.endpoints_removed {
            self.endpoints.remove(&(key.network, key.task));
        }
        for endpoint in message.endpoints {
            self.endpoints
                .insert((endpoint.network.clone(), endpoint.task.clone()), endpoint);
        }
        for key in message.services_removed {
            self.services.remove(&(key.network, key.service));
        }
        for service in message.services {
            self.services
                .insert((service.network.clone(), service.service.clone()), service);
        }
        for id in message.blobs_removed {
            assert!(
                self.blobs.remove(&id).is_some(),
                "not known, yet to be forgotten"
            );
        }
        for blob in message.blobs {
            let twice = self.blobs.insert(blob.id.clone(), blob);
            assert!(twice.is_none(), "sent though it is known");
        }
    }

    /// Without what a node is not told again: its own reports, and the stack of a service that is gone.
    pub fn normal(mut self) -> Self {
        for assigned in self.tasks.values_mut() {
            assigned.stack = None;
            let task = assigned.task.as_mut().unwrap();
            (task.status, task.meta) = (None, None);
        }
        self
    }
}

/// What a node is to know, straight from the state.
pub fn full(state: &State, node: NodeId) -> Known {
    let mut known = Known::default();
    for task in state
        .tasks()
        .values()
        .filter(|task| view::is_assigned(task, node))
    {
        known.tasks.insert(
            convert::id_bytes(task.id.0),
            view::assigned_task(state, task).unwrap(),
        );
        for reference in &state.template(task).unwrap().blobs {
            let blob = view::content(&state.blobs()[&reference.blob]);
            known.blobs.insert(blob.id.clone(), blob);
        }
        for held in &task.addresses {
            let id = convert::id_bytes(held.network.0);
            known
                .networks
                .insert(id, view::network_view(&state.networks()[&held.network]));
        }
    }
    for network in state.networks().values() {
        let id = convert::id_bytes(network.id.0);
        if !known.networks.contains_key(&id) {
            continue;
        }
        for task in state.tasks().values() {
            if let Some(endpoint) = view::endpoint(state, network.id, task) {
                known
                    .endpoints
                    .insert((id.clone(), endpoint.task.clone()), endpoint);
            }
        }
        for service in state.services().values() {
            if let Some(service) = view::service_view(service, network.id) {
                known
                    .services
                    .insert((id.clone(), service.service.clone()), service);
            }
        }
    }
    known
}
