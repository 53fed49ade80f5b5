//! What a transaction changed.

use crate::model::{
    Blob, BlobId, Cluster, Network, NetworkId, Node, NodeId, Service, ServiceId, Stack, Task,
    TaskId, TaskTemplate,
};
use std::sync::Arc;

/// One object before and after: absent before means made, absent after means removed.
#[derive(Debug, Clone)]
pub enum Event {
    /// The cluster's settings.
    Cluster(Option<Arc<Cluster>>, Option<Arc<Cluster>>),
    /// A node.
    Node(NodeId, Option<Arc<Node>>, Option<Arc<Node>>),
    /// A network.
    Network(NetworkId, Option<Arc<Network>>, Option<Arc<Network>>),
    /// A service.
    Service(ServiceId, Option<Arc<Service>>, Option<Arc<Service>>),
    /// A stack, by name.
    Stack(String, Option<Arc<Stack>>, Option<Arc<Stack>>),
    /// A secret or a config.
    Blob(BlobId, Option<Arc<Blob>>, Option<Arc<Blob>>),
    /// A task.
    Task(TaskId, Option<Arc<Task>>, Option<Arc<Task>>),
    /// A version of a service's template.
    Template(
        (ServiceId, u64),
        Option<Arc<TaskTemplate>>,
        Option<Arc<TaskTemplate>>,
    ),
}
