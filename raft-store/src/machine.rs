//! openraft's state machine: the cluster's state behind a lock, its changes into the ring.
//!
//! An entry that can't be read stops this manager rather than being passed over: all managers' states are
//! the same, or there is no state.

use crate::recover;
use crate::snapshot::{Contents, Snapshots, Stored};
use crate::types::{Entry, LogId, Outcome, Peer, SnapshotMeta, StoredMembership, TypeConfig};
use crate::watch::Ring;
use api::convert;
use api::state::{State, Transaction};
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, Membership, OptionalSend};
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Entries applied under one lock.
const BATCH: usize = 64;

/// How far it is.
#[derive(Debug, Clone, Default)]
struct Progress {
    applied: Option<LogId>,
    membership: StoredMembership,
}

struct Inner {
    state: State,
    progress: Progress,
}

/// The state machine. Cheap to clone.
#[derive(Clone)]
pub struct Machine {
    inner: Arc<RwLock<Inner>>,
    pub(crate) ring: Arc<Ring>,
    snapshots: Snapshots,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

/// An entry that was read.
enum Step {
    Blank,
    Membership(Membership<u64, Peer>),
    Transaction(Transaction),
}

fn read(entry: Entry) -> io::Result<(LogId, Step)> {
    let id = entry.log_id();
    let step = match entry.payload {
        EntryPayload::Blank => Step::Blank,
        EntryPayload::Membership(membership) => Step::Membership(membership),
        EntryPayload::Normal(proposal) => match convert::decode_transaction(&proposal.0) {
            Ok(transaction) => Step::Transaction(transaction),
            Err(error) => {
                let text = format!(
                    "log entry {} can't be read: {error}; a newer clusterd wrote it: upgrade this one",
                    id.index
                );
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        },
    };
    Ok((id, step))
}

fn load(stored: &Stored) -> io::Result<Inner> {
    let tables = convert::decode_tables(&stored.data).map_err(|error| {
        let index = stored.meta.last_log_id.as_ref().map_or(0, |id| id.index);
        // It is as it was written.
        let text =
            format!("the snapshot of log entry {index} can't be read: {error}; a newer clusterd wrote it: upgrade this one");
        io::Error::new(io::ErrorKind::Unsupported, text)
    })?;
    let progress = Progress {
        applied: stored.meta.last_log_id,
        membership: stored.meta.last_membership.clone(),
    };
    Ok(Inner {
        state: State::from_tables(tables),
        progress,
    })
}

impl Inner {
    fn apply(&mut self, ring: &Ring, id: LogId, step: Step) -> Outcome {
        self.progress.applied = Some(id);
        match step {
            Step::Blank => self.state.pass(id.index),
            Step::Membership(membership) => {
                self.progress.membership = StoredMembership::new(Some(id), membership);
                self.state.pass(id.index);
            }
            Step::Transaction(transaction) => match self.state.apply(id.index, transaction) {
                // Under the lock: who has read the state sees what comes after it.
                Ok(events) => ring.push(id.index, events),
                Err(refused) => return Outcome(Err(refused)),
            },
        }
        Outcome(Ok(id.index))
    }
}

impl Machine {
    /// From the newest snapshot that is whole; and what is wrong with those that are newer.
    pub(crate) fn open(snapshots: Snapshots) -> io::Result<(Self, Vec<io::Error>)> {
        let (newest, wrong) = snapshots.newest()?;
        let inner = match newest {
            Some(stored) => load(&stored)?,
            None => Inner {
                state: State::new(),
                progress: Progress::default(),
            },
        };
        Ok((
            Self {
                inner: Arc::new(RwLock::new(inner)),
                ring: Arc::new(Ring::new()),
                snapshots,
            },
            wrong,
        ))
    }

    fn lock(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_mut(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state as it is now.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().state)
    }

    /// Applies entries that nobody waits for.
    pub(crate) fn replay(&self, entries: Vec<Entry>) -> io::Result<()> {
        for entry in entries {
            let (id, step) = read(entry)?;
            // One that the state refuses was refused when it was made.
            self.lock_mut().apply(&self.ring, id, step);
        }
        Ok(())
    }

    /// The managers, as of the last entry applied.
    pub(crate) fn managers(&self) -> Vec<Peer> {
        recover::peers(self.lock().progress.membership.nodes())
    }

    /// The last entry applied.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.lock().progress.applied
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = Contents;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, Contents>, io::Error> {
        let (tables, meta) = {
            let inner = self.lock();
            let Progress {
                applied,
                membership,
            } = inner.progress.clone();
            (
                inner.state.tables(),
                SnapshotMeta {
                    last_log_id: applied,
                    last_membership: membership,
                },
            )
        };
        let snapshots = self.snapshots.clone();
        let kept = meta.clone();
        let work = move || {
            let data = convert::encode_tables(&tables);
            snapshots.write(&kept, &data).map(|()| data)
        };
        let snapshot = tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)??;
        let snapshot = snapshot.into();
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Contents;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let inner = self.lock();
        Ok((inner.progress.applied, inner.progress.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let mut steps = Vec::with_capacity(batch.len());
            let mut waiting = Vec::with_capacity(batch.len());
            let mut failed = None;
            for next in batch {
                let step = next.and_then(|(entry, responder)| Ok((read(entry)?, responder)));
                match step {
                    Ok((step, responder)) => {
                        steps.push(step);
                        waiting.push(responder);
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            let outcomes: Vec<Outcome> = {
                let mut inner = self.lock_mut();
                steps
                    .into_iter()
                    .map(|(id, step)| inner.apply(&self.ring, id, step))
                    .collect()
            };
            // Whoever proposed it waits for this.
            for (responder, outcome) in waiting.into_iter().zip(outcomes) {
                if let Some(responder) = responder {
                    responder.send(outcome);
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Contents,
    ) -> Result<(), io::Error> {
        let stored = Stored {
            meta: meta.clone(),
            data: snapshot.load().await?,
        };
        let snapshots = self.snapshots.clone();
        let work = move || {
            // Read before it is kept: one that can't be is refused, and the old state stays.
            let inner = load(&stored)?;
            snapshots.write(&stored.meta, &stored.data)?;
            Ok::<_, io::Error>(inner)
        };
        let fresh = tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)??;
        *self.lock_mut() = fresh;
        self.ring.restart();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, Contents>>, io::Error> {
        let snapshots = self.snapshots.clone();
        let newest = tokio::task::spawn_blocking(move || snapshots.newest_unread());
        let newest = newest.await.map_err(io::Error::other)??;
        Ok(newest.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}
