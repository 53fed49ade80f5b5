//! What the rest of a manager uses: open, propose, read, watch. The managers themselves: `members.rs`.
//!
//! Three tasks belong to a handle and are joined by [`Handle::shutdown`]: one turns openraft's metrics into
//! [`Leadership`], one finishes changes of the managers that a former leader has left half made, one stands for election
//! when it is this manager's turn.

use crate::codec::damaged;
use crate::compact::Compactor;
use crate::database::{panic_text, wait_until_free};
use crate::error::{OpenError, ProposeError, cause, closing, unconfirmed, write_failed};
use crate::flusher::Flusher;
use crate::health::SyncTimes;
use crate::log::Log;
use crate::machine::Machine;
use crate::members::{Leadership, book, leadership};
use crate::network::{Addresses, Redialing};
use crate::options::Options;
use crate::snapshot::Contents;
use crate::snapshot::Snapshots;
use crate::turns::Turns;
use crate::types::{LogId, Peer, Proposal, Raft, TypeConfig};
use crate::upgrade;
use crate::watch::Watcher;
use api::convert;
use api::state::{ApplyError, ErrorKind, State, Transaction};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{
    ClientWriteError, Fatal, ForwardToLeader, InitializeError, LinearizableReadError, RaftError,
};
use openraft::network::{RaftNetworkFactory, RaftNetworkV2};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use openraft::{Config, ReadPolicy};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// A transaction larger than this is refused before it reaches the log, bytes.
pub(crate) const TRANSACTION_MAX: usize = 8 << 20;
/// How long a proposal waits for a leader, and for a majority.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long between two tries while no leader is known.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);
/// Between two looks at how long the log is: it changes with each write.
const REST: Duration = Duration::from_millis(50);
/// The folder of the snapshots, beside the log's.
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) raft: Raft,
    machine: Machine,
    flusher: Flusher,
    /// Of the log.
    dir: Arc<PathBuf>,
    pub(crate) own: Peer,
    leadership: watch::Receiver<Leadership>,
    pub(crate) addresses: Addresses,
    stands: Arc<AtomicBool>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// One change of the managers at a time.
    pub(crate) changing: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// Runs what blocks. A panic below is an error here: sled has some for damaged files.
pub(crate) async fn blocking<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => {
            let why = match failed.try_into_panic() {
                Ok(panic) => panic_text(&*panic),
                Err(failed) => failed.to_string(),
            };
            Err(damaged(&format!("the store in {}", dir.display()), why))
        }
    }
}

impl Handle {
    /// Opens the store and replays its log.
    ///
    /// # Errors
    /// When the disk refuses, or what is on it is damaged or of a newer version.
    pub async fn open<N>(options: Options, network: N) -> Result<Self, OpenError>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: RaftNetworkV2<TypeConfig, SnapshotData = Contents>,
    {
        Self::open_with(options, network, File::sync_data).await
    }

    /// `sync` makes what was written to the log's file durable.
    pub(crate) async fn open_with<N>(
        options: Options,
        network: N,
        sync: impl FnMut(&File) -> io::Result<()> + Clone + Send + 'static,
    ) -> Result<Self, OpenError>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: RaftNetworkV2<TypeConfig, SnapshotData = Contents>,
    {
        let config = options.config()?;
        let log = upgrade::open_log(&options.dir, &options.key, sync).await?;
        let (flusher, dir) = (log.flusher(), log.dir());
        match Self::start(options, config, network, log).await {
            Ok(handle) => Ok(handle),
            Err(error) => {
                close(flusher, dir.as_ref().clone()).await;
                Err(error)
            }
        }
    }

    async fn start<N>(
        options: Options,
        config: Config,
        network: N,
        mut log: Log,
    ) -> Result<Self, OpenError>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: RaftNetworkV2<TypeConfig, SnapshotData = Contents>,
    {
        log.tidy().await?;
        let (dir, key) = (options.dir.join(SNAPSHOTS), options.key.clone());
        let open = move || Machine::open(Snapshots::open(dir, key)?);
        let (machine, wrong) = blocking(&options.dir, open).await?;
        if machine.applied().is_some() && log.read_vote().await?.is_none() {
            let what = format!("the log in {}", log.dir().display());
            return Err(damaged(&what, "it is gone, and there is a snapshot").into());
        }
        let purged = log.get_log_state().await?.last_purged_log_id;
        if purged > machine.applied() {
            let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
            let (purged, snapshot) = (index(purged), index(machine.applied()));
            return Err(OpenError::Gap {
                purged,
                snapshot,
                damaged: wrong,
            });
        }
        let (flusher, dir) = (log.flusher(), log.dir());
        let folder = options.dir.clone();
        let snapshots = options.dir.join(SNAPSHOTS);
        let compactor = Compactor::new(log.appended(), snapshots, options.snapshot_bytes);
        let addresses = Addresses::default();
        let network = Redialing::new(network, addresses.clone());
        let raft = Raft::new(
            options.node.raft_id(),
            Arc::new(config),
            network,
            log,
            machine.clone(),
        )
        .await
        .map_err(|e| OpenError::Raft(format!("{}: {e}", folder.display())))?;
        let (tx, leadership) = watch::channel(leadership(&raft.server_metrics().borrow_watched()));
        let stands = options.stands;
        let turns = Turns::new(
            Duration::from_millis(options.election_ms.end),
            Duration::from_millis(options.heartbeat_ms),
        );
        let handle = Self {
            raft,
            machine,
            flusher,
            own: Peer {
                node_id: options.node,
                addr: options.addr,
            },
            leadership,
            addresses,
            stands: Arc::new(AtomicBool::new(stands)),
            dir,
            tasks: Arc::default(),
            changing: Arc::default(),
        };
        let tasks = vec![
            tokio::spawn(handle.clone().follow(tx, compactor)),
            tokio::spawn(handle.clone().settle_always()),
            tokio::spawn(handle.clone().take_turns(turns)),
        ];
        *handle.tasks.lock().await = tasks;
        // The only one has nobody to wait for. It refuses only when it has ended, which is told otherwise.
        if stands && handle.is_the_only_one() && handle.raft.trigger().elect(false).await.is_err() {
            tracing::debug!("no election: the consensus has ended");
        }
        Ok(handle)
    }

