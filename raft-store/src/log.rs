//! openraft's log on sled. Only this file and `database.rs`, which opens it, name sled.
//!
//! Writes keep their order: each goes to sled where openraft asks for it, and is durable once the
//! [`Flusher`]'s thread has flushed sled and called `fdatasync` on its file (sled's own `flush` does not
//! reach the disk on Linux).
//!
//! sled keeps a page over a quarter of a segment (128 KiB) in a file of its own that it never syncs, and a
//! page holds up to some twenty values. So an entry is cut into parts of 4 KiB, under the keys (index, part).
//! Each is written from its end to its beginning: an entry is there if its part 0 is, and what a crash leaves
//! without one is removed at the next start. So entries need no batch, for which sled would write its buffer to
//! the file three times and not once. Each value is sealed for its place.

mod check;
mod purge;
mod read;
mod recent;

use crate::ahead::Ahead;
use crate::codec;
use crate::compact::Appended;
use crate::cover::{self, ADDED, Cover};
use crate::database::{
    self, not_written, open_failed, panic_text, said_of_damage, said_where, sled_failed,
};
use crate::disk;
use crate::flusher::{Flusher, IN_FLIGHT_ASIDE, IN_FLIGHT_OWN};
use crate::mark::{Mark, Reached};
use crate::types::{Entry, LogId, TypeConfig, Vote};
use futures_util::FutureExt;
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use purge::{Purger, StopsPurging};
use recent::{Recent, bounds};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{RangeBounds, RangeInclusive};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of an entry in one value, which is 4 KiB sealed.
const PART: usize = 4 * 1024 - ADDED;
/// Bytes in one batch.
const PIECE: usize = IN_FLIGHT_OWN;
/// Bytes of entries read at once for a follower.
const READ_AT_ONCE: usize = 4 << 20;

/// Between two notes of what is committed.
const REST: Duration = Duration::from_millis(50);

/// The trees.
const ENTRIES: &str = "log";
const RECORDS: &str = "records";

type Key = [u8; 12];

/// The log. Cheap to clone; its folder is free again when all clones are gone.
#[derive(Clone)]
pub(crate) struct Log {
    dir: Arc<PathBuf>,
    cover: Cover,
    entries: sled::Tree,
    records: sled::Tree,
    flusher: Flusher,
    /// What the next sync makes durable at least.
    reached: Arc<Mutex<Reached>>,
    /// Odd while its end is being cut off; another number after.
    cuts: Arc<AtomicU64>,
    /// From here on it has all entries up to the last one.
    begins: Arc<AtomicU64>,
    /// What was durable when it was opened.
    before: Option<Reached>,
    /// Where the file could not be read before it was opened.
    suspects: Arc<Vec<u64>>,
    appended: Appended,
    recent: Recent,
    purger: Purger,
    /// None in the thread that purges: it ends with the others.
    purges: Option<Arc<StopsPurging>>,
    /// When it was last noted what is committed.
    noted: Arc<Mutex<Option<Instant>>>,
}

/// A batch on its way.
#[derive(Default)]
struct Piece {
    batch: sled::Batch,
    bytes: usize,
}

impl Piece {
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

/// Where an entry's part belongs.
fn place(key: &[u8]) -> [u8; 16] {
    let mut place = *b"log\0............";
    if let Some(end) = place.last_chunk_mut()
        && let Some(key) = key.first_chunk::<12>()
    {
        *end = *key;
    }
    place
}

impl Log {
    /// Opens the log, making it. `sync` makes what was written to its file durable. The folder is free after a
    /// failure. Of an earlier version it is refused with [`database::Unsealed`], unless it is opened plain.
    pub fn open(
        dir: &Path,
        cover: Cover,
        sync: impl FnMut(&File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let opened = Self::open_in(dir, cover, sync);
        if let Err(error) = &opened
            && error.kind() != io::ErrorKind::ResourceBusy
        {
            database::wait_until_free(dir);
        }
        opened
    }

    fn open_in(
        dir: &Path,
        cover: Cover,
        mut sync: impl FnMut(&File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        disk::make_dir(dir)?;
        let (db, awake, suspects) = database::open(dir)?;
        let failed = |error: sled::Error| said_where(open_failed(dir, error), dir, &suspects);
        let (entries, records) = (
            db.open_tree(ENTRIES).map_err(failed)?,
            db.open_tree(RECORDS).map_err(failed)?,
        );
        if let Cover::Sealed(key) = &cover {
            database::check_key(dir, &entries, &records, key)
                .map_err(|error| said_of_damage(error, dir, &suspects))?;
        }
        let path = dir.join("db");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| disk::named(e, "open", &path))?;
        let mut ahead = Ahead::of(file.try_clone()?);
        let (mut mark, before) = Mark::open(dir.join(database::MARK))?;
        let reached = Arc::new(Mutex::new(before.unwrap_or_default()));
        let known = reached.clone();
        let mut sync = move || {
            let _until_closed = &awake;
            let now = *known.lock().unwrap_or_else(PoisonError::into_inner);
            db.flush().map_err(sled_failed)?;
            sync(&file)?;
            Ok(now)
        };
        // sled syncs neither its settings nor the folder.
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(|e| disk::named(e, "sync", &path))?;
        }
        disk::sync_dir(dir)?;
        mark.write(sync()?)?;
        let note = move |now, bytes| {
            mark.write(now)?;
            ahead.wrote(bytes);
            Ok(())
        };
        let flusher = Flusher::start(sync, note)?;
        let mut log = Self {
            dir: Arc::new(dir.to_owned()),
            cover,
            entries,
            records,
            flusher,
            reached,
            begins: Arc::default(),
            cuts: Arc::default(),
            before,
            suspects: Arc::new(suspects),
            appended: Appended::default(),
            recent: Recent::default(),
            purger: Purger::default(),
            purges: None,
            noted: Arc::default(),
        };
        if let Err(error) = log.start_purging() {
            log.flusher.close();
            return Err(error);
        }
        Ok(log)
    }

