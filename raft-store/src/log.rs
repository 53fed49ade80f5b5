//! openraft's log on sled. The only file that names sled.
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
use crate::disk;
use crate::flusher::{Flusher, IN_FLIGHT};
use crate::types::{Entry, LogId, TypeConfig, Vote};
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of an entry in one value.
const PART: usize = 4 * 1024;
/// Bytes in one batch.
const PIECE: usize = IN_FLIGHT;
/// sled's cache, bytes: the log is written, and read only at start and by followers that are behind.
const CACHE: u64 = 8 << 20;
/// Bytes of entries read at once for a follower.
const READ_AT_ONCE: usize = 4 << 20;

/// How long a closed log may still be in use.
const FREE_BOUND: Duration = Duration::from_secs(5);

type Key = [u8; 12];

/// The log. Cheap to clone; its folder is free again when all clones are gone.
#[derive(Clone)]
pub(crate) struct Log {
    dir: Arc<PathBuf>,
    entries: sled::Tree,
    records: sled::Tree,
    flusher: Flusher,
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
    /// Opens the log, making it. `sync` makes what was written to its file durable.
    pub fn open(
        dir: &Path,
        mut sync: impl FnMut(&File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        disk::make_dir(dir)?;
        let failed = |error: sled::Error| open_failed(dir, error);
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE)
            .flush_every_ms(None)
            .open()
            .map_err(failed)?;
        let (entries, records) = (
            db.open_tree("log").map_err(failed)?,
            db.open_tree("records").map_err(failed)?,
        );
        let file = File::open(dir.join("db"))?;
        let mut sync = move || {
            db.flush().map_err(sled_failed)?;
            sync(&file)
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

    /// After the flusher was closed: waits, not for ever, until the folder is free again. sled lets go of its
    /// file only when nothing that was going on then still is, and looks for that only now and then. Blocks.
    pub fn wait_until_free(dir: &Path) {
        let Ok(file) = File::open(dir.join("db")) else {
            return;
        };
        let end = Instant::now() + FREE_BOUND;
        while file.try_lock().is_err() {
            if Instant::now() > end {
                tracing::warn!(dir = %dir.display(), "the log is closed, and still in use");
                return;
            }
            sled::crossbeam_pin().flush();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes what a crash has left of unfinished work, and reads enough to know that this version can.
    pub async fn tidy(&mut self) -> io::Result<()> {
        self.read_vote().await?;
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
        self.flusher.barrier().await?;
        self.get_log_state().await?;
        Ok(())
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

fn sled_failed(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        sled::Error::Corruption { at, .. } => {
            codec::damaged("the log's database", format!("at {at:?}"))
        }
        error => io::Error::other(error),
    }
}

fn open_failed(dir: &Path, error: sled::Error) -> io::Error {
    let error = sled_failed(error);
    // sled says so in words alone.
    if error.to_string().contains("could not acquire lock") {
        let text = format!(
            "the log in {} is in use; does another clusterd run with this state folder?",
            dir.display()
        );
        return io::Error::new(io::ErrorKind::ResourceBusy, text);
    }
    disk::named(error, "open the log in", dir)
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
        for entry in entries {
            let index = entry.log_id().index;
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
        self.flusher.tell(callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.remove_from_back(last.map_or(0, |id| id.index + 1))
            .await?;
        self.flusher.barrier().await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        // The mark first: a crash in between leaves entries too many, not too few.
        self.put("purged", &upto)?;
        self.remove_from_front(upto.index).await?;
        self.flusher.barrier().await
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
