//! A new cluster, before anything of it is written: its CA, its first node, their certificates.

use crate::ca::{CaError, Tokens, issue, make_root, new_secrets};
use crate::identity::{Identity, KeyRequest, Material};
use crate::tls::TlsError;
use api::model::{
    Cluster, ClusterId, ClusterSpec, Meta, Node, NodeDescription, NodeId, NodeSpec, NodeStatus,
    Role, Timestamp,
};
use api::state::{Op, Transaction};
use std::net::Ipv4Addr;

/// Why no cluster can be made.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// Its certificates.
    #[error("the cluster's certificates could not be made")]
    Ca(#[from] CaError),
    /// The first node's key.
    #[error("no key could be made")]
    Key(#[from] rcgen::Error),
    /// What was made can't be read again.
    #[error("the cluster's certificates can't be used")]
    Tls(#[from] TlsError),
}

/// A new cluster.
pub struct Founding {
    /// Who its first node is.
    pub identity: Identity,
    /// What that node proves itself with; to be kept by it.
    pub material: Material,
    /// To join it.
    pub tokens: Tokens,
    cluster: Cluster,
    node: Node,
    at: Timestamp,
}

impl Founding {
    /// Makes it; the first node is a manager at `addr:port`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(
        spec: ClusterSpec,
        description: NodeDescription,
        addr: Ipv4Addr,
        port: u16,
        at: Timestamp,
    ) -> Result<Self, FoundError> {
        let (id, node) = (ClusterId::random(), NodeId::random());
        let ca = make_root(id, at)?;
        let request = KeyRequest::generate()?;
        let cert_pem = issue(&ca, &request.csr_pem, id, node, Role::Manager, at)?;
        let material = Material {
            ca_pem: ca.cert_pem.clone(),
            cert_pem,
            key_pem: request.key_pem,
        };
        let cluster = Cluster {
            id,
            meta: Meta::default(),
            spec,
            ca,
            tokens: new_secrets(),
            recovery: Default::default(),
        };
        let first = Node {
            id: node,
            meta: Meta::default(),
            spec: NodeSpec {
                role: Role::Manager,
                ..NodeSpec::default()
            },
            description,
            status: NodeStatus::default(),
            addr,
            port,
        };
        Ok(Self {
            identity: Identity {
                cluster: id,
                node,
                role: Role::Manager,
            },
            material,
            tokens: Tokens::of(&cluster)?,
            cluster,
            node: first,
            at,
        })
    }

    /// All of it, as the first entry of its log.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        Transaction {
            at: self.at,
            ops: vec![
                Op::CreateCluster(Box::new(self.cluster.clone())),
                Op::CreateNode(Box::new(self.node.clone())),
            ],
        }
    }
}
