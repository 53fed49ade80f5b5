//! A cluster of one manager from a backup.

use super::seal;
use crate::ca::{CaError, issue, root_digest};
use crate::certificate::Certificate;
use crate::identity::{Identity, KeyRequest, Material};
use crate::recovery::{self, RecoverError};
use api::convert;
use api::model::{Meta, Node, NodeDescription, NodeId, NodeSpec, NodeStatus, Role, Timestamp};
use api::proto::BackupHeader;
use api::state::{Op, State, Tables, Transaction};
use raft_store::Peer;
use raft_store::recover::Fresh;
use std::net::Ipv4Addr;

/// How far a restored state's revision is beyond the backup's: further than what came after that can have
/// come, so that nobody ever sees a revision twice.
const JUMP: u64 = 1_000_000_000;

/// The machine that the cluster is restored on.
pub struct Host {
    /// What it is.
    pub description: NodeDescription,
    /// Its address.
    pub addr: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// A cluster, before anything of it is written.
pub struct Restored {
    /// Who this machine is.
    pub identity: Identity,
    /// What it proves itself with.
    pub material: Material,
    /// Its store.
    pub fresh: Fresh,
    /// What the backup says of itself.
    pub header: BackupHeader,
    /// Managers that are none any more: `name address`.
    pub dropped: Vec<String>,
    /// Nodes that are still there: `name address`.
    pub kept: Vec<String>,
    /// Where nodes look for a manager, `host:port`.
    pub known: Vec<String>,
}

fn damaged(what: impl std::fmt::Display) -> RecoverError {
    RecoverError::Content(what.to_string())
}

impl Restored {
    /// Opens a backup and makes a cluster of this machine from it: the same id, the same CA, all nodes but the
    /// managers of then. Takes as long as its key does; blocks.
    ///
    /// # Errors
    /// Why it can't be: see [`RecoverError`].
    pub fn open(
        file: &[u8],
        passphrase: &str,
        host: Host,
        at: Timestamp,
    ) -> Result<Self, RecoverError> {
        let (header, content) = seal::open(file, passphrase)?;
        let state = content.state.unwrap_or_default();
        let tables = Tables::try_from(state).map_err(damaged)?;
        let cluster = tables
            .cluster
            .clone()
            .ok_or_else(|| damaged("no cluster"))?;
        if convert::id_bytes(cluster.id.0) != header.cluster_id {
            return Err(damaged("another cluster than it says"));
        }
        let managers = content.managers.iter().map(|peer| {
            let node_id = convert::node_id(&peer.node_id).map_err(damaged)?;
            let addr = peer.addr.clone();
            Ok(Peer { node_id, addr })
        });
        let managers = managers.collect::<Result<Vec<_>, RecoverError>>()?;
        let node = NodeId::random();
        let identity = Identity {
            cluster: cluster.id,
            node,
            role: Role::Manager,
        };
        let request = KeyRequest::generate().map_err(CaError::Sign)?;
        let cert_pem = issue(&cluster, &request.csr_pem, node, Role::Manager, at)?;
        let cert = Certificate::from_pem(&cert_pem)
            .map_err(damaged)?
            .record(root_digest(&cluster.ca.cert_pem)?);
        let material = Material {
            ca_pem: cluster.roots_pem(),
            cert_pem,
            key_pem: request.key_pem,
        };
        let addr = format!("{}:{}", host.addr, host.port);
        let state = State::from_tables(tables.clone());
        let mut ops = vec![Op::CreateNode(Box::new(Node {
            id: node,
            meta: Meta::default(),
            spec: NodeSpec {
                role: Role::Manager,
                ..NodeSpec::default()
            },
            description: host.description,
            status: NodeStatus::default(),
            addr: host.addr,
            port: host.port,
            cert,
        }))];
        let ids: Vec<NodeId> = managers.iter().map(|peer| peer.node_id).collect();
        let alone = recovery::alone(&state, &ids, node)?;
        ops.extend(alone.ops);
        let fresh = Fresh::new(
            tables,
            header.revision.saturating_add(JUMP),
            content.term + 1,
            Peer {
                node_id: node,
                addr,
            },
            Transaction { at, ops },
        )?;
        Ok(Self {
            identity,
            material,
            fresh,
            header,
            dropped: alone.dropped,
            kept: alone.kept,
            known: managers.into_iter().map(|peer| peer.addr).collect(),
        })
    }
}
