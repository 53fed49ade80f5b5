//! openraft's log on sled. Only this file and `database.rs`, which opens it, name sled.
//!
//! Writes keep their order: each goes to sled where openraft asks for it, and is durable once the
//! [`Flusher`]'s thread has flushed sled and called `fdatasync` on its file (sled's own `flush` does not
//! reach the disk on Linux).
//!
//! sled keeps a page over a quarter of a segment (128 KiB) in a file of its own that it never syncs, and a
//! page holds up to some twenty values. So an entry is cut into parts of 4 KiB, under the keys (index, part).
//! One too large for a single batch is written from its end to its beginning: an entry is there if its part 0
//! is, and what a crash leaves without one is removed at the next start.

use crate::codec;
use crate::database::{self, open_failed, panic_text, said_where, sled_failed};
use crate::disk;
use crate::flusher::{Flusher, IN_FLIGHT};
use crate::mark::{Mark, Reached};
use crate::types::{Entry, LogId, TypeConfig, Vote};
use futures_util::FutureExt;
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of an entry in one value.
const PART: usize = 4 * 1024;
/// Bytes in one batch.
const PIECE: usize = IN_FLIGHT;
/// Bytes of entries read at once for a follower.
const READ_AT_ONCE: usize = 4 << 20;

type Key = [u8; 12];

/// The log. Cheap to clone; its folder is free again when all clones are gone.
#[derive(Clone)]
pub(crate) struct Log {
    dir: Arc<PathBuf>,
    entries: sled::Tree,
    records: sled::Tree,
    flusher: Flusher,
    /// What the next sync makes durable at least.
    reached: Arc<Mutex<Reached>>,
    /// What was durable when it was opened.
    before: Option<Reached>,
    /// Where the file could not be read before it was opened.
    suspects: Arc<Vec<u64>>,
}

/// A batch on its way.
#[derive(Default)]
struct Piece {
    batch: sled::Batch,
    bytes: usize,
}

impl Piece {
    fn insert(&mut self, key: Key, value: &[u8]) {
        self.bytes += key.len() + value.len();
        self.batch.insert(&key, value);
    }

    /// Removing costs at most what the page around it does.
    fn remove(&mut self, key: &[u8], bytes: usize) {
        self.bytes += key.len() + bytes;
        self.batch.remove(key);
    }
}

fn key(index: u64, part: u32) -> Key {
    let mut key = [0; 12];
    let (head, tail) = key.split_at_mut(8);
    head.copy_from_slice(&index.to_be_bytes());
    tail.copy_from_slice(&part.to_be_bytes());
    key
}

impl Log {
    /// Opens the log, making it. `sync` makes what was written to its file durable. The folder is free after a
    /// failure.
    pub fn open(
        dir: &Path,
        sync: impl FnMut(&File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let opened = Self::open_in(dir, sync);
        if let Err(error) = &opened
            && error.kind() != io::ErrorKind::ResourceBusy
        {
            database::wait_until_free(dir);
        }
        opened
    }

    fn open_in(
        dir: &Path,
        mut sync: impl FnMut(&File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        disk::make_dir(dir)?;
        let (db, awake, suspects) = database::open(dir)?;
        let failed = |error: sled::Error| said_where(open_failed(dir, error), dir, &suspects);
        let (entries, records) = (
            db.open_tree("log").map_err(failed)?,
            db.open_tree("records").map_err(failed)?,
        );
        let file = File::open(dir.join("db"))?;
        let (mut mark, before) = Mark::open(dir.join(database::MARK))?;
        let reached = Arc::new(Mutex::new(before.unwrap_or_default()));
        let known = reached.clone();
        let mut sync = move || {
            let _until_closed = &awake;
            let now = *known.lock().unwrap_or_else(PoisonError::into_inner);
            db.flush().map_err(sled_failed)?;
            sync(&file)?;
            mark.write(now)
        };
        // sled syncs neither its settings nor the folder.
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(|e| disk::named(e, "sync", &path))?;
        }
        disk::sync_dir(dir)?;
        sync()?;
        let flusher = Flusher::start(sync)?;
        let log = Self {
            dir: Arc::new(dir.to_owned()),
            entries,
            records,
            flusher,
            reached,
            before,
            suspects: Arc::new(suspects),
        };
        Ok(log)
    }

    /// What ends the thread that flushes.
    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    /// Its folder.
    pub fn dir(&self) -> Arc<PathBuf> {
        self.dir.clone()
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what a crash has left of unfinished work, and reads all of it: this version can, and nothing is
    /// missing that was durable.
    pub async fn tidy(&mut self) -> io::Result<()> {
        // sled has panics for damage that it doesn't look for.
        let done = AssertUnwindSafe(self.repair()).catch_unwind().await;
        let done = done.unwrap_or_else(|panic| {
            let what = format!("the log in {}", self.dir.display());
            Err(codec::damaged(&what, panic_text(&*panic)))
        });
        done.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => said_where(error, &self.dir, &self.suspects),
            _ => error,
        })
    }

