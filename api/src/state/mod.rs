//! The cluster's state: tables and indexes, and [`State::apply`], which takes a [`Transaction`] whole or
//! not at all and says what changed.
//!
//! Deterministic: the same transactions make the same state on every manager. It knows no clock, no
//! randomness and no I/O; who proposes a transaction has stamped those into it. Ordered maps only.
//!
//! Invariants, each kept by `apply` and held by a test of its name: a name, an address, a VNI and a
//! published port of a node have at most one holder; a task's state only moves forward; what a task
//! refers to is there.

mod apply;
mod error;
mod event;
mod index;
mod lease;
mod query;
mod transaction;

#[cfg(test)]
mod tests;

pub use error::{ApplyError, ErrorKind};
pub use event::Event;
pub use index::Holder;
pub use query::Lookup;
pub use transaction::{Op, Transaction};

use crate::model::{
    Blob, BlobId, Cluster, Network, NetworkId, Node, NodeId, Service, ServiceId, Stack, Task,
    TaskId, TaskTemplate,
};
use index::Indexes;
use std::sync::Arc;

/// A table: ordered, and a copy costs nothing until one of the two is changed. A change then copies some
/// dozens of keys, so names are shared strings.
pub type Table<K, V> = imbl::OrdMap<K, V>;

/// The tables. Objects are shared, and so are the tables, so that a
/// reader may keep the whole while the state moves on.
#[derive(Debug, Clone, Default)]
pub struct State {
    revision: u64,
    cluster: Option<Arc<Cluster>>,
    nodes: Table<NodeId, Arc<Node>>,
    networks: Table<NetworkId, Arc<Network>>,
    services: Table<ServiceId, Arc<Service>>,
    stacks: Table<Arc<str>, Arc<Stack>>,
    blobs: Table<BlobId, Arc<Blob>>,
    tasks: Table<TaskId, Arc<Task>>,
    /// Versions of services' templates that are current or that a task still runs.
    templates: Table<(ServiceId, u64), Arc<TaskTemplate>>,
    indexes: Indexes,
}

/// The tables as they are written to a snapshot; the indexes are made anew from them.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// Log index of the last transaction applied.
    pub revision: u64,
    /// The cluster.
    pub cluster: Option<Arc<Cluster>>,
    /// Nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Networks.
    pub networks: Vec<Arc<Network>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// Stacks.
    pub stacks: Vec<Arc<Stack>>,
    /// Tasks.
    pub tasks: Vec<Arc<Task>>,
    /// Template versions.
    pub templates: Vec<(ServiceId, u64, Arc<TaskTemplate>)>,
    /// Secrets and configs.
    pub blobs: Vec<Arc<Blob>>,
}

impl State {
    /// An empty state, before `init`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tables, shared; cheap beside encoding them.
    #[must_use]
    pub fn tables(&self) -> Tables {
        Tables {
            revision: self.revision,
            cluster: self.cluster.clone(),
            nodes: self.nodes.values().cloned().collect(),
            networks: self.networks.values().cloned().collect(),
            services: self.services.values().cloned().collect(),
            stacks: self.stacks.values().cloned().collect(),
            tasks: self.tasks.values().cloned().collect(),
            templates: self
                .templates
                .iter()
                .map(|((s, r), t)| (*s, *r, t.clone()))
                .collect(),
            blobs: self.blobs.values().cloned().collect(),
        }
    }

    /// A state from the tables of a snapshot.
    #[must_use]
    pub fn from_tables(tables: Tables) -> Self {
        let mut state = Self {
            revision: tables.revision,
            cluster: tables.cluster,
            ..Self::default()
        };
        for (service, revision, template) in tables.templates {
            state.templates.insert((service, revision), template);
        }
        for node in tables.nodes {
            state.set_node(node.id, Some(node));
        }
        for network in tables.networks {
            state.set_network(network.id, Some(network));
        }
        for service in tables.services {
            state.set_service(service.id, Some(service));
        }
        for stack in tables.stacks {
            state.set_stack(&stack.name.clone(), Some(stack));
        }
        for blob in tables.blobs {
            state.set_blob(blob.id, Some(blob));
        }
        for task in tables.tasks {
            state.set_task(task.id, Some(task));
        }
        state
    }
}

/// Puts `new` into a table, or takes the entry out; the old entry is what it returns.
fn replace<K: Ord + Clone, V: Clone>(map: &mut Table<K, V>, key: K, new: Option<V>) -> Option<V> {
    match new {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}
