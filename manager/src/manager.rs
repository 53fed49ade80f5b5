//! A running manager: its store, its services, what it does while it leads.

use crate::auth::guard;
use crate::backup::Keeper;
use crate::ca::CaService;
use crate::control::{Control, Turns};
use crate::dialer::Dialer;
use crate::dispatch::Dispatch;
use crate::found::Founding;
use crate::identity::Identity;
use crate::novice::Novice;
use crate::place::{Hints, Me};
use crate::proxy::{Upstream, forward};
use crate::quorum::Quorum;
use crate::raft_rpc::{Network, RaftService, join_raft, leave_raft};
use crate::relock;
use crate::revoked::Revoked;
use crate::terms;
use crate::upstream::{ManagerPolicy, ManagerUpstream};
use api::proto::ca_server::CaServer;
use api::proto::control_server::ControlServer;
use api::proto::dispatch_server::DispatchServer;
use api::proto::raft_server::RaftServer;
use bytes::Bytes;
use raft_store::{Handle, OpenError, Options, ProposeError};
use seal::Keys;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::service::Routes;

/// Largest message between managers, and from the CLI, bytes.
pub const MESSAGE_MAX: usize = 16 << 20;
/// How long another manager may take to take the lead over.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Entries of the log between two snapshots, and how many more at most: each manager has another number, or all would
/// write one at once, and there would be no majority without.
const SNAPSHOT_EVERY: u64 = 20_000;
const SNAPSHOT_STEP: u64 = 1_000;
const SNAPSHOT_STEPS: u64 = 8;

fn snapshot_every(node: api::model::NodeId) -> u64 {
    SNAPSHOT_EVERY + node.raft_id() % SNAPSHOT_STEPS * SNAPSHOT_STEP
}

/// What a manager is given.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// The folder of its replicated state.
    pub dir: PathBuf,
    /// What that is sealed with.
    pub keys: Arc<Keys>,
    /// Who it is.
    pub identity: Identity,
    /// Where others reach it, `host:port`.
    pub addr: String,
    /// The cluster's root certificate, PEM.
    pub ca_pem: String,
    /// How it reaches others.
    pub dialer: Dialer,
    /// Which boot of which machine this is; empty where that is not to be told.
    pub instance: Bytes,
    /// Raft's pace.
    pub pace: Pace,
}

/// Raft's pace, milliseconds.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The leader says so often that it is there.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing stands for election when the lease is over that it gave the leader, the end of this,
    /// and its turn has come: one and a half heartbeats for each follower. The first of them stands after 0.75 s of
    /// silence, the second after 0.9, and so round and round. Without a leader known, after a restart say, it stands after
    /// a time drawn from this.
    pub election_ms: std::ops::Range<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat_ms: 100,
            election_ms: 350..600,
        }
    }
}

/// Why a manager can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store.
    #[error("the cluster's state in {dir} can't be opened")]
    Store {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        cause: OpenError,
    },
    /// Its keys.
    #[error("this manager can't be locked as the cluster's settings want it")]
    Lock(#[source] std::io::Error),
    /// The first entry of a new cluster.
    #[error("the cluster could not be made")]
    Initialize(#[source] ProposeError),
    /// There is a cluster already.
    #[error(
        "{0} holds the state of a cluster, and this machine has no identity of it; put its identity back from a backup, or remove the folder"
    )]
    NotEmpty(PathBuf),
}

/// A running manager. Has to be shut down.
pub struct Manager {
    handle: Handle,
    keys: Arc<Keys>,
    identity: Identity,
    dialer: Dialer,
    addr: String,
    instance: Bytes,
    hints: Arc<Hints>,
    upstream: Arc<ManagerUpstream>,
    policy: Arc<ManagerPolicy>,
    services: Routes,
    novice: Novice,
    stop: CancellationToken,
    tasks: TaskTracker,
    terms: Mutex<Option<JoinHandle<()>>>,
}

impl Manager {
    /// Opens the store and takes part as far as it belongs to the managers: a store that is new waits for
    /// [`Manager::join`].
    ///
    /// # Errors
    /// When the store can't be opened.
    pub async fn start(config: ManagerConfig) -> Result<Self, StartError> {
        let novice = Novice::look(&config.dir).map_err(|cause| StartError::Store {
            dir: config.dir.clone(),
            cause: cause.into(),
        })?;
        let options = Options {
            dir: config.dir.clone(),
            key: config.keys.data().clone(),
            node: config.identity.node,
            addr: config.addr.clone(),
            heartbeat_ms: config.pace.heartbeat_ms,
            election_ms: config.pace.election_ms.clone(),
            snapshot_every: snapshot_every(config.identity.node),
            snapshot_bytes: Options::SNAPSHOT_BYTES,
            stands: !novice.is_one(),
        };
        let handle = Handle::open(options, Network::new(config.dialer.clone()))
            .await
            .map_err(|cause| StartError::Store {
                dir: config.dir.clone(),
                cause,
            })?;
        Ok(Self::assemble(handle, config, novice))
    }

