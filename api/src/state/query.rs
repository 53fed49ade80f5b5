//! Reading the state.

use super::{Holder, State, Table};
use crate::model::{
    Blob, BlobId, BlobKey, BlobKind, Cluster, Network, NetworkId, Node, NodeId, NodeState,
    Protocol, Service, ServiceId, Stack, Task, TaskId, TaskTemplate,
};
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What a name, an id or the beginning of an id led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// One object.
    Found(T),
    /// None.
    Missing,
    /// Several begin so: how many.
    Ambiguous(usize),
}

impl State {
    /// Log index of the last transaction applied.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The cluster; absent before `init`.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// Nodes, by id.
    #[must_use]
    pub fn nodes(&self) -> &Table<NodeId, Arc<Node>> {
        &self.nodes
    }

    /// Networks, by id.
    #[must_use]
    pub fn networks(&self) -> &Table<NetworkId, Arc<Network>> {
        &self.networks
    }

    /// Services, by id.
    #[must_use]
    pub fn services(&self) -> &Table<ServiceId, Arc<Service>> {
        &self.services
    }

    /// Stacks, by name.
    #[must_use]
    pub fn stacks(&self) -> &Table<Arc<str>, Arc<Stack>> {
        &self.stacks
    }

    /// Secrets and configs, by id.
    #[must_use]
    pub fn blobs(&self) -> &Table<BlobId, Arc<Blob>> {
        &self.blobs
    }

    /// The versions of a secret or a config, the newest last.
    pub fn blobs_named(&self, key: &BlobKey) -> impl DoubleEndedIterator<Item = &Arc<Blob>> {
        self.indexes
            .blob_names
            .range((key.clone(), 0)..=(key.clone(), u32::MAX))
            .filter_map(|(_, id)| self.blobs.get(id))
    }

    /// The services that use a secret or a config.
    pub fn blob_services(&self, id: BlobId) -> impl Iterator<Item = &Arc<Service>> {
        let uses = move |service: &&Arc<Service>| uses(&service.spec.template, id);
        self.services.values().filter(uses)
    }

    /// The tasks that use a secret or a config and have not ended.
    pub fn blob_tasks(&self, id: BlobId) -> impl Iterator<Item = &Arc<Task>> {
        self.templates
            .iter()
            .filter(move |(_, template)| uses(template, id))
            .flat_map(|((service, version), _)| {
                self.tasks_of_service(*service)
                    .filter(|task| task.template_revision == *version)
            })
            .filter(|task| !task.status.state.is_ended())
    }

    /// Tasks, by id.
    #[must_use]
    pub fn tasks(&self) -> &Table<TaskId, Arc<Task>> {
        &self.tasks
    }

    /// The template that a task runs.
    #[must_use]
    pub fn template(&self, task: &Task) -> Option<&Arc<TaskTemplate>> {
        self.templates.get(&(task.service, task.template_revision))
    }

