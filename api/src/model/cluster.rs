//! The cluster itself: its identity, its CA and its settings.

use super::{ClusterId, Meta, Recovery};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The one cluster object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its identity, made at `init`.
    pub id: ClusterId,
    /// Revision and times.
    pub meta: Meta,
    /// The user's settings.
    pub spec: ClusterSpec,
    /// Its certificate authority.
    pub ca: ClusterCa,
    /// Secret parts of the join tokens.
    pub tokens: JoinSecrets,
    /// How it was brought back, if it was.
    pub recovery: Recovery,
}

/// What the user chose for the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Where networks get their subnets from.
    pub address_pool: Ipv4Net,
    /// Prefix length of each network's subnet.
    pub subnet_prefix: u8,
    /// Agents send a heartbeat this often, milliseconds.
    pub heartbeat_ms: u32,
    /// A node not heard of for this long is down, milliseconds.
    pub dead_after_ms: u32,
    /// Ended tasks kept per slot.
    pub task_history: u32,
    /// Whether `exec` may be called from a node that is only a worker.
    pub worker_exec: bool,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            address_pool: Ipv4Net::new_assert([10, 0, 0, 0].into(), 8),
            subnet_prefix: 20,
            heartbeat_ms: 1_000,
            dead_after_ms: 3_000,
            task_history: 5,
            worker_exec: true,
        }
    }
}

/// The root certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterCa {
    /// The root certificate.
    pub cert_pem: String,
    /// Its private key. Never leaves the managers.
    pub key_pem: String,
}

impl fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCa")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// The secret half of each join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSecrets {
    /// For workers.
    pub worker: String,
    /// For managers.
    pub manager: String,
}

impl fmt::Debug for JoinSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecrets(..)")
    }
}
