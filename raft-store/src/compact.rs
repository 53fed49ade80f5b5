//! When the log is cut: openraft counts entries, and this counts bytes, for an entry may have a few or some millions.
//!
//! A snapshot is due when the entries since the last one have grown as large as it, and at least
//! [`FLOOR`](self::FLOOR): so a large state is not written again and again for a few changes, and at most as much
//! is written for snapshots as for the log. Entries from before the snapshot that came before the last are removed,
//! so that the last may be damaged and nothing is lost.

use crate::types::Raft;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of entries that no snapshot is worth.
pub(crate) const FLOOR: u64 = 64 << 20;

/// How many bytes of entries were appended, those that were there when it was opened too. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Appended(Arc<AtomicU64>);

impl Appended {
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    snapshot: bool,
    /// Entries up to this one go.
    purge: Option<u64>,
}

/// What is known of the log.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Up to which entry the newest snapshot goes.
    snapshot: Option<u64>,
    /// The last entry that is applied.
    applied: Option<u64>,
    /// Bytes of entries appended since the log was opened, and those that were there then.
    appended: u64,
}

/// Which snapshots there were, and what was written since.
#[derive(Debug, Default)]
struct Counter {
    snapshot: Option<u64>,
    /// Bytes of the newest snapshot.
    size: u64,
    /// Bytes that had been appended when there was the newest one.
    base: u64,
    /// Bytes that had been appended when one was last asked for.
    asked: Option<u64>,
}

impl Counter {
    /// `size` tells how large the newest snapshot is.
    fn step(&mut self, seen: Seen, floor: u64, size: impl FnOnce() -> u64) -> Due {
        let mut due = Due::default();
        if seen.snapshot > self.snapshot {
            due.purge = self.snapshot.replace(seen.snapshot.unwrap_or(0));
            self.size = size();
            self.base = self.asked.take().unwrap_or(seen.appended);
        }
        let since = seen.appended.saturating_sub(self.base);
        if self.asked.is_none() && since >= floor.max(self.size) && seen.applied > seen.snapshot {
            self.asked = Some(seen.appended);
            due.snapshot = true;
        }
        due
    }
}

/// Looks at the log after each change, and asks for what is due.
pub(crate) struct Compactor {
    counter: Counter,
    appended: Appended,
    snapshots: PathBuf,
    floor: u64,
}

impl Compactor {
    pub fn new(appended: Appended, snapshots: PathBuf, floor: u64) -> Self {
        Self {
            counter: Counter::default(),
            appended,
            snapshots,
            floor,
        }
    }

    /// After a change: `snapshot` and `applied` are the entries that the newest snapshot and the state go to.
    pub async fn look(&mut self, raft: &Raft, snapshot: Option<u64>, applied: Option<u64>) {
        let seen = Seen {
            snapshot,
            applied,
            appended: self.appended.bytes(),
        };
        let snapshots = &self.snapshots;
        let due = self.counter.step(seen, self.floor, || newest(snapshots));
        // It refuses only when it has ended.
        if due.snapshot && raft.trigger().snapshot().await.is_err() {
            tracing::debug!("no snapshot: the consensus has ended");
        }
        if let Some(upto) = due.purge
            && raft.trigger().purge_log(upto).await.is_err()
        {
            tracing::debug!("the log is not cut: the consensus has ended");
        }
    }
}

/// Bytes of the largest file of a folder; two of them are there.
fn newest(dir: &PathBuf) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten();
    let sizes = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
    sizes.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(snapshot: Option<u64>, applied: u64, appended: u64) -> Seen {
        Seen {
            snapshot,
            applied: Some(applied),
            appended,
        }
    }

    #[test]
    fn one_is_due_for_as_many_bytes_as_the_last_has_and_no_fewer_than_the_floor() {
        let mut counter = Counter::default();
        let mut step = |seen, size| counter.step(seen, 100, || size);
        assert_eq!(step(seen(None, 5, 99), 0), Due::default());
        let asked = Due {
            snapshot: true,
            purge: None,
        };
        assert_eq!(step(seen(None, 6, 100), 0), asked);
        assert_eq!(step(seen(None, 7, 500), 0), Due::default(), "once");
        // It is there, of 1000 bytes; what was appended since it was asked for counts on.
        assert_eq!(step(seen(Some(6), 8, 600), 1_000), Due::default());
        assert_eq!(step(seen(Some(6), 9, 1_099), 0), Due::default());
        assert_eq!(step(seen(Some(6), 10, 1_100), 0), asked);
        // The next one: entries from before the one before it go.
        let purged = Due {
            snapshot: false,
            purge: Some(6),
        };
        assert_eq!(step(seen(Some(10), 11, 1_150), 50), purged);
        assert_eq!(step(seen(Some(10), 12, 1_199), 0), Due::default());
        assert_eq!(step(seen(Some(10), 13, 1_200), 0), asked);
    }

    #[test]
    fn none_is_due_of_what_it_would_hold_already() {
        let mut counter = Counter::default();
        let mut step = |seen| counter.step(seen, 100, || 0);
        assert_eq!(step(seen(Some(5), 5, 700)), Due::default());
        assert_eq!(step(seen(Some(5), 5, 900)), Due::default());
        assert!(step(seen(Some(5), 6, 901)).snapshot);
    }
}
