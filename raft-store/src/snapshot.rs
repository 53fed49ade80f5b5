//! Snapshots as ordinary files: written beside, synced, renamed, the folder synced; the last two are kept.
//!
//! A file is `magic, format, length of meta, meta, length of data, SHA-256 of all before and the data, data`.

use crate::codec::{self, damaged};
use crate::disk::{self, named};
use crate::types::SnapshotMeta;
use crate::wire;
use api::proto;
use prost::Message;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"CLSTSNAP";
const KEPT: usize = 2;
const SUFFIX: &str = "snap";
const UNFINISHED: &str = "new";

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    dir: PathBuf,
    /// One is written at a time: one's own, or one from the leader.
    writing: Arc<Mutex<()>>,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub meta: SnapshotMeta,
    pub data: Vec<u8>,
}

impl Snapshots {
    /// Opens the folder, making it; half files of a crash go.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        disk::make_dir(&dir)?;
        for entry in fs::read_dir(&dir).map_err(|e| named(e, "list", &dir))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == UNFINISHED) {
                fs::remove_file(&path).map_err(|e| named(e, "remove", &path))?;
            }
        }
        Ok(Self {
            dir,
            writing: Arc::default(),
        })
    }

    /// All, newest first.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|e| named(e, "list", &self.dir))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == SUFFIX) {
                files.push(path);
            }
        }
        // Names are the index, in as many digits as any index has.
        files.sort();
        files.reverse();
        Ok(files)
    }

    /// The newest that is whole, with what is wrong with those that are newer.
    ///
    /// # Errors
    /// When one can't be read, or is of a newer format.
    pub fn newest(&self) -> io::Result<(Option<Stored>, Vec<io::Error>)> {
        let mut wrong = Vec::new();
        for path in self.files()? {
            match read(&path) {
                Ok(stored) => return Ok((Some(stored), wrong)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, "trying an older snapshot");
                    wrong.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((None, wrong))
    }

    /// Writes one; older ones beyond those kept go, damaged ones first.
    pub fn write(&self, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
        let path = self.dir.join(format!("{index:020}.{SUFFIX}"));
        let fresh = path.with_extension(UNFINISHED);
        let meta = wire::snapshot_meta(meta).encode_to_vec();
        let mut head = MAGIC.to_vec();
        head.push(codec::FORMAT);
        head.extend_from_slice(&(meta.len() as u64).to_be_bytes());
        head.extend_from_slice(&meta);
        head.extend_from_slice(&(data.len() as u64).to_be_bytes());
        let sum = Sha256::new()
            .chain_update(&head)
            .chain_update(data)
            .finalize();
        let written = (|| {
            let mut file = File::create(&fresh)?;
            file.write_all(&head)?;
            file.write_all(&sum)?;
            file.write_all(data)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            disk::sync_dir(&self.dir)
        })();
        if let Err(error) = written {
            // The half file is worth nothing, and a full disk wants its room back.
            let _ = fs::remove_file(&fresh);
            return Err(named(error, "write the snapshot", &path));
        }
        self.reap(&path)
    }

    /// Keeps this one and the newest others that are whole.
    fn reap(&self, newest: &Path) -> io::Result<()> {
        let mut kept = 1;
        for path in self.files()?.into_iter().filter(|path| path != newest) {
            if kept < KEPT && read(&path).is_ok() {
                kept += 1;
            } else {
                fs::remove_file(&path).map_err(|e| named(e, "remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> io::Result<Stored> {
    let mut bytes = fs::read(path).map_err(|e| named(e, "read", path))?;
    let what = format!("the snapshot {}", path.display());
    let short = || damaged(&what, "it is cut short");
    let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or_else(short)?;
    if magic != MAGIC {
        return Err(damaged(&what, "it doesn't begin as one"));
    }
    let rest = codec::versioned(&what, rest)?;
    let (meta, rest) = take(rest).ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let head = bytes.len() - rest.len();
    let (sum, data) = rest.split_at_checked(32).ok_or_else(short)?;
    if u64::from_be_bytes(*length) != data.len() as u64 {
        return Err(short());
    }
    let found = Sha256::new()
        .chain_update(bytes.get(..head).unwrap_or_default())
        .chain_update(data)
        .finalize();
    if found.as_slice() != sum {
        return Err(damaged(&what, "its checksum is another"));
    }
    let meta = proto::SnapshotMeta::decode(meta).map_err(|e| damaged(&what, e))?;
    let meta = wire::read_snapshot_meta(&meta).map_err(|e| damaged(&what, e))?;
    // In place: it may be large.
    let begin = bytes.len() - data.len();
    bytes.drain(..begin);
    Ok(Stored { meta, data: bytes })
}

/// A part with its length before it.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogId;

    fn meta(index: u64) -> SnapshotMeta {
        let leader = Some(proto::LeaderId { term: 1, node: 1 });
        let id: LogId = wire::read_log_id(&proto::LogId { leader, index }).unwrap();
        SnapshotMeta {
            last_log_id: Some(id),
            last_membership: Default::default(),
        }
    }

    fn index(stored: Option<Stored>) -> Option<u64> {
        stored
            .and_then(|stored| stored.meta.last_log_id)
            .map(|id| id.index)
    }

    fn open() -> (tempfile::TempDir, Snapshots) {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path().join("snapshots")).unwrap();
        (dir, snapshots)
    }

    #[test]
    fn two_are_kept() {
        let (_dir, snapshots) = open();
        assert!(snapshots.newest().unwrap().0.is_none());
        for index in [1, 20, 3_000, 40_000] {
            snapshots.write(&meta(index), b"data").unwrap();
        }
        assert_eq!(snapshots.files().unwrap().len(), 2);
        let newest = snapshots.newest().unwrap().0.unwrap();
        assert_eq!(
            (newest.meta, &newest.data[..]),
            (meta(40_000), &b"data"[..])
        );
    }

    #[test]
    fn any_damage_is_named_and_the_older_one_taken() {
        let (_dir, snapshots) = open();
        snapshots.write(&meta(1), b"old").unwrap();
        snapshots.write(&meta(2), b"new").unwrap();
        let newer = snapshots.files().unwrap()[0].clone();
        let whole = fs::read(&newer).unwrap();
        let format = MAGIC.len();
        for at in (0..whole.len()).filter(|at| *at != format) {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            for bad in [&bad[..], &whole[..at]] {
                fs::write(&newer, bad).unwrap();
                let (found, wrong) = snapshots.newest().unwrap();
                assert_eq!(index(found), Some(1), "byte {at}");
                let wrong = wrong[0].to_string();
                assert!(
                    wrong.contains("00000000000000000002.snap is damaged"),
                    "{wrong}"
                );
            }
        }
        // The next one written takes the damaged one's place, not the whole one's.
        snapshots.write(&meta(3), b"next").unwrap();
        let names: Vec<_> = snapshots.files().unwrap();
        assert!(names.len() == 2 && !names.contains(&newer), "{names:?}");
    }

    #[test]
    fn a_newer_format_is_refused_with_a_cure() {
        let (_dir, snapshots) = open();
        snapshots.write(&meta(1), b"old").unwrap();
        snapshots.write(&meta(2), b"new").unwrap();
        let newer = snapshots.files().unwrap()[0].clone();
        let mut later = fs::read(&newer).unwrap();
        later[MAGIC.len()] = codec::FORMAT + 1;
        fs::write(&newer, &later).unwrap();
        let error = snapshots.newest().unwrap_err().to_string();
        assert!(
            error.contains("00000000000000000002.snap") && error.contains("upgrade clusterd"),
            "{error}"
        );
    }

    #[test]
    fn half_a_snapshot_of_a_crash_is_removed() {
        let (dir, snapshots) = open();
        snapshots.write(&meta(1), b"whole").unwrap();
        let half = dir.path().join("snapshots/00000000000000000002.new");
        fs::write(&half, "half").unwrap();
        let again = Snapshots::open(dir.path().join("snapshots")).unwrap();
        assert!(!half.exists());
        assert_eq!(index(again.newest().unwrap().0), Some(1));
    }
}
