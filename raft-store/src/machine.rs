//! openraft's state machine: the cluster's state behind a lock, its changes into the ring.

use crate::snapshot::{Snapshots, Stored};
use crate::types::{LogId, Outcome, SnapshotMeta, StoredMembership, TypeConfig};
use crate::watch::Ring;
use api::convert;
use api::state::{ApplyError, ErrorKind, State};
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, OptionalSend};
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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

fn load(stored: &Stored) -> io::Result<Inner> {
    let tables = convert::decode_tables(&stored.data)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("a snapshot's state can't be read: {e}")))?;
    let progress =
        Progress { applied: stored.meta.last_log_id, membership: stored.meta.last_membership.clone() };
    Ok(Inner { state: State::from_tables(tables), progress })
}

impl Machine {
    pub(crate) fn open(snapshots: Snapshots) -> io::Result<Self> {
        let inner = match snapshots.newest()? {
            Some(stored) => load(&stored)?,
            None => Inner { state: State::new(), progress: Progress::default() },
        };
        Ok(Self { inner: Arc::new(RwLock::new(inner)), ring: Arc::new(Ring::new()), snapshots })
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

    fn meta(progress: &Progress) -> SnapshotMeta {
        SnapshotMeta { last_log_id: progress.applied, last_membership: progress.membership.clone() }
    }

    fn apply_one(&self, id: LogId, payload: EntryPayload<crate::types::Proposal, u64, crate::types::Peer>) -> Outcome {
        let mut inner = self.lock_mut();
        inner.progress.applied = Some(id);
        match payload {
            EntryPayload::Blank => inner.state.pass(id.index),
            EntryPayload::Membership(membership) => {
                inner.progress.membership = StoredMembership::new(Some(id), membership);
                inner.state.pass(id.index);
            }
            EntryPayload::Normal(proposal) => match convert::decode_transaction(&proposal.0) {
                Ok(transaction) => match inner.state.apply(id.index, transaction) {
                    // Under the lock: who has read the state sees what comes after it.
                    Ok(events) => self.ring.push(id.index, events),
                    Err(refused) => return Outcome(Err(refused)),
                },
                Err(error) => {
                    // Every manager of this version refuses it alike; a newer one's entry must not be lost, so
                    // a manager that can't read it has to be upgraded before it goes on.
                    inner.state.pass(id.index);
                    tracing::error!(index = id.index, %error, "an entry of the log can't be read; is this clusterd older than the leader's?");
                    let message = format!("the transaction can't be read: {error}");
                    return Outcome(Err(ApplyError { kind: ErrorKind::Invalid, message }));
                }
            },
        }
        Outcome(Ok(id.index))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, Vec<u8>>, io::Error> {
        let (tables, meta) = {
            let inner = self.lock();
            (inner.state.tables(), Self::meta(&inner.progress))
        };
        let snapshots = self.snapshots.clone();
        let kept = meta.clone();
        let work = move || {
            let data = convert::encode_tables(&tables);
            snapshots.write(&kept, &data).map(|()| data)
        };
        let snapshot = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??;
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let inner = self.lock();
        Ok((inner.progress.applied, inner.progress.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcome = self.apply_one(entry.log_id(), entry.payload);
            // Whoever proposed it waits for this.
            if let Some(waiting) = responder {
                waiting.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Vec<u8>) -> Result<(), io::Error> {
        let stored = Stored { meta: meta.clone(), data: snapshot };
        let snapshots = self.snapshots.clone();
        let work = move || {
            // Read before it is kept: one that can't be is refused, and the old state stays.
            let inner = load(&stored)?;
            snapshots.write(&stored.meta, &stored.data)?;
            Ok::<_, io::Error>(inner)
        };
        let fresh = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??;
        *self.lock_mut() = fresh;
        self.ring.restart();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, Vec<u8>>>, io::Error> {
        let stored = self.snapshots.newest()?;
        Ok(stored.map(|s| Snapshot { meta: s.meta, snapshot: s.data }))
    }
}
