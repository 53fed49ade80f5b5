//! Snapshots as ordinary files: written beside, synced, renamed, the folder synced; the last two are kept.
//!
//! A file is a head and sealed parts. The head: `magic, format, id of the key, a number of the file's own, length of
//! meta, length of data`. The parts: meta, then the data by the MiB. Each is sealed for the head and its own number,
//! so that none can be changed, dropped, moved or taken from another file.

use crate::codec::damaged;
use crate::cover::{self, SEALED};
use crate::disk::{self, named};
use crate::types::SnapshotMeta;
use crate::wire;
use api::proto;
use prost::Message;
use seal::{DataKey, OVERHEAD};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const MAGIC: &[u8; 8] = b"CLSTSNAP";
/// Bytes of the data in one part.
const PART: usize = 1 << 20;
/// Bytes of the numbers that a file is told from others by.
const ID: usize = 16;
const KEPT: usize = 2;
const SUFFIX: &str = "snap";
const UNFINISHED: &str = "new";

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    dir: PathBuf,
    key: DataKey,
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
    pub fn open(dir: PathBuf, key: DataKey) -> io::Result<Self> {
        disk::make_dir(&dir)?;
        for entry in fs::read_dir(&dir).map_err(|e| named(e, "list", &dir))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == UNFINISHED) {
                fs::remove_file(&path).map_err(|e| named(e, "remove", &path))?;
            }
        }
        Ok(Self {
            dir,
            key,
            writing: Arc::default(),
        })
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All, newest first.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
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
            match read(&path, &self.key) {
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
        self.put(&path, meta, data)?;
        self.reap(&path)
    }

    /// Writes one in place of another.
    pub fn put(&self, path: &Path, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
        let fresh = path.with_extension(UNFINISHED);
        let meta = wire::snapshot_meta(meta).encode_to_vec();
        let mut head = MAGIC.to_vec();
        head.push(SEALED);
        head.extend_from_slice(&self.key.id());
        head.extend_from_slice(&rand::random::<[u8; ID]>());
        head.extend_from_slice(&(meta.len() as u64).to_be_bytes());
        head.extend_from_slice(&(data.len() as u64).to_be_bytes());
        let written = (|| {
            let mut file = File::create(&fresh)?;
            file.write_all(&head)?;
            // One buffer for all: the data may be large.
            let mut sealed = Vec::with_capacity(PART + OVERHEAD);
            let parts = std::iter::once(&meta[..]).chain(data.chunks(PART));
            for (number, part) in (0..).zip(parts) {
                sealed.clear();
                self.key
                    .seal_onto(&mut sealed, &place(&head, number), part)?;
                file.write_all(&sealed)?;
            }
            file.sync_all()?;
            fs::rename(&fresh, path)?;
            disk::sync_dir(&self.dir)
        })();
        if let Err(error) = written {
            // The half file is worth nothing, and a full disk wants its room back.
            let _ = fs::remove_file(&fresh);
            return Err(named(error, "write the snapshot", path));
        }
        Ok(())
    }

    /// Keeps this one and the newest others that are whole.
    fn reap(&self, newest: &Path) -> io::Result<()> {
        let mut kept = 1;
        for path in self.files()?.into_iter().filter(|path| path != newest) {
            if kept < KEPT && read(&path, &self.key).is_ok() {
                kept += 1;
            } else {
                fs::remove_file(&path).map_err(|e| named(e, "remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Where a part belongs.
fn place(head: &[u8], number: u64) -> Vec<u8> {
    [head, &number.to_be_bytes()].concat()
}

/// Reads a file.
pub(crate) fn read(path: &Path, key: &DataKey) -> io::Result<Stored> {
    let bytes = fs::read(path).map_err(|e| named(e, "read", path))?;
    let what = format!("the snapshot {}", path.display());
    let short = || damaged(&what, "it is cut short");
    let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or_else(short)?;
    if magic != MAGIC {
        return Err(damaged(&what, "it doesn't begin as one"));
    }
    let rest = cover::sealed(&what, rest)?;
    let (id, rest) = rest.split_first_chunk::<ID>().ok_or_else(short)?;
    let (_, rest) = rest.split_first_chunk::<ID>().ok_or_else(short)?;
    let (meta_length, rest) = length(rest).ok_or_else(short)?;
    let (data_length, rest) = length(rest).ok_or_else(short)?;
    let parts = data_length.div_ceil(PART).checked_add(1);
    let whole = parts
        .and_then(|parts| parts.checked_mul(OVERHEAD))
        .and_then(|more| more.checked_add(meta_length)?.checked_add(data_length));
    if whole != Some(rest.len()) {
        return Err(damaged(&what, "its length is another than it says"));
    }
    if *id != key.id() {
        // Where the key doesn't fit, the log has said so before.
        return Err(damaged(
            &what,
            "it says that it is encrypted with another key",
        ));
    }
    let head = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
    let mut at = head.len();
    let open = |number: u64, at: usize, part: &[u8], out: &mut Vec<u8>| {
        if key.open_onto(out, &place(head, number), part) {
            return Ok(());
        }
        let end = at + part.len();
        let why = format!("bytes {at} to {end} were changed, or are not in their place");
        Err(damaged(&what, why))
    };
    let (sealed, rest) = rest
        .split_at_checked(meta_length + OVERHEAD)
        .ok_or_else(short)?;
    let mut meta = Vec::with_capacity(meta_length);
    open(0, at, sealed, &mut meta)?;
    at += sealed.len();
    let mut data = Vec::with_capacity(data_length);
    for (number, sealed) in (1..).zip(rest.chunks(PART + OVERHEAD)) {
        open(number, at, sealed, &mut data)?;
        at += sealed.len();
    }
    let meta = proto::SnapshotMeta::decode(&meta[..]).map_err(|e| damaged(&what, e))?;
    let meta = wire::read_snapshot_meta(&meta).map_err(|e| damaged(&what, e))?;
    Ok(Stored { meta, data })
}

/// A length.
pub(crate) fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u64::from_be_bytes(*length)).ok()?, rest))
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
        let snapshots =
            Snapshots::open(dir.path().join("snapshots"), DataKey::from([7; 32])).unwrap();
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
    fn a_large_one_is_in_parts_which_stay_in_their_places() {
        let (dir, snapshots) = open();
        let data: Vec<u8> = (0..PART * 2 + 5).map(|n| (n % 251) as u8).collect();
        snapshots.write(&meta(1), &data).unwrap();
        let path = snapshots.files().unwrap()[0].clone();
        assert_eq!(read(&path, &snapshots.key).unwrap().data, data);
        let whole = fs::read(&path).unwrap();
        assert!(!whole.windows(40).any(|part| part == &data[..40]));
        // The two whole parts change places; the last is one of another file; the file is another's.
        let (sealed, end) = (PART + OVERHEAD, whole.len());
        let first = end - 5 - OVERHEAD - 2 * sealed;
        let mut swapped = whole.clone();
        swapped[first..first + 2 * sealed].rotate_left(sealed);
        snapshots.write(&meta(1), &data).unwrap();
        let mut mixed = whole.clone();
        mixed[end - 45..].copy_from_slice(&fs::read(&path).unwrap()[end - 45..]);
        for bad in [swapped, mixed] {
            fs::write(&path, bad).unwrap();
            let error = read(&path, &snapshots.key).unwrap_err().to_string();
            assert!(error.contains("snap is damaged: bytes "), "{error}");
        }
        fs::write(&path, whole).unwrap();
        let other = Snapshots::open(dir.path().join("snapshots"), DataKey::random()).unwrap();
        let (none, wrong) = other.newest().unwrap();
        assert!(none.is_none() && wrong[0].to_string().contains("another key"));
    }

    #[test]
    fn a_newer_format_is_refused_with_a_cure() {
        let (_dir, snapshots) = open();
        snapshots.write(&meta(1), b"old").unwrap();
        snapshots.write(&meta(2), b"new").unwrap();
        let newer = snapshots.files().unwrap()[0].clone();
        let mut later = fs::read(&newer).unwrap();
        later[MAGIC.len()] = SEALED + 1;
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
        let again = Snapshots::open(dir.path().join("snapshots"), DataKey::from([7; 32])).unwrap();
        assert!(!half.exists());
        assert_eq!(index(again.newest().unwrap().0), Some(1));
    }
}
