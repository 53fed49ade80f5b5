//! Whether a node gets a new certificate, and for which role: pure.

use super::issue::{issue, request_key_digest};
use super::root::{CaError, root_digest};
use crate::certificate::Certificate;
use crate::dispatch::removed_text;
use api::model::{Node, NodeCert, NodeId, Role, Timestamp};
use api::state::State;
use std::collections::BTreeSet;

/// What a node should be now. One that shall be a manager no more is one until the others have let it go: its
/// certificate is the last thing to change.
#[must_use]
pub fn role_now(node: &Node, managers: &BTreeSet<NodeId>) -> Role {
    match node.spec.role {
        Role::Worker if managers.contains(&node.id) => Role::Manager,
        role => role,
    }
}

/// Why a node gets none.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Not of this cluster.
    #[error("{}", removed_text(*.0))]
    Gone(NodeId),
    /// No cluster in the state.
    #[error("there is no cluster yet")]
    NoCluster,
    /// A key that is another's, or that nobody has ever shown.
    #[error(
        "the request is for another key than the one node {0} has joined with; nobody but that node can renew its certificate"
    )]
    OtherKey(NodeId),
    /// The request, or the CA.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// A certificate for a node that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The role it names.
    pub role: Role,
    /// PEM.
    pub cert_pem: String,
    /// The roots to be trusted.
    pub roots_pem: String,
    /// What is to be kept of it, where the node's key was not known before.
    pub first_seen: Option<NodeCert>,
}

impl Renewal {
    /// The certificate that this node gets now. It is for the key that the state knows it by.
    ///
    /// # Errors
    /// Why it gets none.
    pub fn decide(
        state: &State,
        managers: &BTreeSet<NodeId>,
        node: NodeId,
        csr_pem: &str,
        now: Timestamp,
    ) -> Result<Self, RenewError> {
        let cluster = state.cluster().ok_or(RenewError::NoCluster)?;
        let known = state
            .nodes()
            .get(&node)
            .filter(|_| !cluster.revoked.contains_key(&node))
            .ok_or(RenewError::Gone(node))?;
        let digest = request_key_digest(csr_pem)?;
        if !known.cert.key_digest.is_empty() && known.cert.key_digest != digest {
            return Err(RenewError::OtherKey(node));
        }
        let role = role_now(known, managers);
        let cert_pem = issue(cluster, csr_pem, node, role, now)?;
        let first_seen = if known.cert.key_digest.is_empty() {
            let issuer = root_digest(&cluster.ca.cert_pem)?;
            let read = Certificate::from_pem(&cert_pem)
                .map_err(|error| CaError::Unfit(error.to_string()))?;
            // What it holds is told at its next session.
            Some(NodeCert {
                key_digest: digest,
                ..match known.cert.issuer.is_empty() {
                    true => read.record(issuer),
                    false => known.cert.clone(),
                }
            })
        } else {
            None
        };
        Ok(Self {
            role,
            cert_pem,
            roots_pem: cluster.roots_pem(),
            first_seen,
        })
    }
}
