//! A machine of the cluster.

use super::{Labels, Meta, NodeId, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The identity in its certificate.
    pub id: NodeId,
    /// Revision and times.
    pub meta: Meta,
    /// What the user wants of it.
    pub spec: NodeSpec,
    /// What it says of itself.
    pub description: NodeDescription,
    /// What the managers think of it.
    pub status: NodeStatus,
    /// The address other nodes reach it at: control port and VXLAN.
    pub addr: Ipv4Addr,
    /// The control port it listens on.
    pub port: u16,
    /// The certificate it holds.
    pub cert: NodeCert,
}

/// What is known of a node's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCert {
    /// The role it names: what the node is now, while [`NodeSpec::role`] is what it shall be.
    pub role: Role,
    /// SHA-256 of its public key, lower-case hex; empty when none is known.
    pub key_digest: String,
    /// SHA-256 of the root that has signed it, as in join tokens.
    pub issuer: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// What the user wants of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Manager or worker.
    pub role: Role,
    /// Whether it takes tasks.
    pub availability: Availability,
    /// `node.labels.*` in constraints.
    pub labels: Labels,
}

/// What a node may do in the cluster.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs tasks.
    #[default]
    Worker,
    /// Runs tasks and holds the cluster's state.
    Manager,
}

impl Role {
    /// As in constraints, certificates and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
        }
    }
}

/// Whether a node takes tasks.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// Takes tasks.
    #[default]
    Active,
    /// Keeps what it has, takes nothing new.
    Pause,
    /// Gives its tasks to others.
    Drain,
}

/// What a node says of itself at each session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// `node.hostname` in constraints.
    pub hostname: String,
    /// `node.platform.os`, as Go writes it (`linux`).
    pub os: String,
    /// `node.platform.arch`, as `uname -m` writes it (`x86_64`).
    pub arch: String,
    /// Processors, in billionths of one.
    pub nano_cpus: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// clusterd's version.
    pub version: String,
    /// `engine.labels.*` in constraints.
    pub engine_labels: Labels,
}

/// What the managers think of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Whether it is there.
    pub state: NodeState,
    /// Why it is not, when it is not.
    pub message: String,
    /// When it last changed.
    pub since: Timestamp,
    /// While it is down: for how long nothing had been heard of it, at least, by the leader's steady clock, ms.
    #[serde(default)]
    pub silent_ms: u64,
}

/// Whether a node is there.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It has a certificate and has not yet opened a session, or the managers have just changed.
    #[default]
    Unknown,
    /// It has a session and its heartbeats come.
    Ready,
    /// Its heartbeats stopped.
    Down,
}
