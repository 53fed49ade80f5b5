//! Backups that are made by themselves: what the user chose, and what came of it.

use super::{NodeId, Timestamp};
use std::fmt;

/// What the user chose.
#[derive(Clone, PartialEq, Eq)]
pub struct BackupSchedule {
    /// How long from one to the next, milliseconds.
    pub every_ms: u64,
    /// How many of its own files a manager keeps.
    pub keep: u32,
    /// The folder on the manager that leads.
    pub dir: String,
    /// The passphrase's salt.
    pub salt: Vec<u8>,
    /// Argon2id's memory, KiB.
    pub memory_kib: u32,
    /// Its passes over that.
    pub passes: u32,
    /// Its lanes.
    pub lanes: u32,
    /// The passphrase's key; the passphrase itself is kept nowhere.
    pub key: Vec<u8>,
}

impl fmt::Debug for BackupSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("BackupSchedule")
            .field("every_ms", &self.every_ms)
            .field("keep", &self.keep)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupNote {
    /// When.
    pub at: Timestamp,
    /// Where: on which node.
    pub node: NodeId,
    /// And under which name.
    pub path: String,
    /// The file's size.
    pub bytes: u64,
    /// The state's revision in it.
    pub revision: u64,
}

/// Why the last scheduled one was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFailure {
    /// When it was tried.
    pub at: Timestamp,
    /// On which node.
    pub node: NodeId,
    /// Why not.
    pub why: String,
}
