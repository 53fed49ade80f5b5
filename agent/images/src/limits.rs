//! How much an image may take: a bound on everything that an archive or a registry decides.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::fault::Fault;

/// Bounds on one load or pull.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all layers together, unpacked; also of an archive's blobs.
    pub unpacked_bytes_max: u64,
    /// Entries of all layers together; also of the archive itself.
    pub entries_max: u64,
    /// Bytes of one path in an archive.
    pub path_bytes_max: u64,
    /// Bytes of one manifest, index or config, and of one entry's extended header.
    pub metadata_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes_max: 64 << 30,
            entries_max: 5_000_000,
            path_bytes_max: 4096,
            metadata_bytes_max: 4 << 20,
        }
    }
}

/// What one load or pull has used up so far. Shared by its threads.
pub(crate) struct Budget {
    pub(crate) limits: Limits,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
        }
    }

    /// Takes unpacked bytes.
    pub(crate) fn take_bytes(&self, n: u64) -> Result<(), Fault> {
        let used = self.bytes.fetch_add(n, Ordering::Relaxed).saturating_add(n);
        within(
            "unpacked size in bytes",
            used,
            self.limits.unpacked_bytes_max,
        )
    }

    /// Takes one entry of an archive.
    pub(crate) fn take_entry(&self) -> Result<(), Fault> {
        let used = self
            .entries
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        within("number of entries", used, self.limits.entries_max)
    }
}

/// Refuses what passes a limit.
pub(crate) fn within(what: &'static str, value: u64, limit: u64) -> Result<(), Fault> {
    if value <= limit {
        Ok(())
    } else {
        Err(Fault::TooLarge { what, limit })
    }
}
