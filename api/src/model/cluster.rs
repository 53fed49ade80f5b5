//! The cluster itself: its identity, its CA and its settings.

use super::{ClusterId, Lock, Meta, NodeId, Recovery, Timestamp};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How long a node's certificate is valid when nobody says otherwise: 90 days, in milliseconds.
pub const CERT_EXPIRY_MS: u64 = 90 * 24 * 3_600 * 1_000;
/// Removed nodes remembered at most; the ones whose certificates end soonest are forgotten first.
pub const REVOKED_MAX: usize = 4_096;

/// The one cluster object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its identity, made at `init`.
    pub id: ClusterId,
    /// Revision and times.
    pub meta: Meta,
    /// The user's settings.
    pub spec: ClusterSpec,
    /// Its certificate authority: the one that signs.
    pub ca: ClusterCa,
    /// The authority before, while nodes still have certificates of it.
    pub retiring: Option<RetiringCa>,
    /// Secret parts of the join tokens.
    pub tokens: JoinSecrets,
    /// How it was brought back, if it was.
    pub recovery: Recovery,
    /// Removed nodes, until the last certificate each may hold has ended.
    pub revoked: BTreeMap<NodeId, Timestamp>,
    /// Whether managers are locked when they start.
    pub lock: Lock,
}

impl Cluster {
    /// The root certificates that nodes trust, PEM: the one that signs, and the one before it while it is needed.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        match &self.retiring {
            Some(old) => format!("{}{}", self.ca.cert_pem, old.cert_pem),
            None => self.ca.cert_pem.clone(),
        }
    }

    /// The root certificate that join tokens carry the digest of, PEM. It stays the old one until every node has a
    /// certificate of the new one, whose chains lead to both.
    #[must_use]
    pub fn token_root_pem(&self) -> &str {
        self.retiring
            .as_ref()
            .map_or(&self.ca.cert_pem, |old| &old.cert_pem)
    }

    /// Notes a node as removed, its certificates ending at `until` at the latest.
    pub fn revoke(&mut self, node: NodeId, until: Timestamp, now: Timestamp) {
        self.revoked.retain(|_, until| *until > now);
        self.revoked.insert(node, until);
        while self.revoked.len() > REVOKED_MAX {
            let soonest = self
                .revoked
                .iter()
                .min_by_key(|(id, until)| (**until, **id));
            let Some(soonest) = soonest.map(|(id, _)| *id) else {
                return;
            };
            self.revoked.remove(&soonest);
        }
    }
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
    /// How long a node's certificate is valid, milliseconds.
    pub cert_expiry_ms: u64,
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
            cert_expiry_ms: CERT_EXPIRY_MS,
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

/// The authority that is being replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiringCa {
    /// Its root certificate, PEM.
    pub cert_pem: String,
    /// The new root's name and key, signed by the old one: who knows only the old one believes the new one too. PEM.
    pub cross_pem: String,
    /// Since when it is being replaced.
    pub since: Timestamp,
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
