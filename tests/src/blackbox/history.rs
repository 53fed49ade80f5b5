//! What clients asked, and what they were answered, with times of one clock.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What a register holds: each write writes a value of its own.
pub type Value = u64;

/// What was asked of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Hold this, whatever was there.
    Set(Value),
    /// Hold this, if there is nothing.
    Create(Value),
    /// Hold nothing, if there is something.
    Remove,
    /// What is there, as of now?
    Read,
    /// What is there, as far as the one who is asked knows?
    StaleRead,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It was done.
    Done,
    /// There was something already.
    Exists,
    /// There was nothing.
    Absent,
    /// It holds this, or nothing.
    Holds(Option<Value>),
    /// It was refused, and nothing was done.
    Refused(String),
    /// It may have been done, or may be later, or never.
    Unknown(String),
}

/// One call. Times are nanoseconds since the history's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who asked.
    pub client: u32,
    /// Which node was asked, as a number from 1.
    pub through: usize,
    /// Which register.
    pub key: String,
    /// What.
    pub ask: Ask,
    /// And the answer.
    pub answer: Answer,
    /// Before it was asked.
    pub asked_ns: u64,
    /// After it was answered, or given up.
    pub answered_ns: u64,
}

/// All calls, in the order of their ends.
#[derive(Debug)]
pub struct History {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            entries: Mutex::default(),
        }
    }
}

impl History {
    /// The time now.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call that has ended.
    pub fn add(&self, entry: Entry) {
        self.lock().push(entry);
    }

    /// All of it so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }
}

/// Writes calls to a file, one JSON object a line.
pub fn save(entries: &[Entry], path: &Path) -> Result<()> {
    let write = || -> Result<()> {
        let mut file = std::io::BufWriter::new(fs::File::create(path)?);
        for entry in entries {
            serde_json::to_writer(&mut file, entry)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads what [`save`] has written.
pub fn load(path: &Path) -> Result<Vec<Entry>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .zip(1..)
        .map(|(line, number)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}, line {number}: no call", path.display()))
        })
        .collect()
}