    /// A service's tasks, ended ones too.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        self.indexes
            .tasks_by_service
            .get(&service)
            .into_iter()
            .flatten()
            .filter_map(|id| self.tasks.get(id))
    }

    /// Whether a task runs and is to go on, as far as is known: of one whose node is down nothing is.
    #[must_use]
    pub fn is_running(&self, task: &Task) -> bool {
        let node = || task.node.and_then(|id| self.nodes.get(&id));
        task.is_running() && node().is_some_and(|node| node.status.state != NodeState::Down)
    }

    /// The tasks on a node, ended ones too.
    pub fn tasks_of_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.indexes
            .tasks_by_node
            .get(&node)
            .into_iter()
            .flatten()
            .filter_map(|id| self.tasks.get(id))
    }

    /// The addresses of a network that somebody holds.
    #[must_use]
    pub fn addresses(&self, network: NetworkId) -> Option<&Table<Ipv4Addr, Holder>> {
        self.indexes.addresses.get(&network)
    }

    /// Who holds a published port of a node.
    #[must_use]
    pub fn port_holder(&self, node: NodeId, protocol: Protocol, published: u16) -> Option<TaskId> {
        self.indexes
            .ports
            .get(&(node, protocol, published))
            .copied()
    }

    /// Who holds a VNI.
    #[must_use]
    pub fn vni_holder(&self, vni: u32) -> Option<NetworkId> {
        self.indexes.vnis.get(&vni).copied()
    }

    /// A service by its full name.
    #[must_use]
    pub fn service_by_name(&self, name: &str) -> Option<&Arc<Service>> {
        self.indexes
            .service_names
            .get(name)
            .and_then(|id| self.services.get(id))
    }

    /// The services of a stack.
    pub fn services_of_stack(&self, stack: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.indexes
            .services_by_stack
            .get(stack)
            .into_iter()
            .flatten()
            .filter_map(|id| self.services.get(id))
    }

    /// A network by its full name.
    #[must_use]
    pub fn network_by_name(&self, name: &str) -> Option<&Arc<Network>> {
        self.indexes
            .network_names
            .get(name)
            .and_then(|id| self.networks.get(id))
    }

    /// A service by name, id, or the beginning of its id.
    #[must_use]
    pub fn find_service(&self, text: &str) -> Lookup<Arc<Service>> {
        match self.service_by_name(text) {
            Some(service) => Lookup::Found(service.clone()),
            None => by_prefix(&self.services, text),
        }
    }

    /// A network by name, id, or the beginning of its id.
    #[must_use]
    pub fn find_network(&self, text: &str) -> Lookup<Arc<Network>> {
        match self.network_by_name(text) {
            Some(network) => Lookup::Found(network.clone()),
            None => by_prefix(&self.networks, text),
        }
    }

    /// A secret or a config by name (its newest version), id, or the beginning of its id.
    #[must_use]
    pub fn find_blob(&self, kind: BlobKind, text: &str) -> Lookup<Arc<Blob>> {
        let name = text.into();
        if let Some(newest) = self.blobs_named(&BlobKey { kind, name }).next_back() {
            return Lookup::Found(newest.clone());
        }
        let of_kind = self.blobs.iter().filter(|(_, blob)| blob.spec.kind == kind);
        by_prefix(of_kind, text)
    }

    /// A node by hostname, id, or the beginning of its id.
    #[must_use]
    pub fn find_node(&self, text: &str) -> Lookup<Arc<Node>> {
        let mut named = self
            .nodes
            .values()
            .filter(|n| n.description.hostname == text);
        match (named.next(), named.count()) {
            (Some(node), 0) => Lookup::Found(node.clone()),
            (Some(_), more) => Lookup::Ambiguous(more + 1),
            (None, _) => by_prefix(&self.nodes, text),
        }
    }

    /// A task by name (`shop_redis.1`: the newest of the slot, running ones first), id, or the beginning
    /// of its id.
    #[must_use]
    pub fn find_task(&self, text: &str) -> Lookup<Arc<Task>> {
        let named = text.rsplit_once('.').and_then(|(name, slot)| {
            let service = self.service_by_name(name)?;
            let slot: u32 = slot.parse().ok()?;
            self.tasks_of_service(service.id)
                .filter(|t| t.slot == slot)
                .max_by_key(|t| (!t.status.state.is_ended(), t.meta.created_at, t.id))
        });
        match named {
            Some(task) => Lookup::Found(task.clone()),
            None => by_prefix(&self.tasks, text),
        }
    }
}

fn uses(template: &TaskTemplate, id: BlobId) -> bool {
    template.blobs.iter().any(|reference| reference.blob == id)
}

fn by_prefix<'a, K: Display + 'a, V: Clone + 'a>(
    table: impl IntoIterator<Item = (&'a K, &'a V)>,
    text: &str,
) -> Lookup<V> {
    if text.is_empty() {
        return Lookup::Missing;
    }
    let mut found = table
        .into_iter()
        .filter(|(id, _)| id.to_string().starts_with(text))
        .map(|(_, v)| v);
    match (found.next(), found.count()) {
        (Some(one), 0) => Lookup::Found(one.clone()),
        (Some(_), more) => Lookup::Ambiguous(more + 1),
        (None, _) => Lookup::Missing,
    }
}
