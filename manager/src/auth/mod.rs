//! Who may call what: one table of every RPC, checked on every call before anything else sees it.
//!
//! Invariants: an RPC that is not in the table is denied; what a caller may do follows from its certificate
//! (or from the local socket's file rights) alone; what a call says of its first caller is believed only
//! from a manager. Knows neither Raft nor the state: a node that is only a worker guards its listener too.

mod layer;
mod origin;
mod table;

pub use layer::{AuthLayer, AuthService, guard};
pub use origin::{CALLER_HEADER, Origin, OriginKind};
pub use table::{Access, TABLE, access};

use crate::dispatch::removed_text;
use crate::identity::Identity;
use api::model::{NodeId, Role};
use std::net::IpAddr;

/// What a listener's node knows that decides over calls.
pub trait Policy: Send + Sync + 'static {
    /// This node; none while it belongs to no cluster.
    fn me(&self) -> Option<Identity>;
    /// Whether `exec` may be called from a worker.
    fn worker_exec(&self) -> bool;
    /// The managers, for a person: `node1 192.168.205.10, ...`.
    fn managers(&self) -> String;
    /// Whether this node is known to be no member any more.
    fn is_gone(&self, node: NodeId) -> bool;
    /// Whether this node is known to be a manager no more, whatever its certificate says.
    fn is_demoted(&self, _: NodeId) -> bool {
        false
    }
    /// Whether this node's own certificate has ended.
    fn has_ended(&self) -> bool {
        false
    }
}

/// Who makes a call, by the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Through the local socket, whose file rights let only root and its group in.
    Local,
    /// With a certificate of the cluster's CA.
    Peer(Identity, Option<IpAddr>),
    /// With a certificate of the cluster's CA that has ended.
    Ended(Identity, Option<IpAddr>),
    /// With a certificate of the CA that names no node.
    Strange(String),
    /// Without a certificate.
    Unknown(Option<IpAddr>),
}

/// Why a call is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not in the table.
    #[error("there is no call {0}")]
    NoSuchCall(String),
    /// No certificate.
    #[error("{0} needs a certificate of this cluster: join it first")]
    Unidentified(String),
    /// A certificate that names no node.
    #[error("{0}")]
    Strange(String),
    /// A certificate of another cluster.
    #[error("the caller belongs to cluster {theirs}, this is cluster {ours}")]
    OtherCluster {
        /// The caller's.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// A certificate that has ended.
    #[error("the certificate of node {0} has ended: it gets a new one first, by itself")]
    Ended(NodeId),
    /// A node that was removed.
    #[error("{}", removed_text(*.0))]
    Gone(NodeId),
    /// Only managers may.
    #[error("{0} is for managers only")]
    ManagersOnly(String),
    /// Only the node's own socket may.
    #[error("{0} is served on the node's own socket only")]
    LocalOnly(String),
    /// Not on the socket.
    #[error("{0} is not served on the local socket")]
    NotLocal(String),
    /// A worker's operator wants what only managers' may.
    #[error("this node is a worker: run it on a manager ({0})")]
    Worker(String),
    /// A worker's operator wants into a container, and the cluster doesn't let them.
    #[error(
        "this node is a worker, and the cluster is set not to let workers exec: run it on a manager ({0}), where `clusterctl \
         cluster update --worker-exec=true` allows it"
    )]
    WorkerExec(String),
}

/// Decides over a call. `claim` is what the call says of its first caller.
///
/// # Errors
/// Why it is denied.
pub fn decide(
    path: &str,
    caller: &Caller,
    claim: Option<&str>,
    policy: &dyn Policy,
) -> Result<Origin, Denied> {
    let Some(access) = access(path) else {
        return Err(Denied::NoSuchCall(path.to_owned()));
    };
    let me = policy.me();
    let origin = match caller {
        Caller::Local => {
            if !matches!(
                access,
                Access::Local | Access::Read | Access::Exec | Access::Inspect | Access::Operate
            ) {
                return Err(Denied::NotLocal(path.to_owned()));
            }
            match me {
                Some(me) if me.role == Role::Worker => {
                    // The managers decide over what a worker's operator may do.
                    return Ok(Origin::worker(me.node));
                }
                Some(me) => Origin::operator(Some(me.node)),
                None => Origin::operator(None),
            }
        }
        Caller::Strange(why) => return Err(Denied::Strange(why.clone())),
        Caller::Unknown(addr) => match access {
            Access::Anyone => return Ok(Origin::outside(*addr)),
            _ => return Err(Denied::Unidentified(path.to_owned())),
        },
        Caller::Peer(peer, addr) | Caller::Ended(peer, addr) => {
            if let Some(me) = me
                && me.cluster != peer.cluster
            {
                let (theirs, ours) = (peer.cluster.to_string(), me.cluster.to_string());
                return Err(Denied::OtherCluster { theirs, ours });
            }
            if policy.is_gone(peer.node) {
                return Err(Denied::Gone(peer.node));
            }
            if matches!(caller, Caller::Ended(..)) {
                // Managers that were all off for long have to find each other before anybody can renew anything.
                let by_manager = peer.role == Role::Manager && !policy.is_demoted(peer.node);
                let is_raft = access == Access::Manager && path.starts_with("/clusterd.v1.Raft/");
                let together = by_manager && is_raft && policy.has_ended();
                if access != Access::Renew && !together {
                    return Err(Denied::Ended(peer.node));
                }
            }
            match (role(peer, policy), claim.and_then(Origin::parse)) {
                (Role::Manager, Some(first)) => first,
                _ if access == Access::Anyone => Origin::outside(*addr),
                (Role::Manager, None) => Origin::operator(Some(peer.node)),
                (Role::Worker, _) => Origin::worker(peer.node),
            }
        }
    };
    let is_manager = match caller {
        Caller::Peer(peer, _) | Caller::Ended(peer, _) => role(peer, policy) == Role::Manager,
        _ => false,
    };
    let by_worker = origin.kind == OriginKind::Worker;
    match access {
        Access::Anyone | Access::Node | Access::Renew | Access::Read => Ok(origin),
        Access::Exec if by_worker && !policy.worker_exec() => {
            Err(Denied::WorkerExec(policy.managers()))
        }
        Access::Inspect | Access::Operate if by_worker => Err(Denied::Worker(policy.managers())),
        Access::Inspect | Access::Operate | Access::Exec => Ok(origin),
        Access::Manager if is_manager => Ok(origin),
        Access::Manager => Err(Denied::ManagersOnly(path.to_owned())),
        Access::Local if *caller == Caller::Local => Ok(origin),
        Access::Local => Err(Denied::LocalOnly(path.to_owned())),
    }
}

/// What a caller is: what its certificate says, unless that is known to be over.
fn role(peer: &Identity, policy: &dyn Policy) -> Role {
    match peer.role {
        Role::Manager if policy.is_demoted(peer.node) => Role::Worker,
        role => role,
    }
}

#[cfg(test)]
mod tests;