    /// Tells who leads, and where the managers are, and has the log cut, until the consensus ends; then tells that
    /// this one doesn't lead.
    async fn follow(self, leads: watch::Sender<Leadership>, mut compactor: Compactor) {
        fn tell<T: PartialEq>(to: &watch::Sender<T>, now: T) {
            to.send_if_modified(|before| {
                let is_news = *before != now;
                *before = now;
                is_news
            });
        }
        let (mut metrics, mut servers) = (self.raft.metrics(), self.raft.server_metrics());
        loop {
            let (leadership, book) = {
                let now = servers.borrow_and_update();
                (leadership(&now), book(&now))
            };
            let (has_ended, snapshot, applied) = {
                let now = metrics.borrow_and_update();
                let index = |id: &Option<LogId>| id.as_ref().map(|id| id.index);
                let (snapshot, applied) = (index(&now.snapshot), index(&now.last_applied));
                (now.running_state.is_err(), snapshot, applied)
            };
            let ended = Leadership {
                leader: None,
                own: false,
                ..leadership
            };
            if has_ended {
                tell(&leads, ended);
                return;
            }
            self.addresses.set(book);
            tell(&leads, leadership);
            compactor.look(&self.raft, snapshot, applied).await;
            let rest = sleep(REST);
            let changed = tokio::select! {
                changed = servers.changed() => changed,
                changed = async { rest.await; metrics.changed().await } => changed,
            };
            if changed.is_err() {
                tell(&leads, ended);
                return;
            }
        }
    }

    pub(crate) fn sync_times(&self) -> &SyncTimes {
        self.flusher.times()
    }

