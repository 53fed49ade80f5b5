//! What a node needs to know, from the state: pure.

use api::convert;
use api::model::{Blob, BlobId, Network, NetworkId, NodeId, Service, Task};
use api::proto::{AssignedBlob, AssignedTask, Endpoint, NetworkView, ServiceView};
use api::state::{Holder, State};
use std::collections::{BTreeMap, BTreeSet};

use api::model::{ServiceId, TaskId};

/// A network as the nodes on it see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NetworkTable {
    /// Itself.
    pub view: NetworkView,
    /// Who is on it.
    pub endpoints: BTreeMap<TaskId, Endpoint>,
    /// The names on it.
    pub services: BTreeMap<ServiceId, ServiceView>,
}

/// Whether a node is to know of a task: it is assigned there and has not ended. One that has ended is taken
/// back, which is also the answer to its last status.
pub fn is_assigned(task: &Task, node: NodeId) -> bool {
    task.node == Some(node) && !task.status.state.is_ended()
}

/// A task as its node is told; none when its template is gone.
pub fn assigned_task(state: &State, task: &Task) -> Option<AssignedTask> {
    let template = state.template(task)?;
    let stack = state
        .services()
        .get(&task.service)
        .and_then(|service| service.spec.stack.clone());
    Some(AssignedTask {
        task: Some(task.into()),
        template: Some((&**template).into()),
        stack,
    })
}

/// The secrets and configs that a task's files come from.
pub fn blobs(state: &State, task: &Task) -> BTreeSet<BlobId> {
    #[cfg(feature = "sabotage")]
    if api::sabotage::has(api::sabotage::Bug::SecretToWrongNode) {
        return state.blobs().keys().copied().collect();
    }
    let references = state.template(task).into_iter().flat_map(|t| &t.blobs);
    references.map(|reference| reference.blob).collect()
}

/// A secret's or a config's content, for who may have it.
pub fn content(blob: &Blob) -> AssignedBlob {
    AssignedBlob {
        id: convert::id_bytes(blob.id.0),
        data: Some((&blob.spec.data).into()),
    }
}

pub fn network_view(network: &Network) -> NetworkView {
    NetworkView {
        id: convert::id_bytes(network.id.0),
        name: network.spec.name.clone(),
        vni: network.vni,
        subnet: network.subnet.to_string(),
        internal: network.spec.internal,
    }
}

/// A task's place on a network; none when it has none (any more).
pub fn endpoint(state: &State, network: NetworkId, task: &Task) -> Option<Endpoint> {
    if task.status.state.is_ended() {
        return None;
    }
    let addr = task
        .addresses
        .iter()
        .find(|held| held.network == network)?
        .addr;
    let node = state.nodes().get(&task.node?)?;
    Some(Endpoint {
        network: convert::id_bytes(network.0),
        task: convert::id_bytes(task.id.0),
        addr: addr.into(),
        vtep: node.addr.into(),
        service: convert::id_bytes(task.service.0),
        service_name: task.service_name.to_string(),
        slot: task.slot,
        ready: task.is_running(),
    })
}

/// A service's names on a network; none when it is not on it.
pub fn service_view(service: &Service, network: NetworkId) -> Option<ServiceView> {
    let attachment = service
        .spec
        .template
        .networks
        .iter()
        .find(|on| on.network == network)?;
    let mut names = vec![service.spec.name.clone()];
    for alias in &attachment.aliases {
        if !names.contains(alias) {
            names.push(alias.clone());
        }
    }
    Some(ServiceView {
        network: convert::id_bytes(network.0),
        service: convert::id_bytes(service.id.0),
        names,
        vip: service.vips.get(&network).map(|addr| u32::from(*addr)),
        stack: service.spec.stack.clone(),
    })
}

/// All of a network; none when it is not there.
pub fn table(state: &State, id: NetworkId) -> Option<NetworkTable> {
    let network = state.networks().get(&id)?;
    let holders = state
        .addresses(id)
        .into_iter()
        .flat_map(|held| held.values());
    let endpoints = holders.filter_map(|holder| match holder {
        Holder::Task(task) => {
            let endpoint = endpoint(state, id, state.tasks().get(task)?)?;
            Some((*task, endpoint))
        }
        Holder::Service(_) => None,
    });
    let services = state
        .services()
        .values()
        .filter_map(|service| Some((service.id, service_view(service, id)?)));
    Some(NetworkTable {
        view: network_view(network),
        endpoints: endpoints.collect(),
        services: services.collect(),
    })
}