    /// Makes a new cluster with this manager as its only one: all of it in the first entry of the log.
    ///
    /// # Errors
    /// When the store can't be opened, or holds a cluster already.
    pub async fn init(config: ManagerConfig, founding: &Founding) -> Result<Self, StartError> {
        let dir = config.dir.clone();
        let manager = Self::start(config).await?;
        let stood = manager.stand().map_err(|cause| StartError::Store {
            dir: dir.clone(),
            cause: cause.into(),
        });
        let keys = manager.keys.clone();
        let made = if let Err(error) = stood {
            Err(error)
        } else if manager.handle.is_initialized().await {
            Err(StartError::NotEmpty(dir))
        } else {
            manager
                .handle
                .initialize(founding.transaction())
                .await
                .map(drop)
                .map_err(StartError::Initialize)
        };
        let locked = match made {
            Ok(()) => relock::follow(&manager.handle, &keys)
                .await
                .map_err(StartError::Lock),
            Err(error) => Err(error),
        };
        match locked {
            Ok(()) => Ok(manager),
            Err(error) => {
                manager.shutdown().await;
                Err(error)
            }
        }
    }

    fn assemble(handle: Handle, config: ManagerConfig, novice: Novice) -> Self {
        let ManagerConfig {
            dir,
            keys,
            identity,
            addr,
            ca_pem,
            dialer,
            instance,
            ..
        } = config;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let dispatch = Dispatch::new(handle.clone(), tasks.clone());
        let control = Control {
            handle: handle.clone(),
            dialer: dialer.clone(),
            me: identity.node,
            stale: false,
            overview: dispatch.overview(),
            addr: addr.clone(),
            instance: instance.clone(),
            turn: Arc::default(),
            stacks: Turns::default(),
            backups: Arc::default(),
            scratch: dir.with_extension("scratch"),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let keeper = Keeper {
            handle: handle.clone(),
            me: identity.node,
            scratch: control.scratch.clone(),
            backups: control.backups.clone(),
        };
        let hints: Arc<Hints> = Arc::default();
        let me = Me {
            handle: handle.clone(),
            dialer: dialer.clone(),
            node: identity.node,
            addr: addr.clone(),
            instance: instance.clone(),
            hints: hints.clone(),
        };
        let raft = RaftService::new(me.clone(), stop.clone());
        tasks.spawn(me.run(stop.clone()));
        let services =
            Routes::new(ControlServer::new(control).max_decoding_message_size(MESSAGE_MAX))
                .add_service(CaServer::new(CaService::new(handle.clone(), &ca_pem)))
                .add_service(
                    DispatchServer::new(dispatch.clone()).max_decoding_message_size(MESSAGE_MAX),
                )
                .add_service(
                    RaftServer::new(raft)
                        .max_decoding_message_size(MESSAGE_MAX)
                        .max_encoding_message_size(MESSAGE_MAX),
                );
        let upstream = Arc::new(ManagerUpstream::new(
            handle.clone(),
            dialer.clone(),
            identity.node,
        ));
        upstream.serve(services.clone());
        let leadership = handle.leadership();
        let policy = Arc::new(ManagerPolicy {
            handle: handle.clone(),
            me: identity,
            leadership,
            tls: dialer.tls().clone(),
        });
        tasks.spawn(follow_revoked(
            handle.clone(),
            dialer.tls().revoked().clone(),
            stop.clone(),
        ));
        tasks.spawn(relock::follow_always(
            handle.clone(),
            keys.clone(),
            stop.clone(),
        ));
        let terms = tokio::spawn(terms::run(
            handle.clone(),
            identity.node,
            dialer.clone(),
            dispatch,
            keeper,
            stop.clone(),
        ));
        Self {
            handle,
            keys,
            identity,
            dialer,
            addr,
            instance,
            hints,
            upstream,
            policy,
            services,
            novice,
            stop,
            tasks,
            terms: Mutex::new(Some(terms)),
        }
    }

    /// The replicated state.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What other nodes may call here, and `more` (the agent's service), behind the table of who may call
    /// what: for the TLS listener.
    #[must_use]
    pub fn routes(&self, more: Routes) -> Routes {
        let all = self.services.clone().into_axum_router();
        // Routers with a fallback each can't be merged: the services go below the agent's fallback.
        let merged: Routes = more.into_axum_router().fallback_service(all).into();
        guard(forward(merged, self.upstream()), self.policy.clone())
    }

    /// Where calls that the leader serves go: for the local socket's proxy.
    #[must_use]
    pub fn upstream(&self) -> Arc<dyn Upstream> {
        self.upstream.clone()
    }

    /// What decides over calls here.
    #[must_use]
    pub fn policy(&self) -> Arc<dyn crate::auth::Policy> {
        self.policy.clone()
    }

    /// Asks a manager at one of these addresses (`host:port`) to be made one of the managers. Returns once
    /// this one is a voter.
    ///
    /// # Errors
    /// Why not: of each address tried.
    pub async fn join(&self, managers: &[String], bound: Duration) -> Result<(), Status> {
        let index = join_raft(&self.dialer, managers, &self.addr, &self.instance, bound).await?;
        timeout(bound, self.handle.votes_since(index))
            .await
            .map_err(|_| {
                Status::deadline_exceeded(format!(
                    "this manager was taken in, but does not hear of it within {} s; is {} open to the other managers?",
                    bound.as_secs(),
                    self.addr
                ))
            })?;
        let refused = |error| Status::unavailable(format!("the disk refuses: {error}"));
        // It has the cluster's state now, and so its unlock key.
        relock::follow(&self.handle, &self.keys)
            .await
            .map_err(refused)?;
        self.stand().map_err(refused)
    }

    /// It is one of the managers, and may lead them.
    fn stand(&self) -> std::io::Result<()> {
        self.novice.is_none_any_more()?;
        self.handle.stand();
        Ok(())
    }

    /// Whether it is one of the managers that vote, as far as it knows.
    #[must_use]
    pub fn votes(&self) -> bool {
        let managers = self.handle.managers();
        !self.novice.is_one()
            && managers
                .iter()
                .any(|manager| manager.voter && manager.peer.node_id == self.identity.node)
    }

    /// Takes this manager out of the managers. The last one can't be taken out.
    ///
    /// # Errors
    /// When there is no quorum, it is the last one, or it is a copy of one.
    pub async fn leave(&self, bound: Duration) -> Result<(), Status> {
        leave_raft(&self.upstream(), self.identity.node, &self.instance, bound).await
    }

    /// A manager is at this address (`host:port`), where this one doesn't look for it.
    pub fn hint(&self, addr: String) {
        self.hints.add(addr);
    }

    /// Which of the managers can be reached.
    pub async fn quorum(&self) -> Quorum {
        Quorum::of(&self.handle, &self.dialer, self.identity.node).await
    }

    /// Before the listeners close: hands the lead over, if it has it and somebody can take it, and ends
    /// sessions and logs, so that connections can drain. [`Manager::shutdown`] has to follow.
    pub async fn retire(&self) {
        let mut leadership = self.handle.leadership();
        let next = self
            .handle
            .managers()
            .into_iter()
            .filter(|manager| {
                manager.voter && manager.reachable && manager.peer.node_id != self.identity.node
            })
            .min_by_key(|manager| manager.lag);
        let leads = leadership.borrow().own;
        if let Some(next) = next.filter(|_| leads) {
            match self.handle.transfer_leadership(next.peer.node_id).await {
                Ok(()) => {
                    // Not taken in time: the others elect one when this one is gone.
                    let _ = timeout(HAND_OVER, leadership.wait_for(|now| !now.own)).await;
                }
                Err(error) => tracing::debug!("the lead could not be handed over: {error}"),
            }
        }
        self.stop.cancel();
    }

    /// How it reaches others.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Ends everything it does and joins it. Sessions and logs end; the store is closed. Twice is once.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let terms = self.terms.lock().await.take();
        if let Some(terms) = terms
            && let Err(error) = terms.await
        {
            tracing::error!("the leader's work failed: {error}");
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.handle.shutdown().await;
    }
}

/// Ends the connections of nodes as they are removed.
async fn follow_revoked(handle: Handle, revoked: Arc<Revoked>, stop: CancellationToken) {
    let mut changes = handle.cluster_changes();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = stop.cancelled() => return,
        }
        if let Some(cluster) = handle.read(|state| state.cluster().cloned()) {
            revoked.add(cluster.revoked.keys().copied());
        }
    }
}
