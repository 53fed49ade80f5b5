//! What can be asked of the state.

use crate::model::{
    Blob, BlobId, Cluster, Labels, Network, NetworkId, Node, NodeCert, NodeDescription, NodeId,
    NodeSpec, NodeStatus, PublishedPort, Service, ServiceId, ServiceSpec, Stack, Task, TaskAddress,
    TaskId, TaskState, TaskStatus, Timestamp,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// One entry of the log: all of it happens, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The proposer's time, written into what changes.
    pub at: Timestamp,
    /// In this order.
    pub ops: Vec<Op>,
}

/// One change. `at_revision` is the revision the object was read at: when it has moved on since, the
/// whole transaction is refused as a conflict and is to be made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Once, at `init`.
    CreateCluster(Box<Cluster>),
    /// Settings, tokens, CA.
    UpdateCluster {
        /// As it shall be.
        cluster: Box<Cluster>,
        /// As it was read.
        at_revision: u64,
    },
    /// A machine has got its certificate.
    CreateNode(Box<Node>),
    /// The user's wishes for a node.
    UpdateNode {
        /// Which.
        id: NodeId,
        /// As it shall be.
        spec: NodeSpec,
        /// As it was read.
        at_revision: u64,
    },
    /// What the managers think of a node.
    SetNodeStatus {
        /// Which.
        id: NodeId,
        /// As it is.
        status: NodeStatus,
        /// At the opening of a session: what it says of itself.
        description: Option<NodeDescription>,
        /// At the opening of a session: where it is.
        addr: Option<(Ipv4Addr, u16)>,
    },
    /// The certificate a node holds, as it shows it.
    SetNodeCert {
        /// Which.
        id: NodeId,
        /// As it is.
        cert: NodeCert,
    },
    /// Its tasks are orphaned, its certificates revoked.
    RemoveNode(NodeId),
    /// With its VNI and subnet chosen.
    CreateNetwork(Box<Network>),
    /// Refused while anything is on it.
    RemoveNetwork(NetworkId),
    /// A secret or a config.
    CreateBlob(Box<Blob>),
    /// Its labels; nothing else of it changes.
    UpdateBlob {
        /// Which.
        id: BlobId,
        /// As they shall be.
        labels: Labels,
        /// As it was read.
        at_revision: u64,
    },
    /// Refused while a service or a task that has not ended uses it.
    RemoveBlob(BlobId),
    /// With its virtual addresses chosen.
    CreateService(Box<Service>),
    /// The user's wishes for a service.
    UpdateService {
        /// Which.
        id: ServiceId,
        /// As it shall be.
        spec: Box<ServiceSpec>,
        /// Its virtual addresses then.
        vips: BTreeMap<NetworkId, Ipv4Addr>,
        /// As it was read.
        at_revision: u64,
    },
    /// Its tasks are to end and be removed.
    RemoveService(ServiceId),
    /// Made or changed.
    PutStack(Stack),
    /// Only the stack's own record.
    RemoveStack(String),
    /// With or without a node.
    CreateTask(Box<Task>),
    /// A task without a node gets one, with its addresses and ports.
    AssignTask {
        /// Which.
        id: TaskId,
        /// Where.
        node: NodeId,
        /// On each of its networks.
        addresses: Vec<TaskAddress>,
        /// On that node.
        ports: Vec<PublishedPort>,
    },
    /// Only moves forward.
    SetTaskDesired {
        /// Which.
        id: TaskId,
        /// What it should be.
        desired: TaskState,
    },
    /// Only moves forward: a status behind the known one, or of a task that is gone, changes nothing.
    SetTaskStatus {
        /// Which.
        id: TaskId,
        /// What it is.
        status: TaskStatus,
    },
    /// One that has ended, or never had a node.
    RemoveTask(TaskId),
}
