//! What an earlier version wrote: format 1, which was not encrypted. It is read whole, sealed, and what was there
//! before goes; this version writes nothing into it.
//!
//! Snapshots are replaced one by one. The log is written anew beside the old one, and takes its place by a rename
//! (`swap.rs`): sled would keep the old values in what it has freed. A crash at any point leaves what the next start
//! goes on with.

use crate::codec::{self, damaged};
use crate::cover::Cover;
use crate::database::Unsealed;
use crate::disk::{self, named};
use crate::handle::{SNAPSHOTS, blocking, close};
use crate::log::Log;
use crate::snapshot::{self, MAGIC, Snapshots, Stored};
use crate::swap;
use crate::wire;
use api::proto;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use prost::Message;
use seal::DataKey;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Opens the log of a store, which an earlier version may have written. `sync` makes what was written to its file
/// durable.
pub(crate) async fn open_log<S>(dir: &Path, key: &DataKey, sync: S) -> io::Result<Log>
where
    S: FnMut(&File) -> io::Result<()> + Clone + Send + 'static,
{
    let log_dir = dir.join("log");
    let open = || {
        let (log_dir, cover, sync) = (log_dir.clone(), Cover::Sealed(key.clone()), sync.clone());
        blocking(dir, move || {
            swap::settle(&log_dir)?;
            Log::open(&log_dir, cover, sync)
        })
    };
    let is_old = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<Unsealed>());
    match open().await {
        Err(error) if is_old(&error) => {
            tracing::info!(dir = %dir.display(), "encrypting the state, which an earlier clusterd wrote");
            let (snapshots, key_of_snapshots) = (dir.join(SNAPSHOTS), key.clone());
            blocking(dir, move || {
                seal_snapshots(&Snapshots::open(snapshots, key_of_snapshots)?)
            })
            .await?;
            seal_log(dir, key).await?;
            open().await
        }
        opened => opened,
    }
}

async fn seal_log(dir: &Path, key: &DataKey) -> io::Result<()> {
    let log_dir = dir.join("log");
    let half = swap::begin(&log_dir)?;
    let (from, to) = (log_dir.clone(), half.clone());
    let mut old = blocking(dir, move || Log::open(&from, Cover::Plain, File::sync_data)).await?;
    let cover = Cover::Sealed(key.clone());
    let new = blocking(dir, move || Log::open(&to, cover, File::sync_data)).await;
    let copied = match new {
        Ok(mut new) => {
            let copied = copy(&mut old, &mut new).await;
            let flusher = new.flusher();
            drop(new);
            close(flusher, half).await;
            copied
        }
        Err(error) => Err(error),
    };
    let flusher = old.flusher();
    drop(old);
    close(flusher, log_dir.clone()).await;
    copied?;
    swap::complete(&log_dir)
}

async fn copy(old: &mut Log, new: &mut Log) -> io::Result<()> {
    // Nothing is missing of it, or it is not touched.
    old.tidy().await?;
    let state = old.get_log_state().await?;
    if let Some(purged) = state.last_purged_log_id {
        new.purge(purged).await?;
    }
    let mut next = state.last_purged_log_id.map_or(0, |id| id.index + 1);
    let end = state.last_log_id.map_or(0, |id| id.index + 1);
    while next < end {
        let entries = old.limited_get_log_entries(next, end).await?;
        if entries.is_empty() {
            break;
        }
        next += entries.len() as u64;
        new.write_entries(entries).await?;
    }
    new.save_committed(old.read_committed().await?).await?;
    if let Some(vote) = old.read_vote().await? {
        new.save_vote(&vote).await?;
    }
    new.flusher().barrier().await
}

/// Those that are damaged stay as they are: they are named as they were, and go with the next that is written.
fn seal_snapshots(snapshots: &Snapshots) -> io::Result<()> {
    for path in snapshots.files()? {
        let bytes = fs::read(&path).map_err(|e| named(e, "read", &path))?;
        if bytes.get(MAGIC.len()) != Some(&codec::FORMAT) {
            continue;
        }
        match read_snapshot(&path, bytes) {
            Ok(stored) => snapshots.put(&path, &stored.meta, &stored.data)?,
            Err(error) => tracing::error!(%error, "left as it is"),
        }
    }
    disk::sync_dir(snapshots.dir())
}

/// A snapshot of format 1: `magic, format, length of meta, meta, length of data, SHA-256 of all before and the data,
/// data`.
pub(crate) fn read_snapshot(path: &Path, mut bytes: Vec<u8>) -> io::Result<Stored> {
    let what = format!("the snapshot {}", path.display());
    let short = || damaged(&what, "it is cut short");
    let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or_else(short)?;
    if magic != MAGIC {
        return Err(damaged(&what, "it doesn't begin as one"));
    }
    let rest = codec::versioned(&what, rest)?;
    let (length, rest) = snapshot::length(rest).ok_or_else(short)?;
    let (meta, rest) = rest.split_at_checked(length).ok_or_else(short)?;
    let (length, rest) = snapshot::length(rest).ok_or_else(short)?;
    let head = bytes.len() - rest.len();
    let (sum, data) = rest.split_at_checked(32).ok_or_else(short)?;
    if length != data.len() {
        return Err(short());
    }
    let found = Sha256::new()
        .chain_update(bytes.get(..head).unwrap_or_default())
        .chain_update(data)
        .finalize();
    if found.as_slice() != sum {
        return Err(damaged(&what, "its checksum is another"));
    }
    let meta = proto::SnapshotMeta::decode(meta).map_err(|e| damaged(&what, e))?;
    let meta = wire::read_snapshot_meta(&meta).map_err(|e| damaged(&what, e))?;
    // In place: it may be large.
    let begin = bytes.len() - data.len();
    bytes.drain(..begin);
    Ok(Stored { meta, data: bytes })
}
