//! The one service that is open to who has no certificate yet. `Issue` is served by the leader.

use super::renew::RenewError;
use super::{CaError, Limiter, Renewal, Wait, issue, role_of, root_digest};
use crate::auth::{Caller, Origin};
use crate::certificate::Certificate;
use crate::clock::now;
use crate::control::propose_status;
use api::convert;
use api::model::{Meta, Node, NodeCert, NodeDescription, NodeId, NodeSpec, NodeState, NodeStatus};
use api::proto::ca_server;
use api::proto::{GetRootRequest, IssueRequest, Issued, RenewRequest, Renewed, Root};
use api::state::{Op, State, Transaction};
use raft_store::Handle;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tonic::{Request, Response, Status};

/// Largest request for a certificate, bytes.
const CSR_MAX: usize = 16 * 1024;

/// The service.
#[derive(Clone)]
pub(crate) struct CaService {
    handle: Handle,
    /// The root, known before the state is.
    ca_pem: Arc<str>,
    limiter: Arc<Mutex<Limiter>>,
}

impl CaService {
    pub fn new(handle: Handle, ca_pem: &str) -> Self {
        Self {
            handle,
            ca_pem: ca_pem.into(),
            limiter: Arc::default(),
        }
    }

    fn check_pace(&self, addr: IpAddr) -> Result<(), Status> {
        // A panic while it was held leaves a map that is whole.
        let limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        match limiter.wait(addr, Instant::now()) {
            None => Ok(()),
            Some(Wait::Address(wait)) => Err(Status::resource_exhausted(format!(
                "too many wrong join tokens from {addr}; try again in {} s",
                wait.as_secs() + 1
            ))),
            Some(Wait::Everybody(wait)) => Err(Status::resource_exhausted(format!(
                "too many wrong join tokens from many addresses; nobody may join for {} s; if nobody tries on \
                 purpose, give the token with `clusterctl join-token` anew",
                wait.as_secs() + 1
            ))),
        }
    }
}

/// What a joiner asks for, checked.
struct Wish {
    hostname: String,
    addr: Ipv4Addr,
    port: u16,
}

fn read(request: &IssueRequest) -> Result<Wish, Status> {
    let hostname = request.hostname.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if hostname.is_empty() || hostname.len() > 253 || !hostname.chars().all(good) {
        let shown: String = hostname.chars().take(60).collect();
        return Err(Status::invalid_argument(format!(
            "{shown:?} is no host name: 1 to 253 of a-z A-Z 0-9 - . _ are"
        )));
    }
    let addr = Ipv4Addr::from(request.addr);
    let port = u16::try_from(request.port).unwrap_or(0);
    if addr.is_unspecified() || addr.is_broadcast() || addr.is_multicast() || port == 0 {
        return Err(Status::invalid_argument(format!(
            "{addr}:{} is no address that other nodes can reach",
            request.port
        )));
    }
    if request.csr_pem.len() > CSR_MAX {
        return Err(Status::invalid_argument(
            "the certificate request is too long",
        ));
    }
    Ok(Wish {
        hostname: hostname.to_owned(),
        addr,
        port,
    })
}

/// Nodes that got a certificate for this very address and never came: a join that was broken off.
fn broken_off(state: &State, wish: &Wish, managers: &[NodeId]) -> Vec<NodeId> {
    state
        .nodes()
        .values()
        .filter(|node| {
            (node.addr, node.port) == (wish.addr, wish.port)
                && node.status.state == NodeState::Unknown
                && !managers.contains(&node.id)
        })
        .map(|node| node.id)
        .collect()
}