    /// What ends the thread that flushes.
    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    /// How much is appended.
    pub fn appended(&self) -> Appended {
        self.appended.clone()
    }

    /// Its folder.
    pub fn dir(&self) -> Arc<PathBuf> {
        self.dir.clone()
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
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
        let place = cover::place(RECORDS, name.as_bytes());
        let read = |bytes: sled::IVec| {
            let mut record = Vec::with_capacity(bytes.len());
            self.cover.take_off(&mut record, what, &place, &bytes)?;
            codec::decode(&what(), &record)
        };
        bytes.map(read).transpose()
    }

    fn put<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let place = cover::place(RECORDS, name.as_bytes());
        let bytes = self.cover.over(&place, &codec::encode(value)?)?;
        self.flusher.wrote(name.len() + bytes.len());
        self.records.insert(name, bytes).map_err(not_written)?;
        Ok(())
    }

    async fn write(&self, piece: Piece) -> io::Result<()> {
        if piece.bytes > 0 {
            self.flusher.room(piece.bytes).await?;
            // One batch is atomic.
            self.entries.apply_batch(piece.batch).map_err(not_written)?;
            self.flusher.wrote(piece.bytes);
        }
        Ok(())
    }

    /// Writes entries: readable when it returns, durable with the next sync.
    pub async fn write_entries(&self, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
        let mut last = self.reached().last;
        let had = last;
        for entry in entries {
            let index = entry.log_id().index;
            if last.is_none_or(|(_, last)| last + 1 != index) {
                self.begins.store(index, Ordering::Release);
            }
            let bytes = codec::encode_entry(&entry)?;
            self.appended.add(bytes.len());
            let parts: Vec<(u32, &[u8])> = (0..).zip(bytes.chunks(PART)).collect();
            for (part, body) in parts.into_iter().rev() {
                let key = key(index, part);
                let value = self.cover.over(&place(&key), body)?;
                let written = key.len() + value.len();
                self.flusher.room(written).await?;
                self.unpanicked(|| self.entries.insert(key, value).map_err(not_written))?;
                self.flusher.wrote(written);
            }
            last = Some(position(&entry.log_id()));
            self.recent.push(entry, bytes.len());
        }
        if last != had {
            self.reached().last = last;
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

    /// Removes from an index on, the newest first, so that no hole is left.
    async fn remove_from_back(&self, from: u64) -> io::Result<()> {
        self.recent.cut_back(from);
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
        self.newest_or_read(range, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.newest_or_read(start..end, READ_AT_ONCE)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.get("vote")
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged: Option<LogId> = self.get("purged")?;
        let begins = self.begins.load(Ordering::Acquire);
        let last = match self.entries.last().map_err(sled_failed)? {
            Some((key, _)) if self.position(&key)?.0 >= begins => {
                let (index, _) = self.position(&key)?;
                let range: RangeInclusive<u64> = index..=index;
                self.read(range, usize::MAX)?
                    .pop()
                    .map(|entry| entry.log_id())
            }
            // What is purged may be there still.
            _ => None,
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
        // May lag: a start that knows an older one only applies the rest a little later. It is not durable before
        // the next entry either, and whoever proposed an entry waits for this.
        let now = Instant::now();
        let is_due = {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = noted.is_none_or(|at| now.duration_since(at) >= REST);
            if is_due {
                *noted = Some(now);
            }
            is_due
        };
        if is_due {
            self.put("committed", &committed)?;
        }
        Ok(())
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
        self.write_entries(entries).await?;
        self.flusher.tell(callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        // What is promised first, then what was: a crash in between leaves more than was promised.
        self.cuts.fetch_add(1, Ordering::AcqRel);
        {
            let mut reached = self.reached();
            // It may end before that already.
            if reached.last.map(|(_, index)| index) > last.as_ref().map(|id| id.index) {
                reached.last = last.as_ref().map(position);
            }
        }
        self.flusher.barrier().await?;
        self.remove_from_back(last.map_or(0, |id| id.index + 1))
            .await?;
        // Had it failed, the consensus would end.
        self.cuts.fetch_add(1, Ordering::AcqRel);
        self.flusher.barrier().await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.cut_front(upto).await
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
