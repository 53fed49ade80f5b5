//! openraft's log on sled.
//!
//! Writes keep their order: each goes to sled where openraft asks for it, and is durable once one thread has
//! flushed sled and called `fdatasync` on its file, for any number of waiting writes at once (sled's own
//! `flush` does not reach the disk on Linux). sled keeps values over an eighth of a segment in files that it
//! never syncs, so a large entry is cut into parts.

use crate::codec;
use crate::types::{Entry, LogId, TypeConfig, Vote};
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Bytes of an entry in one value: well below an eighth of a segment (512 KiB).
const PART: usize = 32 * 1024;
/// sled's cache, bytes: the log is written, and read only at start and by followers that are behind.
const CACHE: u64 = 8 << 20;
/// Writes that wait for the disk.
const QUEUE: usize = 1024;

enum Job {
    Appended(IOFlushed<TypeConfig>),
    Barrier(oneshot::Sender<io::Result<()>>),
    Stop,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    entries: sled::Tree,
    records: sled::Tree,
    jobs: SyncSender<Job>,
    flusher: Arc<Mutex<Option<JoinHandle<()>>>>,
}

fn failed(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        sled::Error::Corruption { at, .. } => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the log's database is damaged at {at:?}; restore this manager from a backup, or remove its state and join again"),
        ),
        error => io::Error::other(error),
    }
}

fn key(index: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    let (head, tail) = key.split_at_mut(8);
    head.copy_from_slice(&index.to_be_bytes());
    tail.copy_from_slice(&part.to_be_bytes());
    key
}

fn index_of(key: &[u8]) -> io::Result<u64> {
    let bytes = key.get(..8).and_then(|head| head.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a log entry's key is damaged"))
}

impl Log {
    /// Opens the log, making it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let db = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(None).open().map_err(failed)?;
        let (entries, records) = (db.open_tree("log").map_err(failed)?, db.open_tree("records").map_err(failed)?);
        let file = File::open(dir.join("db"))?;
        // Its folder entry has to last, too.
        File::open(dir)?.sync_all()?;
        let (jobs, queue) = sync_channel(QUEUE);
        let flusher = std::thread::Builder::new().name("raft-log".into()).spawn(move || flush(&db, &file, &queue))?;
        Ok(Self { entries, records, jobs, flusher: Arc::new(Mutex::new(Some(flusher))) })
    }

    /// Ends the thread that flushes; everything that waits is done first.
    pub fn close(&self) {
        let thread = self.flusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It may have ended by itself after a panic; joining says so.
            let _ = self.jobs.send(Job::Stop);
            if thread.join().is_err() {
                tracing::error!("the thread that flushes the log failed");
            }
        }
    }

    async fn barrier(&self) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.send(Job::Barrier(tx))?;
        rx.await.map_err(|_| closed())?
    }

    fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| closed())
    }

    fn get<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let bytes = self.records.get(name).map_err(failed)?;
        bytes.map(|b| codec::decode(&format!("the log's record {name}"), &b)).transpose()
    }

    fn put<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.records.insert(name, codec::encode(value)?).map_err(failed)?;
        Ok(())
    }

    fn read(&self, range: impl RangeBounds<u64>) -> io::Result<Vec<Entry>> {
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
        let mut open: Option<(u64, Vec<u8>)> = None;
        for pair in self.entries.range::<[u8; 12], _>((low, high)) {
            let (key, part) = pair.map_err(failed)?;
            let index = index_of(&key)?;
            match &mut open {
                Some((current, bytes)) if *current == index => bytes.extend_from_slice(&part),
                _ => {
                    if let Some((done, bytes)) = open.replace((index, part.to_vec())) {
                        entries.push(codec::decode_entry(done, bytes)?);
                    }
                }
            }
        }
        if let Some((done, bytes)) = open {
            entries.push(codec::decode_entry(done, bytes)?);
        }
        Ok(entries)
    }

    fn remove(&self, range: impl RangeBounds<[u8; 12]>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for key in self.entries.range::<[u8; 12], _>(range).keys() {
            batch.remove(key.map_err(failed)?);
        }
        // One batch is atomic, so no hole is left.
        self.entries.apply_batch(batch).map_err(failed)
    }
}

fn closed() -> io::Error {
    io::Error::other("the log is closed")
}

/// One flush for whatever waits.
fn flush(db: &sled::Db, file: &File, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let batch: Vec<Job> = std::iter::once(first).chain(queue.try_iter()).collect();
        let done = db.flush().map_err(failed).and_then(|_| file.sync_data());
        if let Err(error) = &done {
            tracing::error!(%error, "the log can't be written to disk");
        }
        let again = || done.as_ref().map(|()| ()).map_err(|e| io::Error::new(e.kind(), e.to_string()));
        let mut stop = false;
        for job in batch {
            match job {
                Job::Appended(callback) => callback.io_completed(again()),
                // Whoever waited may be gone.
                Job::Barrier(waiting) => drop(waiting.send(again())),
                Job::Stop => stop = true,
            }
        }
        if stop {
            return;
        }
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(range)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.get("vote")
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged: Option<LogId> = self.get("purged")?;
        let last = match self.entries.last().map_err(failed)? {
            Some((key, _)) => {
                let index = index_of(&key)?;
                self.read(index..=index)?.pop().map(|entry| entry.log_id())
            }
            None => None,
        };
        Ok(LogState { last_log_id: last.or(purged), last_purged_log_id: purged })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.put("vote", vote)?;
        self.barrier().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // May lag: a start that knows an older one only applies the rest a little later.
        self.put("committed", &committed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.get("committed")?.flatten())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = sled::Batch::default();
        for entry in entries {
            let index = entry.log_id().index;
            for (part, bytes) in (0..).zip(codec::encode_entry(&entry).chunks(PART)) {
                batch.insert(&key(index, part), bytes);
            }
        }
        self.entries.apply_batch(batch).map_err(failed)?;
        // Readable now; durable when the callback is told.
        self.send(Job::Appended(callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.remove(key(from, 0)..)?;
        self.barrier().await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        // The mark first: a crash in between leaves entries too many, not too few.
        self.put("purged", &upto)?;
        self.remove(..=key(upto.index, u32::MAX))?;
        self.barrier().await
    }
}
