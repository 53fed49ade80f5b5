//! What the rest of a manager uses: propose, read, watch, membership.

use crate::log::Log;
use crate::machine::Machine;
use crate::members::{Leadership, ManagerState, leadership, managers};
use crate::snapshot::Snapshots;
use crate::types::{Peer, Proposal, Raft, TypeConfig};
use crate::watch::Watcher;
use api::convert;
use api::model::NodeId;
use api::state::{ApplyError, State, Transaction};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::network::RaftNetworkFactory;
use openraft::{ChangeMembers, Config, ReadPolicy, SnapshotPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// A transaction larger than this is refused before it reaches the log, bytes.
const TRANSACTION_MAX: usize = 8 << 20;
/// How long a proposal waits for a leader, and for a majority.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long between two tries while no leader is known.
const PAUSE: Duration = Duration::from_millis(10);
/// Entries kept behind a snapshot, for followers that are a little behind.
const TAIL: u64 = 1_000;
/// Entries in one message.
const BATCH: u64 = 256;

/// Settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder.
    pub dir: PathBuf,
    /// Which node this is.
    pub node: NodeId,
    /// Where others reach it, `host:port`.
    pub addr: String,
    /// The leader says so often that it is there, ms.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing for so long stands for election, ms.
    pub election_ms: Range<u64>,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Settings that make no sense.
    #[error("the settings of Raft make no sense: {0}")]
    Settings(String),
    /// The disk, or what is on it.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// openraft itself.
    #[error("the consensus can't be started: {0}")]
    Raft(String),
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The state refused it: it was not done, and won't be.
    #[error(transparent)]
    Refused(#[from] ApplyError),
    /// Another manager leads: it was not done here.
    #[error("this manager does not lead{}", leader.as_ref().map(|l| format!("; {l} does")).unwrap_or_default())]
    NotLeader {
        /// Who does, if one is known.
        leader: Option<Peer>,
    },
    /// Too large for the log.
    #[error("the change is too large: {bytes} bytes, {limit} are allowed; make it in parts")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// No majority of managers took it in time, or this one is closing.
    #[error("{0}")]
    Unavailable(String),
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    raft: Raft,
    machine: Machine,
    log: Log,
    own: Peer,
    leadership: watch::Receiver<Leadership>,
    follower: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// One change of membership at a time.
    changing: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("own", &self.own).finish_non_exhaustive()
    }
}

fn closing(error: impl std::fmt::Display) -> ProposeError {
    ProposeError::Unavailable(format!("this manager's consensus has ended: {error}"))
}

