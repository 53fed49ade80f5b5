//! For tests that feed it anything: what reads bytes from disk, as it stands.

use crate::snapshot::{self, Snapshots};
use crate::{codec, upgrade, wire};
use api::proto;
use seal::DataKey;
use std::io;
use std::path::Path;

/// Reads an entry of the log, whichever it says it is.
///
/// # Errors
/// When it is none.
pub fn log_entry(bytes: &[u8]) -> io::Result<()> {
    codec::entry_length("the entry", bytes)?;
    for index in [0, 1, 5] {
        if codec::decode_entry("the entry", index, bytes.to_vec()).is_ok() {
            return Ok(());
        }
    }
    codec::decode_entry("the entry", u64::MAX, bytes.to_vec()).map(drop)
}

/// The key that this works with.
fn key() -> DataKey {
    DataKey::from([7; 32])
}

/// Reads a snapshot's file, of this version or an earlier one.
///
/// # Errors
/// When it is none.
pub fn snapshot(path: &Path) -> io::Result<()> {
    let bytes = std::fs::read(path)?;
    snapshot::read(path, &key())
        .or_else(|_| upgrade::read_snapshot(path, bytes))
        .map(drop)
}

/// Writes a snapshot's file.
///
/// # Errors
/// When the meta makes no sense, or the disk refuses.
pub fn write_snapshot(path: &Path, meta: &proto::SnapshotMeta, data: &[u8]) -> io::Result<()> {
    let meta = wire::read_snapshot_meta(meta).map_err(io::Error::other)?;
    let dir = path.with_extension("folder");
    Snapshots::open(dir.clone(), key())?.write(&meta, data)?;
    let made = std::fs::read_dir(&dir)?.next();
    let made = made.ok_or_else(|| io::Error::other("nothing was written"))??;
    std::fs::rename(made.path(), path)
}