    /// The folder of the snapshots.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.with_file_name(SNAPSHOTS)
    }

    /// The consensus, for the other managers' calls.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Returns when the consensus has ended by itself: why. What happens then is that the disk refuses, or
    /// that this version can't read an entry; nothing is proposed or applied any more. Pending while it runs,
    /// and after [`Handle::shutdown`].
    pub async fn failure(&self) -> String {
        // These change seldom, and are closed as it ends.
        let mut servers = self.raft.server_metrics();
        while servers.changed().await.is_ok() {}
        let ended = self
            .raft
            .metrics()
            .borrow_watched()
            .running_state
            .clone()
            .err();
        match ended {
            None | Some(Fatal::Stopped) => std::future::pending().await,
            Some(fatal) => cause(&fatal),
        }
    }

    /// From now on it stands for election, too. One that was a manager before, and begins with an empty log, must not
    /// do so before it knows who the managers are: on its way through the log it meets the day when it was the only
    /// one.
    pub fn stand(&self) {
        self.raft.runtime_config().elect(true);
        self.stands.store(true, Ordering::Relaxed);
    }

    pub(crate) fn may_stand(&self) -> bool {
        self.stands.load(Ordering::Relaxed)
    }

    /// Whether it belongs to a cluster. One that was cut off in [`Handle::initialize`] does not yet.
    pub async fn is_initialized(&self) -> bool {
        if !self.raft.is_initialized().await.unwrap_or(false) {
            return false;
        }
        if !self.read(is_blank) || !self.is_alone() {
            return true;
        }
        // Perhaps its log is not applied yet.
        self.linearizable().await.is_err() || !self.read(is_blank)
    }

    /// Makes a cluster of this one manager, with its first transaction.
    ///
    /// # Errors
    /// When it belongs to one already, or the transaction is refused.
    pub async fn initialize(&self, first: Transaction) -> Result<u64, ProposeError> {
        self.check(&first)?;
        let members = BTreeMap::from([(self.own.node_id.raft_id(), self.own.clone())]);
        match self.raft.initialize(members).await {
            Ok(()) => {}
            // Cut off after this step: goes on with the next.
            Err(RaftError::APIError(InitializeError::NotAllowed(_)))
                if !self.is_initialized().await => {}
            Err(RaftError::Fatal(fatal)) => return Err(closing(cause(&fatal))),
            Err(RaftError::APIError(_)) => {
                return Err(ProposeError::Unavailable(
                    "this manager belongs to a cluster already".into(),
                ));
            }
        }
        self.propose(first).await
    }

    /// The transaction as bytes; refused when no manager could read it again.
    pub(crate) fn check(&self, transaction: &Transaction) -> Result<Proposal, ProposeError> {
        let bytes = convert::encode_transaction(transaction);
        if bytes.len() > TRANSACTION_MAX {
            return Err(ProposeError::TooLarge {
                bytes: bytes.len(),
                limit: TRANSACTION_MAX,
            });
        }
        match convert::decode_transaction(&bytes) {
            Ok(_) => Ok(Proposal(bytes)),
            Err(error) => {
                let message = format!("the change makes no sense: {error}");
                Err(ProposeError::Refused(ApplyError {
                    kind: ErrorKind::Invalid,
                    message,
                }))
            }
        }
    }

    /// Has a transaction taken by a majority and applied; its revision. When this returns an error other
    /// than [`ProposeError::Unavailable`], it was not done.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, transaction: Transaction) -> Result<u64, ProposeError> {
        let proposal = self.check(&transaction)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let write = self.raft.client_write(proposal.clone());
            let Ok(done) = timeout_at(end.max(Instant::now() + PAUSE), write).await else {
                return Err(unconfirmed());
            };
            match done {
                Ok(response) => return Ok(response.data.0?),
                // It was not written.
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                    self.not_leader(forward, end).await?;
                }
                Err(error) => return Err(write_failed(error)),
            }
        }
    }

    /// Returns to try again while no leader is known; an error when another leads or patience ends.
    pub(crate) async fn not_leader(
        &self,
        forward: ForwardToLeader<TypeConfig>,
        end: Instant,
    ) -> Result<(), ProposeError> {
        match forward.leader_id {
            Some(id) if id != self.own.node_id.raft_id() => Err(ProposeError::NotLeader {
                leader: forward.leader_node,
            }),
            // Just elected, or in an election.
            _ if Instant::now() < end => {
                sleep(PAUSE).await;
                Ok(())
            }
            _ => Err(ProposeError::NotLeader { leader: None }),
        }
    }

    /// Looks at the state as this manager has it now. Nothing is applied meanwhile: look, don't work.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.machine.read(look)
    }

    pub(crate) fn applied(&self) -> Option<LogId> {
        self.machine.applied()
    }

    /// Makes sure that this manager leads now and has applied all that was acknowledged; a read after it
    /// sees every write before it. The revision.
    ///
    /// # Errors
    /// When another leads, or no majority answers.
    pub async fn linearizable(&self) -> Result<u64, ProposeError> {
        let end = Instant::now() + PATIENCE;
        let silent = || {
            let text = format!(
                "no majority of the managers answered within {} s",
                PATIENCE.as_secs()
            );
            Err(ProposeError::Unavailable(text))
        };
        loop {
            let ask = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
            let Ok(done) = timeout_at(end.max(Instant::now() + PAUSE), ask).await else {
                return silent();
            };
            match done {
                Ok(_) => return Ok(self.read(State::revision)),
                Err(RaftError::Fatal(fatal)) => return Err(closing(cause(&fatal))),
                Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                    self.not_leader(forward, end).await?;
                }
                Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))
                    if Instant::now() < end =>
                {
                    sleep(PAUSE).await;
                }
                Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                    return silent();
                }
            }
        }
    }

    /// Follows the changes. Begins with [`crate::Watched::Resync`]: subscribe first, then read.
    #[must_use]
    pub fn watch(&self) -> Watcher {
        self.machine.ring.watch()
    }

    /// Changes when the cluster's own object does, and at the beginning. Ends when the store is closed.
    #[must_use]
    pub fn cluster_changes(&self) -> watch::Receiver<()> {
        self.machine.ring.cluster()
    }

    /// Who leads, now and from now on. Ends when the consensus does.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Ends it all and joins it. The folder is free again when this returns. Twice is once.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the consensus ended badly");
        }
        self.machine.ring.close();
        for task in std::mem::take(&mut *self.tasks.lock().await) {
            // It ends as the consensus has.
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the store failed");
            }
        }
        close(self.flusher.clone(), self.dir.as_ref().clone()).await;
    }
}

fn is_blank(state: &State) -> bool {
    state.cluster().is_none()
        && state.nodes().is_empty()
        && state.networks().is_empty()
        && state.services().is_empty()
        && state.stacks().is_empty()
        && state.tasks().is_empty()
}

pub(crate) async fn close(flusher: Flusher, dir: PathBuf) {
    let work = move || {
        flusher.close();
        wait_until_free(&dir);
    };
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "closing the log");
    }
}
