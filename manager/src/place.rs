//! A manager that is elsewhere than the managers know says so, until they know.
//!
//! ```text
//! this manager's address is not the one in the membership:
//!   it leads       ─► it has it changed
//!   another leads  ─► each manager is told where this one is, so that they can reach it without a majority that
//!                     could write it down; then the leader is asked to
//! somebody says where a manager is ─► the two tell each other where they are
//! ```
//!
//! The latter is for when most managers have moved at once, and none finds another. What is told this way is
//! believed until the membership has it, or the manager ends. Who has the identity of a manager that still answers
//! where it was is a copy of it, and is refused.

use crate::dialer::Dialer;
use crate::raft_rpc::join_raft;
use api::convert;
use api::model::NodeId;
use api::proto::raft_client::RaftClient;
use api::proto::{AnnounceReply, AnnounceRequest, HealthRequest};
use bytes::Bytes;
use futures_util::future::join_all;
use raft_store::Handle;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How often it looks whether all is well.
const LOOK: Duration = Duration::from_secs(1);
/// How long a manager may take to hear where this one is.
const TELL_BOUND: Duration = Duration::from_secs(3);
/// How long the leader may take to have it written.
const CHANGE_BOUND: Duration = Duration::from_secs(8);
/// How long a manager may take to show that it is still where it was.
const PROBE_BOUND: Duration = Duration::from_millis(1_500);
/// Addresses that somebody has said and nobody has answered at.
const HINTS: usize = 16;

/// Where somebody says managers are, `host:port`, until they answer there.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    all: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Hints {
    /// A manager is there. What is too much is forgotten.
    pub fn add(&self, addr: String) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= HINTS {
            all.pop_first();
        }
        all.insert(addr);
        drop(all);
        self.news.notify_one();
    }

    fn read(&self) -> BTreeSet<String> {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn answered(&self, addr: &str) {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(addr);
    }
}

/// This manager, as it tells of itself.
#[derive(Clone)]
pub(crate) struct Me {
    pub handle: Handle,
    pub dialer: Dialer,
    pub node: NodeId,
    /// Where it is, `host:port`.
    pub addr: String,
    /// Which boot of which machine.
    pub instance: Bytes,
    pub hints: Arc<Hints>,
}

impl Me {
    /// Goes on until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut told = String::new();
        loop {
            if let Err(status) = self.step().await {
                let why = status.message();
                // The same trouble again and again is one line.
                if told != why {
                    tracing::warn!(addr = %self.addr, "the managers don't know yet where this one is: {why}");
                    why.clone_into(&mut told);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                () = self.hints.news.notified() => {}
            }
        }
    }

    async fn step(&self) -> Result<(), Status> {
        let known = self.handle.places();
        let is_stale = known.get(&self.node).is_some_and(|at| *at != self.addr);
        let hints = self.hints.read();
        if !is_stale && hints.is_empty() {
            return Ok(());
        }
        if is_stale && self.handle.leadership().borrow().own {
            tracing::info!(addr = %self.addr, "this manager, which leads, has another address now");
            let changed = self.handle.add_manager(self.node, self.addr.clone());
            return changed
                .await
                .map_err(|e| Status::unavailable(e.to_string()));
        }
        let others: BTreeMap<NodeId, String> = known
            .into_iter()
            .filter(|(node, _)| is_stale && *node != self.node)
            .collect();
        let tell = others
            .iter()
            .map(|(node, addr)| async move { self.tell(addr, Some(*node)).await.map(drop) });
        let meet = hints.iter().map(|addr| self.meet(addr));
        let (told, met) = tokio::join!(join_all(tell), join_all(meet));
        let refused = told
            .into_iter()
            .chain(met)
            .filter_map(Result::err)
            .find(|status| status.code() == tonic::Code::AlreadyExists);
        if let Some(status) = refused {
            return Err(status);
        }
        if !is_stale {
            return Ok(());
        }
        let at: Vec<String> = self
            .handle
            .places()
            .into_iter()
            .filter(|(node, _)| *node != self.node)
            .map(|(_, addr)| addr)
            .collect();
        join_raft(&self.dialer, &at, &self.addr, &self.instance, CHANGE_BOUND)
            .await
            .map(drop)
    }

    /// Tells the manager at an address, whoever that is if none is named, where this one is.
    async fn tell(&self, addr: &str, node: Option<NodeId>) -> Result<AnnounceReply, Status> {
        let channel = match node {
            Some(node) => self.dialer.node(addr, node),
            None => self.dialer.manager(addr),
        };
        let request = AnnounceRequest {
            addr: self.addr.clone(),
            instance: self.instance.clone(),
        };
        match timeout(TELL_BOUND, RaftClient::new(channel).announce(request)).await {
            Ok(reply) => reply.map(tonic::Response::into_inner),
            Err(_) => Err(Status::unavailable(format!("{addr} does not answer"))),
        }
    }

    /// Finds out which manager is at an address that somebody has said.
    async fn meet(&self, addr: &str) -> Result<(), Status> {
        let reply = self.tell(addr, None).await?;
        let node = convert::node_id(&reply.node_id).map_err(|e| Status::internal(e.to_string()))?;
        tracing::info!(%node, addr, "a manager is there, as was said");
        self.handle.has_moved(node, addr.to_owned());
        self.hints.answered(addr);
        Ok(())
    }

    /// Another manager says where it is now.
    pub async fn hear(
        &self,
        node: NodeId,
        request: AnnounceRequest,
    ) -> Result<AnnounceReply, Status> {
        check_addr(&request.addr)?;
        self.refuse_copy(node, &request.addr, &request.instance)
            .await?;
        self.handle.has_moved(node, request.addr);
        Ok(AnnounceReply {
            node_id: convert::id_bytes(self.node.0),
            addr: self.addr.clone(),
        })
    }

    /// Refuses a second machine with a manager's identity: the first still answers where it was.
    pub async fn refuse_copy(
        &self,
        node: NodeId,
        addr: &str,
        instance: &Bytes,
    ) -> Result<(), Status> {
        let Some(known) = self.handle.places().remove(&node) else {
            return Ok(());
        };
        if known == addr || instance.is_empty() {
            return Ok(());
        }
        let mut client = RaftClient::new(self.dialer.node(&known, node));
        let Ok(Ok(health)) = timeout(PROBE_BOUND, client.health(HealthRequest {})).await else {
            return Ok(());
        };
        let first = health.into_inner().instance;
        if first.is_empty() || first == *instance {
            return Ok(());
        }
        tracing::error!(%node, first = known, second = addr, "two machines have the identity of a manager");
        Err(Status::already_exists(format!(
            "two machines have the identity of manager {node}: the one at {known} is there already, this one calls from {addr}; is this a cloned disk? take the copy out with `clusterctl leave --force` on it, then join it again"
        )))
    }
}

/// Refuses what is no `host:port`.
pub(crate) fn check_addr(addr: &str) -> Result<(), Status> {
    let is_fine = addr.len() < 256
        && addr
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match is_fine {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "{addr:?} is not HOST:PORT of a manager"
        ))),
    }
}
