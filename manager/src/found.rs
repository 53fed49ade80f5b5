//! A new cluster, before anything of it is written: its CA, its first node, their certificates.

use crate::ca::{CaError, Tokens, issue, make_root, new_secrets, root_digest};
use crate::certificate::Certificate;
use crate::identity::{Identity, KeyRequest, Material};
use crate::tls::TlsError;
use api::model::{
    Cluster, ClusterCa, ClusterId, ClusterSpec, Lock, Meta, Node, NodeDescription, NodeId,
    NodeSpec, NodeStatus, Role, Timestamp,
};
use api::state::{Op, Transaction};
use std::collections::BTreeMap;
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
    /// A certificate that names no node.
    #[error("the first node's certificate can't be used")]
    Identity(#[from] crate::identity::IdentityError),
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
    /// Makes it, with the CA that was brought along or one of its own; the first node is a manager at `addr:port`.
    /// `lock` says whether managers are locked when they start.
    ///
    /// # Errors
    /// When the system has no randomness, or the CA can't sign.
    pub fn new(
        spec: ClusterSpec,
        ca: Option<ClusterCa>,
        lock: Lock,
        description: NodeDescription,
        addr: Ipv4Addr,
        port: u16,
        at: Timestamp,
    ) -> Result<Self, FoundError> {
        let (id, node) = (ClusterId::random(), NodeId::random());
        let ca = match ca {
            Some(ca) => ca,
            None => make_root(id, at)?,
        };
        let cluster = Cluster {
            id,
            meta: Meta::default(),
            spec,
            ca,
            retiring: None,
            tokens: new_secrets(),
            recovery: Default::default(),
            revoked: BTreeMap::new(),
            lock,
        };
        let request = KeyRequest::generate()?;
        let cert_pem = issue(&cluster, &request.csr_pem, node, Role::Manager, at)?;
        let cert = Certificate::from_pem(&cert_pem)?.record(root_digest(&cluster.ca.cert_pem)?);
        let material = Material {
            ca_pem: cluster.ca.cert_pem.clone(),
            cert_pem,
            key_pem: request.key_pem,
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
            cert,
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
