//! The tables' setters, which keep the indexes true.

use super::{Event, State, Table, replace};
use crate::model::{
    Blob, BlobId, BlobKey, Network, NetworkId, Node, NodeId, Protocol, Service, ServiceId, Stack,
    Task, TaskId, TaskTemplate,
};
use imbl::OrdSet;
use std::borrow::Borrow;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Who holds an address of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A task that has not ended.
    Task(TaskId),
    /// A service, as its virtual address.
    Service(ServiceId),
}

/// Everything that can be found otherwise than by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes {
    pub network_names: Table<Arc<str>, NetworkId>,
    pub vnis: Table<u32, NetworkId>,
    pub service_names: Table<Arc<str>, ServiceId>,
    pub services_by_stack: Table<Arc<str>, OrdSet<ServiceId>>,
    /// By name and version.
    pub blob_names: Table<(BlobKey, u32), BlobId>,
    /// By network, so that a free one is found without passing over the others'.
    pub addresses: Table<NetworkId, Table<Ipv4Addr, Holder>>,
    pub ports: Table<(NodeId, Protocol, u16), TaskId>,
    pub tasks_by_service: Table<ServiceId, OrdSet<TaskId>>,
    pub tasks_by_node: Table<NodeId, OrdSet<TaskId>>,
    /// Tasks of each version of a template.
    pub template_users: Table<(ServiceId, u64), u64>,
}

fn unlink<K: Ord + Clone + Borrow<Q>, Q: Ord + ?Sized, V: Ord + Clone>(
    map: &mut Table<K, OrdSet<V>>,
    key: &Q,
    value: &V,
) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

impl Indexes {
    fn hold(&mut self, network: NetworkId, addr: Ipv4Addr, holder: Holder) {
        self.addresses
            .entry(network)
            .or_default()
            .insert(addr, holder);
    }

    fn free(&mut self, network: NetworkId, addr: Ipv4Addr) {
        #[cfg(feature = "sabotage")]
        if crate::sabotage::has(crate::sabotage::Bug::AddressLeaked) {
            return;
        }
        if let Some(held) = self.addresses.get_mut(&network) {
            held.remove(&addr);
            if held.is_empty() {
                self.addresses.remove(&network);
            }
        }
    }

    fn add_task(&mut self, task: &Task) {
        self.tasks_by_service
            .entry(task.service)
            .or_default()
            .insert(task.id);
        *self
            .template_users
            .entry((task.service, task.template_revision))
            .or_default() += 1;
        if let Some(node) = task.node {
            self.tasks_by_node.entry(node).or_default().insert(task.id);
        }
        if !task.status.state.is_ended() {
            for held in &task.addresses {
                self.hold(held.network, held.addr, Holder::Task(task.id));
            }
            for (node, port) in task
                .node
                .iter()
                .flat_map(|n| task.ports.iter().map(move |p| (*n, p)))
            {
                self.ports
                    .insert((node, port.protocol, port.published), task.id);
            }
        }
    }

    fn remove_task(&mut self, task: &Task) {
        unlink(&mut self.tasks_by_service, &task.service, &task.id);
        let version = (task.service, task.template_revision);
        if let Some(users) = self.template_users.get_mut(&version) {
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.template_users.remove(&version);
            }
        }
        if let Some(node) = &task.node {
            unlink(&mut self.tasks_by_node, node, &task.id);
        }
        if !task.status.state.is_ended() {
            for held in &task.addresses {
                self.free(held.network, held.addr);
            }
            for (node, port) in task
                .node
                .iter()
                .flat_map(|n| task.ports.iter().map(move |p| (*n, p)))
            {
                self.ports.remove(&(node, port.protocol, port.published));
            }
        }
    }
}

impl State {
    pub(super) fn set_node(&mut self, id: NodeId, new: Option<Arc<Node>>) -> Event {
        let old = replace(&mut self.nodes, id, new.clone());
        Event::Node(id, old, new)
    }

    pub(super) fn set_network(&mut self, id: NetworkId, new: Option<Arc<Network>>) -> Event {
        let old = replace(&mut self.networks, id, new.clone());
        if let Some(old) = &old {
            self.indexes.network_names.remove(old.spec.name.as_str());
            self.indexes.vnis.remove(&old.vni);
        }
        if let Some(new) = &new {
            self.indexes
                .network_names
                .insert(new.spec.name.as_str().into(), id);
            self.indexes.vnis.insert(new.vni, id);
        }
        Event::Network(id, old, new)
    }

    pub(super) fn set_service(&mut self, id: ServiceId, new: Option<Arc<Service>>) -> Event {
        let old = replace(&mut self.services, id, new.clone());
        if let Some(old) = &old {
            self.indexes.service_names.remove(old.spec.name.as_str());
            if let Some(stack) = &old.spec.stack {
                unlink(&mut self.indexes.services_by_stack, stack.as_str(), &id);
            }
            for (network, addr) in &old.vips {
                self.indexes.free(*network, *addr);
            }
        }
        if let Some(new) = &new {
            self.indexes
                .service_names
                .insert(new.spec.name.as_str().into(), id);
            if let Some(stack) = &new.spec.stack {
                let services = self.indexes.services_by_stack.entry(stack.as_str().into());
                services.or_default().insert(id);
            }
            for (network, addr) in &new.vips {
                self.indexes.hold(*network, *addr, Holder::Service(id));
            }
        }
        Event::Service(id, old, new)
    }

    pub(super) fn set_stack(&mut self, name: &str, new: Option<Arc<Stack>>) -> Event {
        let old = replace(&mut self.stacks, name.into(), new.clone());
        Event::Stack(name.to_owned(), old, new)
    }

    pub(super) fn set_blob(&mut self, id: BlobId, new: Option<Arc<Blob>>) -> Event {
        let old = replace(&mut self.blobs, id, new.clone());
        if let Some(old) = &old {
            let name = (old.spec.key(), old.version);
            self.indexes.blob_names.remove(&name);
        }
        if let Some(new) = &new {
            let name = (new.spec.key(), new.version);
            self.indexes.blob_names.insert(name, id);
        }
        Event::Blob(id, old, new)
    }

    pub(super) fn set_task(&mut self, id: TaskId, new: Option<Arc<Task>>) -> Event {
        let old = replace(&mut self.tasks, id, new.clone());
        if let Some(old) = &old {
            self.indexes.remove_task(old);
        }
        if let Some(new) = &new {
            self.indexes.add_task(new);
        }
        Event::Task(id, old, new)
    }

    pub(super) fn set_template(
        &mut self,
        key: (ServiceId, u64),
        new: Option<Arc<TaskTemplate>>,
    ) -> Event {
        let old = replace(&mut self.templates, key, new.clone());
        Event::Template(key, old, new)
    }

    /// Takes an event back: the object is again what it was before.
    pub(super) fn revert(&mut self, event: Event) {
        match event {
            Event::Cluster(old, _) => self.cluster = old,
            Event::Node(id, old, _) => drop(self.set_node(id, old)),
            Event::Network(id, old, _) => drop(self.set_network(id, old)),
            Event::Service(id, old, _) => drop(self.set_service(id, old)),
            Event::Stack(name, old, _) => drop(self.set_stack(&name, old)),
            Event::Blob(id, old, _) => drop(self.set_blob(id, old)),
            Event::Task(id, old, _) => drop(self.set_task(id, old)),
            Event::Template(key, old, _) => drop(self.set_template(key, old)),
        }
    }
}