    async fn repair(&mut self) -> io::Result<()> {
        self.read_committed().await?;
        if let Some(purged) = self.get::<LogId>("purged")? {
            self.remove_from_front(purged.index).await?;
        }
        // A large entry is written from its end: without its part 0 it isn't there.
        let mut piece = Piece::default();
        for pair in self.entries.iter().rev() {
            let (key, value) = pair.map_err(sled_failed)?;
            let (index, part) = self.position(&key)?;
            if part == 0
                || self
                    .entries
                    .contains_key(self::key(index, 0))
                    .map_err(sled_failed)?
            {
                break;
            }
            self.make_room(&mut piece, value.len()).await?;
            piece.remove(&key, value.len());
        }
        self.write(piece).await?;
        let now = self.verify().await?;
        *self.reached() = now;
        self.flusher.barrier().await
    }

    /// Reads it all: no entry is missing between two others, and it reaches as far as it did. How far.
    async fn verify(&mut self) -> io::Result<Reached> {
        let damaged = |why: String| {
            let what = format!("the log in {}", self.dir.display());
            Err(codec::damaged(&what, why))
        };
        let purged = self.get::<LogId>("purged")?;
        let mut last = purged;
        loop {
            let next = last.map_or(0, |id| id.index + 1);
            let entries = self.read(next.., READ_AT_ONCE)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                let (id, next) = (entry.log_id(), last.map_or(0, |id| id.index + 1));
                if id.index != next {
                    return damaged(format!(
                        "entry {next} is missing, entry {} is there",
                        id.index
                    ));
                }
                if last.is_some_and(|last| last.leader_id > id.leader_id) {
                    return damaged(format!("entry {next} is older than the one before it"));
                }
                last = Some(id);
            }
        }
        let vote = self.get::<Vote>("vote")?;
        let now = Reached {
            vote: vote.as_ref().map(voted),
            last: last.as_ref().map(position),
        };
        let Some(before) = self.before else {
            return Ok(now);
        };
        if now.vote < before.vote {
            return damaged("its last vote is missing".into());
        }
        let Some((leader, index)) = before.last else {
            return Ok(now);
        };
        // Of those that were purged on purpose nothing is left to compare.
        if purged.is_none_or(|purged| purged.index < index) {
            let found = self.read(index..=index, 1)?.pop();
            match found.as_ref().map(|entry| position(&entry.log_id()).0) {
                Some(found) if found >= leader => {}
                Some(_) => return damaged(format!("entry {index} is older than it was")),
                None => {
                    let end = last.map_or("is empty".into(), |id| {
                        format!("ends at entry {}", id.index)
                    });
                    return damaged(format!("it {end}, and entry {index} was acknowledged"));
                }
            }
        }
        Ok(now)
    }

    fn what(&self, index: u64) -> String {
        format!("log entry {index} in {}", self.dir.display())
    }

    fn position(&self, key: &[u8]) -> io::Result<(u64, u32)> {
        let index = key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let part = key.last_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match (index, part) {
            (Some(index), Some(part)) if key.len() == 12 => Ok((index, part)),
            _ => Err(codec::damaged(
                &format!("the log in {}", self.dir.display()),
                "a key has another length",
            )),
        }
    }

    fn get<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let bytes = self.records.get(name).map_err(sled_failed)?;
        let what = || format!("the record {name} in {}", self.dir.display());
        bytes.map(|b| codec::decode(&what(), &b)).transpose()
    }

    fn put<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let bytes = codec::encode(value)?;
        self.flusher.wrote(name.len() + bytes.len());
        self.records.insert(name, bytes).map_err(sled_failed)?;
        Ok(())
    }

    /// The entries of a range, at least one, until there are so many bytes of them.
    fn read(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let low = match range.start_bound() {
            Bound::Included(index) => Bound::Included(key(*index, 0)),
            Bound::Excluded(index) => Bound::Excluded(key(*index, u32::MAX)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let high = match range.end_bound() {
            Bound::Included(index) => Bound::Included(key(*index, u32::MAX)),
            Bound::Excluded(index) => Bound::Excluded(key(*index, 0)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let mut entries = Vec::new();
        // The one that is being put together.
        let mut open: Option<(u64, u32, Vec<u8>)> = None;
        let mut total = 0;
        for pair in self.entries.range::<Key, _>((low, high)) {
            let (key, value) = pair.map_err(sled_failed)?;
            let (index, part) = self.position(&key)?;
            match &mut open {
                Some((current, next, bytes)) if *current == index && *next == part => {
                    bytes.extend_from_slice(&value);
                    *next += 1;
                }
                _ if part == 0 => {
                    if let Some((done, _, bytes)) = open.take() {
                        entries.push(codec::decode_entry(&self.what(done), done, bytes)?);
                        if total >= bytes_max {
                            return Ok(entries);
                        }
                    }
                    open = Some((index, 1, value.to_vec()));
                }
                _ => {
                    return Err(codec::damaged(
                        &self.what(index),
                        format!("part {part} follows on none"),
                    ));
                }
            }
            total += value.len();
        }
        if let Some((done, _, bytes)) = open {
            entries.push(codec::decode_entry(&self.what(done), done, bytes)?);
        }
        Ok(entries)
    }

    async fn write(&self, piece: Piece) -> io::Result<()> {
        if piece.bytes > 0 {
            self.flusher.room(piece.bytes).await?;
            // One batch is atomic.
            self.entries.apply_batch(piece.batch).map_err(sled_failed)?;
            self.flusher.wrote(piece.bytes);
        }
        Ok(())
    }

    /// Writes the piece if it would become too large.
    async fn make_room(&self, piece: &mut Piece, bytes: usize) -> io::Result<()> {
        if piece.bytes > 0 && piece.bytes + bytes > PIECE {
            self.write(std::mem::take(piece)).await?;
        }
        Ok(())
    }

    /// Removes up to and with an index, the oldest first.
    async fn remove_from_front(&self, upto: u64) -> io::Result<()> {
        let mut piece = Piece::default();
        for pair in self.entries.range(..=key(upto, u32::MAX)) {
            let (key, value) = pair.map_err(sled_failed)?;
            self.make_room(&mut piece, value.len()).await?;
            piece.remove(&key, value.len());
        }
        self.write(piece).await
    }

    /// Removes from an index on, the newest first, so that no hole is left.
    async fn remove_from_back(&self, from: u64) -> io::Result<()> {
        let mut piece = Piece::default();
        for pair in self.entries.range(key(from, 0)..).rev() {
            let (key, value) = pair.map_err(sled_failed)?;
            let (index, _) = self.position(&key)?;
            self.make_room(&mut piece, value.len()).await?;
            piece.remove(&key, value.len());
            // With the first of its parts that goes, the entry does.
            piece.remove(&self::key(index, 0), 0);
        }
        self.write(piece).await
    }
}

fn position(id: &LogId) -> ((u64, u64), u64) {
    ((id.leader_id.term, id.leader_id.node_id), id.index)
}

fn voted(vote: &Vote) -> ((u64, u64), bool) {
    let leader = vote.leader_id;
    ((leader.term, leader.node_id), vote.committed)
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(range, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, READ_AT_ONCE)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.get("vote")
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged: Option<LogId> = self.get("purged")?;
        let last = match self.entries.last().map_err(sled_failed)? {
            Some((key, _)) => {
                let (index, _) = self.position(&key)?;
                let range: RangeInclusive<u64> = index..=index;
                self.read(range, usize::MAX)?
                    .pop()
                    .map(|entry| entry.log_id())
            }
            None => None,
        };
        Ok(LogState {
            last_log_id: last.or(purged),
            last_purged_log_id: purged,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.put("vote", vote)?;
        self.reached().vote = Some(voted(vote));
        self.flusher.barrier().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // May lag: a start that knows an older one only applies the rest a little later.
        self.put("committed", &committed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.get("committed")?.flatten())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut piece = Piece::default();
        let mut last = None;
        for entry in entries {
            let index = entry.log_id().index;
            last = Some(position(&entry.log_id()));
            let bytes = codec::encode_entry(&entry)?;
            self.make_room(&mut piece, bytes.len()).await?;
            let parts: Vec<(u32, &[u8])> = (0..).zip(bytes.chunks(PART)).collect();
            for (part, value) in parts.into_iter().rev() {
                self.make_room(&mut piece, value.len()).await?;
                piece.insert(key(index, part), value);
            }
        }
        // Readable now; durable when the callback is told.
        self.write(piece).await?;
        if last.is_some() {
            self.reached().last = last;
        }
        self.flusher.tell(callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        // What is promised first, then what was: a crash in between leaves more than was promised.
        self.reached().last = last.as_ref().map(position);
        self.flusher.barrier().await?;
        self.remove_from_back(last.map_or(0, |id| id.index + 1))
            .await?;
        self.flusher.barrier().await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        // The mark first: a crash in between leaves entries too many, not too few.
        self.put("purged", &upto)?;
        {
            let mut reached = self.reached();
            reached.last = reached.last.max(Some(position(&upto)));
        }
        self.remove_from_front(upto.index).await?;
        self.flusher.barrier().await
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