impl Handle {
    /// Opens the store and replays its log.
    ///
    /// # Errors
    /// When the disk refuses, or what is on it is damaged or of a newer version.
    pub async fn open<N>(options: Options, network: N) -> Result<Self, OpenError>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: openraft::network::NetSnapshot<TypeConfig, SnapshotData = Vec<u8>>,
    {
        let config = Config {
            cluster_name: "clusterd".into(),
            heartbeat_interval: options.heartbeat_ms,
            election_timeout_min: options.election_ms.start,
            election_timeout_max: options.election_ms.end,
            enable_pre_vote: Some(true),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
            max_in_snapshot_log_to_keep: TAIL.min(options.snapshot_every),
            max_payload_entries: BATCH,
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(|e| OpenError::Settings(e.to_string()))?);
        let dir = options.dir.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let log = Log::open(&dir.join("log"))?;
            let machine = Machine::open(Snapshots::open(dir.join("snapshots"))?)?;
            Ok::<_, io::Error>((log, machine))
        });
        let (log, machine) = opened.await.map_err(io::Error::other)??;
        let raft = Raft::new(options.node.raft_id(), config, network, log.clone(), machine.clone())
            .await
            .map_err(|e| OpenError::Raft(e.to_string()))?;
        let (tx, leading) = watch::channel(leadership(&raft.metrics().borrow_watched()));
        let mut metrics = raft.metrics();
        let follower = tokio::spawn(async move {
            while metrics.changed().await.is_ok() {
                let now = leadership(&metrics.borrow_watched());
                tx.send_if_modified(|before| {
                    let news = *before != now;
                    if news {
                        *before = now;
                    }
                    news
                });
            }
        });
        Ok(Self {
            raft,
            machine,
            log,
            own: Peer { node_id: options.node, addr: options.addr },
            leadership: leading,
            follower: Arc::new(Mutex::new(Some(follower))),
            changing: Arc::default(),
        })
    }

    /// The consensus, for the other managers' calls.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Whether it belongs to a cluster.
    pub async fn is_initialized(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(false)
    }

    /// Makes a cluster of this one manager, with its first transaction.
    ///
    /// # Errors
    /// When it belongs to one already, or the transaction is refused.
    pub async fn initialize(&self, first: Transaction) -> Result<u64, ProposeError> {
        let members = BTreeMap::from([(self.own.node_id.raft_id(), self.own.clone())]);
        self.raft.initialize(members).await.map_err(|e| ProposeError::Unavailable(e.to_string()))?;
        self.propose(first).await
    }

    /// Has a transaction taken by a majority and applied; its revision. When this returns an error other
    /// than [`ProposeError::Unavailable`], it was not done.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, transaction: Transaction) -> Result<u64, ProposeError> {
        let bytes = convert::encode_transaction(&transaction);
        if bytes.len() > TRANSACTION_MAX {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), limit: TRANSACTION_MAX });
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let write = self.raft.client_write(Proposal(bytes.clone()));
            let left = end.saturating_duration_since(Instant::now()).max(PAUSE);
            let Ok(done) = timeout(left, write).await else {
                return Err(ProposeError::Unavailable(format!(
                    "no majority of the managers confirmed the change within {} s; it may still be made",
                    PATIENCE.as_secs()
                )));
            };
            match done {
                Ok(response) => return Ok(response.data.0?),
                Err(RaftError::Fatal(fatal)) => return Err(closing(fatal)),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                    self.not_leader(forward, end).await?;
                }
                Err(RaftError::APIError(other)) => return Err(ProposeError::Unavailable(other.to_string())),
            }
        }
    }

    /// Returns to try again while no leader is known; an error when another leads or patience ends.
    async fn not_leader(&self, forward: ForwardToLeader<TypeConfig>, end: Instant) -> Result<(), ProposeError> {
        match forward.leader_id {
            Some(id) if id != self.own.node_id.raft_id() => {
                Err(ProposeError::NotLeader { leader: forward.leader_node })
            }
            // Just elected, or in an election.
            _ if Instant::now() < end => {
                sleep(PAUSE).await;
                Ok(())
            }
            _ => Err(ProposeError::NotLeader { leader: None }),
        }
    }

    /// Looks at the state as this manager has it now.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.machine.read(look)
    }

    /// Makes sure that this manager leads now and has applied all that was acknowledged; a read after it
    /// sees every write before it. The revision.
    ///
    /// # Errors
    /// When another leads, or no majority answers.
    pub async fn linearizable(&self) -> Result<u64, ProposeError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let ask = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
            let left = end.saturating_duration_since(Instant::now()).max(PAUSE);
            let silent = || {
                ProposeError::Unavailable(format!("no majority of the managers answered within {} s", PATIENCE.as_secs()))
            };
            match timeout(left, ask).await.map_err(|_| silent())? {
                Ok(_) => return Ok(self.read(State::revision)),
                Err(RaftError::Fatal(fatal)) => return Err(closing(fatal)),
                Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                    self.not_leader(forward, end).await?;
                }
                Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) if Instant::now() < end => {
                    sleep(PAUSE).await;
                }
                Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => return Err(silent()),
            }
        }
    }

    /// Follows the changes. Begins with [`crate::Watched::Resync`]: subscribe first, then read.
    #[must_use]
    pub fn watch(&self) -> Watcher {
        self.machine.ring.watch()
    }

    /// Who leads, now and from now on.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The managers.
    #[must_use]
    pub fn managers(&self) -> Vec<ManagerState> {
        managers(&self.raft.metrics().borrow_watched())
    }

    /// Makes a node a manager: a learner until it has caught up, then a voter. Twice is once.
    ///
    /// # Errors
    /// When this manager doesn't lead, or no majority answers.
    pub async fn add_manager(&self, node: NodeId, addr: String) -> Result<(), ProposeError> {
        let _one_at_a_time = self.changing.lock().await;
        let id = node.raft_id();
        let known = self.managers().into_iter().find(|m| m.peer.node_id == node);
        if known.is_some_and(|m| m.voter && m.peer.addr == addr) {
            return Ok(());
        }
        self.raft.add_learner(id, Peer { node_id: node, addr }, true).await.map_err(changed)?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Takes a node out of the managers. Twice is once.
    ///
    /// # Errors
    /// When it is the last one, this manager doesn't lead, or no majority answers.
    pub async fn remove_manager(&self, node: NodeId) -> Result<(), ProposeError> {
        let _one_at_a_time = self.changing.lock().await;
        let id = node.raft_id();
        let all = self.managers();
        let Some(known) = all.iter().find(|m| m.peer.node_id == node) else { return Ok(()) };
        if known.voter {
            if all.iter().filter(|m| m.voter).count() == 1 {
                return Err(ProposeError::Unavailable(
                    "this is the last manager: the cluster's state would be lost with it".into(),
                ));
            }
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await?;
        }
        match self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await {
            // It went with its vote.
            Err(_) if !self.managers().iter().any(|m| m.peer.node_id == node) => Ok(()),
            done => done,
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Result<(), ProposeError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.raft.change_membership(change.clone(), false).await {
                Ok(_) => return Ok(()),
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) if Instant::now() < end => {
                    // An earlier change is not committed yet.
                    tracing::debug!(%error, "the managers can't be changed yet");
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(changed(error)),
            }
        }
    }

    /// Gives the lead to another manager.
    ///
    /// # Errors
    /// When this manager doesn't lead, or has ended.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), ProposeError> {
        if !self.leadership.borrow().own {
            return Err(ProposeError::NotLeader { leader: self.leadership.borrow().leader.clone() });
        }
        self.raft.trigger().transfer_leader(to.raft_id()).await.map_err(closing)
    }

    /// Ends it all and joins it.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the consensus ended badly");
        }
        self.machine.ring.close();
        let log = self.log.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || log.close()).await {
            tracing::error!(%error, "closing the log");
        }
        if let Some(follower) = self.follower.lock().await.take() {
            follower.abort();
            // Aborted, or ended by itself.
            let _ = follower.await;
        }
    }
}

fn changed(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader { leader: forward.leader_node }
        }
        RaftError::APIError(other) => ProposeError::Unavailable(other.to_string()),
        RaftError::Fatal(fatal) => closing(fatal),
    }
}