#[tonic::async_trait]
impl ca_server::Ca for CaService {
    async fn get_root(&self, _: Request<GetRootRequest>) -> Result<Response<Root>, Status> {
        let known = self
            .handle
            .read(|state| state.cluster().map(|c| c.token_root_pem().to_owned()));
        Ok(Response::new(Root {
            cert_pem: known.unwrap_or_else(|| self.ca_pem.to_string()),
            at: now().0,
        }))
    }

    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<Issued>, Status> {
        let origin = request.extensions().get::<Origin>().copied();
        let from = origin
            .and_then(|origin| origin.addr)
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let request = request.into_inner();
        self.handle
            .linearizable()
            .await
            .map_err(|e| propose_status(e, false))?;
        self.check_pace(from)?;
        // Before anything of it is logged: anybody may ask, and write what they like.
        let wish = read(&request)?;
        let cluster = self
            .handle
            .read(|state| state.cluster().cloned())
            .ok_or_else(|| Status::failed_precondition("there is no cluster yet"))?;
        let Some(role) = role_of(&request.secret, &cluster.tokens) else {
            self.limiter
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wrong(from, Instant::now());
            tracing::warn!(%from, hostname = %wish.hostname, "a wrong join token");
            return Err(Status::permission_denied(
                "the join token is not valid (any more): this cluster's tokens were changed, or it was copied wrongly; get a new one with `clusterctl join-token worker` or `clusterctl join-token manager` on a manager",
            ));
        };
        let (id, at) = (NodeId::random(), now());
        let cert_pem =
            issue(&cluster, &request.csr_pem, id, role, at).map_err(|e| ca_status(&e))?;
        let issuer = root_digest(&cluster.ca.cert_pem).map_err(|e| ca_status(&e))?;
        let cert = Certificate::from_pem(&cert_pem)
            .map_err(|e| Status::internal(e.to_string()))?
            .record(issuer);
        let managers = self.handle.managers();
        let voters: Vec<NodeId> = managers
            .iter()
            .map(|manager| manager.peer.node_id)
            .collect();
        let mut ops: Vec<Op> = self
            .handle
            .read(|state| broken_off(state, &wish, &voters))
            .into_iter()
            .map(Op::RemoveNode)
            .collect();
        ops.push(Op::CreateNode(Box::new(new_node(id, cert, &wish))));
        self.handle
            .propose(Transaction { at, ops })
            .await
            .map_err(|e| propose_status(e, true))?;
        tracing::info!(node = %id, role = role.as_str(), hostname = %wish.hostname, addr = %wish.addr, "a node has joined");
        Ok(Response::new(Issued {
            node_id: convert::id_bytes(id.0),
            cluster_id: convert::id_bytes(cluster.id.0),
            role: role.as_str().into(),
            cert_pem,
            managers: managers
                .into_iter()
                .map(|manager| manager.peer.addr)
                .collect(),
            roots_pem: cluster.roots_pem(),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Renewed>, Status> {
        // Who asks, however many managers have passed it on.
        let asks = request
            .extensions()
            .get::<Origin>()
            .and_then(|origin| origin.node);
        let asks = asks.or_else(|| match request.extensions().get::<Caller>() {
            Some(Caller::Peer(peer, _) | Caller::Ended(peer, _)) => Some(peer.node),
            _ => None,
        });
        let node =
            asks.ok_or_else(|| Status::unauthenticated("a node is known by its certificate"))?;
        let csr_pem = request.into_inner().csr_pem;
        if csr_pem.len() > CSR_MAX {
            return Err(Status::invalid_argument(
                "the certificate request is too long",
            ));
        }
        self.handle
            .linearizable()
            .await
            .map_err(|e| propose_status(e, false))?;
        let managers: BTreeSet<NodeId> = self
            .handle
            .managers()
            .into_iter()
            .map(|manager| manager.peer.node_id)
            .collect();
        let (state, at) = (self.handle.read(State::clone), now());
        let renewal = Renewal::decide(&state, &managers, node, &csr_pem, at).map_err(|error| {
            let text = error.to_string();
            match error {
                RenewError::Gone(_) | RenewError::OtherKey(_) => {
                    tracing::warn!(%node, "no new certificate: {text}");
                    Status::permission_denied(text)
                }
                RenewError::NoCluster => Status::failed_precondition(text),
                RenewError::Ca(error) => ca_status(&error),
            }
        })?;
        if let Some(cert) = renewal.first_seen {
            let ops = vec![Op::SetNodeCert { id: node, cert }];
            self.handle
                .propose(Transaction { at, ops })
                .await
                .map_err(|e| propose_status(e, true))?;
        }
        tracing::info!(%node, role = renewal.role.as_str(), "a node's certificate was renewed");
        Ok(Response::new(Renewed {
            role: renewal.role.as_str().into(),
            cert_pem: renewal.cert_pem,
            roots_pem: renewal.roots_pem,
        }))
    }
}

fn ca_status(error: &CaError) -> Status {
    match error {
        CaError::Request(_) => Status::invalid_argument(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

fn new_node(id: NodeId, cert: NodeCert, wish: &Wish) -> Node {
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec {
            role: cert.role,
            ..NodeSpec::default()
        },
        description: NodeDescription {
            hostname: wish.hostname.clone(),
            ..NodeDescription::default()
        },
        status: NodeStatus::default(),
        addr: wish.addr,
        port: wish.port,
        cert,
    }
}
