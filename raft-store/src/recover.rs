//! The store of a manager that doesn't run: read whole, or made anew with this manager as the only one.
//!
//! This is how a cluster goes on that has lost its majority, and how a backup becomes one. openraft changes
//! its members by majority alone, so nothing is changed in place: a new store is written beside the old one,
//! a snapshot whose membership is one manager and a log that begins after it, and takes its place by a
//! rename (`swap.rs`). Its term is above all that the old store knew.

use crate::OpenError;
use crate::codec::damaged;
use crate::cover::Cover;
use crate::disk;
use crate::handle::{SNAPSHOTS, blocking};
use crate::log::Log;
use crate::machine::Machine;
use crate::snapshot::Snapshots;
use crate::swap;
use crate::types::{LogId, Peer, Vote};
use crate::upgrade;
use crate::wire;
use api::convert;
use api::proto;
use api::state::{ApplyError, State, Tables, Transaction};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use seal::DataKey;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

/// What a store holds: everything that this manager has ever taken, acknowledged or not, since it can't know
/// which of the last entries a majority had.
#[derive(Debug, Clone)]
pub struct Found {
    /// The state.
    pub state: State,
    /// The last entry.
    pub index: u64,
    /// The highest term it has seen.
    pub term: u64,
    /// The managers, as it knew them.
    pub managers: Vec<Peer>,
}

/// A store to be made.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The state that it begins with.
    pub tables: Tables,
    /// The last entry of it.
    pub index: u64,
    /// A term above all that was.
    pub term: u64,
    /// Its only manager.
    pub own: Peer,
}

/// Reads a store that nobody has open.
///
/// # Errors
/// When it is in use, damaged, of a newer version, or sealed with another key.
pub async fn read(dir: &Path, key: &DataKey) -> Result<Found, OpenError> {
    if !dir.join("log").is_dir() {
        let text = format!("{} holds no cluster's state", dir.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text).into());
    }
    let mut log = upgrade::open_log(dir, key, File::sync_data).await?;
    let found = read_open(&mut log, dir, key.clone()).await;
    let (flusher, log_dir) = (log.flusher(), log.dir());
    drop(log);
    crate::handle::close(flusher, log_dir.as_ref().clone()).await;
    found
}

async fn read_open(log: &mut Log, dir: &Path, key: DataKey) -> Result<Found, OpenError> {
    log.tidy().await?;
    let snapshots = dir.join(SNAPSHOTS);
    let open = move || Machine::open(Snapshots::open(snapshots, key)?);
    let (machine, damaged) = blocking(dir, open).await?;
    let known = log.get_log_state().await?;
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
    if known.last_purged_log_id > machine.applied() {
        return Err(OpenError::Gap {
            purged: index(known.last_purged_log_id),
            snapshot: index(machine.applied()),
            damaged,
        });
    }
    let end = known.last_log_id.map_or(0, |id| id.index + 1);
    let mut next = machine.applied().map_or(0, |id| id.index + 1);
    while next < end {
        let entries = log.limited_get_log_entries(next, end).await?;
        if entries.is_empty() {
            break;
        }
        next += entries.len() as u64;
        machine.replay(entries)?;
    }
    if machine.applied() < known.last_log_id {
        let what = format!("the log in {}", log.dir().display());
        return Err(self::damaged(&what, format!("entry {next} is missing")).into());
    }
    let vote = log.read_vote().await?.map(|vote| wire::vote(&vote).leader);
    let applied = machine.applied();
    let term = |leader: Option<proto::LeaderId>| leader.map_or(0, |leader| leader.term);
    let (voted, written) = (
        vote.flatten(),
        applied.and_then(|id| wire::log_id(&id).leader),
    );
    Ok(Found {
        state: machine.read(State::clone),
        index: index(applied),
        term: term(voted).max(term(written)),
        managers: machine.managers(),
    })
}

impl Fresh {
    /// The state of `from` with a first change, at an index of one's own.
    ///
    /// # Errors
    /// When the state refuses the change.
    pub fn new(
        from: Tables,
        index: u64,
        term: u64,
        own: Peer,
        first: Transaction,
    ) -> Result<Self, ApplyError> {
        let mut state = State::from_tables(from);
        state.apply(index, first)?;
        Ok(Self {
            tables: state.tables(),
            index,
            term,
            own,
        })
    }

    /// Writes it beside `dir`, sealed with `key`; [`swap::settle`] puts it in place. What was written before and not put in place
    /// goes.
    ///
    /// # Errors
    /// When the disk refuses; what is in `dir` is as it was.
    pub async fn write(&self, dir: &Path, key: &DataKey) -> io::Result<()> {
        let half = swap::begin(dir)?;
        self.write_into(&half, key).await?;
        swap::complete(dir)
    }

    /// Writes it into a folder that is not there yet.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn write_into(&self, dir: &Path, key: &DataKey) -> io::Result<()> {
        let raft_id = self.own.node_id.raft_id();
        let leader = Some(proto::LeaderId {
            term: self.term,
            node: raft_id,
        });
        let at = Some(proto::LogId {
            leader,
            index: self.index,
        });
        let peer = proto::RaftPeer {
            node_id: convert::id_bytes(self.own.node_id.0),
            addr: self.own.addr.clone(),
        };
        let membership = proto::Membership {
            configs: vec![proto::VoterSet { ids: vec![raft_id] }],
            nodes: [(raft_id, peer)].into(),
        };
        let meta = proto::SnapshotMeta {
            last_log: at,
            membership_log: at,
            membership: Some(membership),
        };
        let meta = wire::read_snapshot_meta(&meta).map_err(io::Error::other)?;
        let Some(last) = meta.last_log_id else {
            return Err(io::Error::other("the snapshot has no place in the log"));
        };
        disk::make_dir(dir)?;
        let (snapshots, tables) = (dir.join(SNAPSHOTS), self.tables.clone());
        let key_of_snapshots = key.clone();
        let write = move || {
            let snapshots = Snapshots::open(snapshots, key_of_snapshots)?;
            snapshots.write(&meta, &convert::encode_tables(&tables))
        };
        blocking(dir, write).await?;
        let (log_dir, cover) = (dir.join("log"), Cover::Sealed(key.clone()));
        let open = move || Log::open(&log_dir, cover, File::sync_data);
        let mut log = blocking(dir, open).await?;
        let written = async {
            log.save_vote(&Vote::new(self.term, raft_id)).await?;
            log.purge(last).await
        };
        let written = written.await;
        let (flusher, log_dir) = (log.flusher(), log.dir());
        drop(log);
        crate::handle::close(flusher, log_dir.as_ref().clone()).await;
        written?;
        disk::sync_dir(dir)
    }
}

/// Managers by what a membership says.
pub(crate) fn peers<'a>(nodes: impl Iterator<Item = (&'a u64, &'a Peer)>) -> Vec<Peer> {
    let all: BTreeMap<u64, Peer> = nodes.map(|(id, peer)| (*id, peer.clone())).collect();
    all.into_values().collect()
}
