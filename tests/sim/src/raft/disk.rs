//! A manager's log as it is in memory and on its disk. What was written and not synced is gone with the power,
//! from some point on.

use crate::dice::Dice;
use api::state::Transaction;
use std::collections::VecDeque;
use std::sync::Arc;

/// Who proposed an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// A new leader, to learn what is committed.
    Nobody,
    /// A user, through the control API.
    User,
    /// The scheduler's pass.
    Scheduler,
    /// The dispatcher: nodes' states.
    Hub,
    /// The dispatcher: tasks' statuses.
    Statuses,
}

/// One entry of the log.
#[derive(Debug)]
pub struct Entry {
    /// Of whose leadership.
    pub term: u64,
    /// Its place.
    pub index: u64,
    /// No other entry of the world has it.
    pub id: u64,
    /// Who proposed it.
    pub by: By,
    /// What it changes.
    pub change: Option<Transaction>,
}

/// A state in place of the entries that made it.
#[derive(Debug)]
pub struct Snapshot {
    /// The last entry's.
    pub term: u64,
    /// The last entry's.
    pub index: u64,
    /// As on the product's disk.
    pub bytes: Vec<u8>,
}

/// Entries behind a beginning that is only a snapshot any more.
#[derive(Debug, Clone, Default)]
pub struct Log {
    base: (u64, u64),
    entries: VecDeque<Arc<Entry>>,
    /// The newest.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl Log {
    /// Term and index of the last entry.
    #[must_use]
    pub fn last(&self) -> (u64, u64) {
        self.entries
            .back()
            .map_or(self.base, |entry| (entry.term, entry.index))
    }

    /// Index of the last entry that is not there any more.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base.1
    }

    /// How many entries there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.base.1 + 1)?).ok()
    }

    /// The entry at an index.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<&Arc<Entry>> {
        self.entries.get(self.place(index)?)
    }

    /// The term of the entry at an index; also of the last one that is gone.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.1 {
            return Some(self.base.0);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// At most so many entries from an index on.
    #[must_use]
    pub fn from(&self, index: u64, most: usize) -> Vec<Arc<Entry>> {
        let place = self.place(index).unwrap_or(usize::MAX);
        self.entries
            .iter()
            .skip(place)
            .take(most)
            .cloned()
            .collect()
    }

    fn append(&mut self, entries: &[Arc<Entry>]) {
        let Some(first) = entries.first() else { return };
        if let Some(place) = self.place(first.index) {
            self.entries.truncate(place);
            self.entries.extend(entries.iter().cloned());
        }
    }

    fn compact(&mut self, snapshot: &Arc<Snapshot>, keep: u64) {
        let own = self.term_at(snapshot.index) == Some(snapshot.term);
        if !own {
            // Nothing of what is here leads there.
            self.entries.clear();
            self.base = (snapshot.term, snapshot.index);
        }
        while let Some(first) = self.entries.front()
            && first.index + keep <= snapshot.index
        {
            self.base = (first.term, first.index);
            self.entries.pop_front();
        }
        self.snapshot = Some(snapshot.clone());
    }
}

/// What has to outlive a manager.
#[derive(Debug, Clone, Default)]
pub struct Hard {
    /// The newest term it knows.
    pub term: u64,
    /// Whom it voted for in that.
    pub voted: Option<usize>,
    /// Its log.
    pub log: Log,
}

/// One write.
#[derive(Debug, Clone)]
pub enum Write {
    /// Term and vote.
    Vote(u64, Option<usize>),
    /// Entries; what was behind the first of them goes.
    Append(Vec<Arc<Entry>>),
    /// A snapshot, and how many entries stay before its end.
    Snapshot(Arc<Snapshot>, u64),
}

impl Hard {
    /// Does a write.
    pub fn take(&mut self, write: &Write) {
        match write {
            Write::Vote(term, voted) => (self.term, self.voted) = (*term, *voted),
            Write::Append(entries) => self.log.append(entries),
            Write::Snapshot(snapshot, keep) => self.log.compact(snapshot, *keep),
        }
    }
}

/// The disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    image: Hard,
    pending: VecDeque<Write>,
    /// So many of those are being synced.
    syncing: usize,
    /// Writes begun so far.
    pub written: u64,
    /// Writes that are durable.
    pub durable: u64,
}

impl Disk {
    /// A write begins.
    pub fn write(&mut self, write: Write) {
        self.pending.push_back(write);
        self.written += 1;
    }

    /// Whether a sync is to begin now; it has then.
    pub fn begin(&mut self) -> bool {
        let idle = self.syncing == 0 && !self.pending.is_empty();
        if idle {
            self.syncing = self.pending.len();
        }
        idle
    }

    /// The sync that was begun has ended.
    pub fn synced(&mut self) {
        for _ in 0..std::mem::take(&mut self.syncing) {
            if let Some(write) = self.pending.pop_front() {
                self.image.take(&write);
                self.durable += 1;
            }
        }
    }

    /// The process is gone. What it had written is still in the system's memory, which goes only with the power.
    pub fn lose(&mut self, power: bool, dice: &mut Dice) {
        let kept = if power {
            dice.place(self.pending.len() + 1)
        } else {
            self.pending.len()
        };
        for write in std::mem::take(&mut self.pending).iter().take(kept) {
            self.image.take(write);
        }
        self.syncing = 0;
        (self.written, self.durable) = (0, 0);
    }

    /// What a start reads.
    #[must_use]
    pub fn read(&self) -> Hard {
        self.image.clone()
    }
}
