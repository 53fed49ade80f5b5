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
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Found damaged, or unreadable, when they were read.
    damaged: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub meta: SnapshotMeta,
    pub data: Vec<u8>,
}

/// What a snapshot holds: at hand, or in its file until it is wanted. Whoever asks for the newest one holds up the
/// state machine meanwhile, and the contents may be some hundred MB.
#[derive(Debug)]
pub struct Contents(Place);

#[derive(Debug)]
enum Place {
    Here(Vec<u8>),
    /// Removed meanwhile, it is there as long as it is open.
    There(PathBuf, File, Snapshots),
}

impl From<Vec<u8>> for Contents {
    fn from(data: Vec<u8>) -> Self {
        Self(Place::Here(data))
    }
}

impl Contents {
    /// All of it.
    ///
    /// # Errors
    /// When its file can't be read, or is damaged: the next one to ask is given an older one then.
    pub async fn load(self) -> io::Result<Vec<u8>> {
        let (path, mut file, snapshots) = match self.0 {
            Place::Here(data) => return Ok(data),
            Place::There(path, file, snapshots) => (path, file, snapshots),
        };
        let work = move || {
            let mut bytes = Vec::new();
            let read = file
                .rewind()
                .and_then(|()| file.read_to_end(&mut bytes))
                .map_err(|e| named(e, "read", &path));
            let stored = read.and_then(|_| parse(&path, &bytes, &snapshots.key));
            stored.map(|stored| stored.data).inspect_err(|error| {
                tracing::error!(%error, "trying an older snapshot");
                snapshots.damaged().insert(path);
            })
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)?
    }
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
            damaged: Arc::default(),
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
                    // Its beginning may be whole.
                    self.damaged().insert(path);
                    wrong.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((None, wrong))
    }

    /// As [`Snapshots::newest`], what it holds to be read later: that it is whole shows then.
    pub fn newest_unread(&self) -> io::Result<Option<(SnapshotMeta, Contents)>> {
        for path in self.files()? {
            if self.damaged().contains(&path) {
                continue;
            }
            match peek(&path, &self.key) {
                Ok((meta, file)) => {
                    let contents = Contents(Place::There(path, file, self.clone()));
                    return Ok(Some((meta, contents)));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, "trying an older snapshot");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one; older ones beyond those kept go, damaged ones first.
    pub fn write(&self, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
        let path = self.dir.join(format!("{index:020}.{SUFFIX}"));
        self.put(&path, meta, data)?;
        self.damaged().remove(&path);
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
                self.damaged().remove(&path);
            }
        }
        Ok(())
    }
}

/// Where a part belongs.
fn place(head: &[u8], number: u64) -> Vec<u8> {
    [head, &number.to_be_bytes()].concat()
}

/// The beginning of a file.
struct Head {
    id: [u8; ID],
    meta_length: usize,
    data_length: usize,
}

/// Bytes of it.
const HEAD: usize = MAGIC.len() + 1 + 2 * ID + 2 * 8;

/// `length_of_all` is that of the whole file.
fn head(what: &str, bytes: &[u8], length_of_all: u64) -> io::Result<Head> {
    let short = || damaged(what, "it is cut short");
    let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or_else(short)?;
    if magic != MAGIC {
        return Err(damaged(what, "it doesn't begin as one"));
    }
    let rest = cover::sealed(what, rest)?;
    let (id, rest) = rest.split_first_chunk::<ID>().ok_or_else(short)?;
    let (_, rest) = rest.split_first_chunk::<ID>().ok_or_else(short)?;
    let (meta_length, rest) = length(rest).ok_or_else(short)?;
    let (data_length, _) = length(rest).ok_or_else(short)?;
    let parts = data_length.div_ceil(PART).checked_add(1);
    let whole = parts
        .and_then(|parts| parts.checked_mul(OVERHEAD))
        .and_then(|more| more.checked_add(meta_length)?.checked_add(data_length))
        .and_then(|parts| u64::try_from(parts.checked_add(HEAD)?).ok());
    if whole != Some(length_of_all) {
        return Err(damaged(what, "its length is another than it says"));
    }
    Ok(Head {
        id: *id,
        meta_length,
        data_length,
    })
}

impl Head {
    fn check_key(&self, what: &str, key: &DataKey) -> io::Result<()> {
        if self.id == key.id() {
            return Ok(());
        }
        // Where the key doesn't fit, the log has said so before.
        Err(damaged(
            what,
            "it says that it is encrypted with another key",
        ))
    }
}

/// Opens the part with this number, which begins at that byte of the file.
fn open_part(
    (what, key): (&str, &DataKey),
    head: &[u8],
    (number, at): (u64, usize),
    part: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    if key.open_onto(out, &place(head, number), part) {
        return Ok(());
    }
    let end = at + part.len();
    let why = format!("bytes {at} to {end} were changed, or are not in their place");
    Err(damaged(what, why))
}

fn read_meta(what: &str, meta: &[u8]) -> io::Result<SnapshotMeta> {
    let meta = proto::SnapshotMeta::decode(meta).map_err(|e| damaged(what, e))?;
    wire::read_snapshot_meta(&meta).map_err(|e| damaged(what, e))
}

fn what(path: &Path) -> String {
    format!("the snapshot {}", path.display())
}

/// Reads what a file says of itself.
fn peek(path: &Path, key: &DataKey) -> io::Result<(SnapshotMeta, File)> {
    let what = what(path);
    let fail = |e| named(e, "read", path);
    let mut file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    let take = |file: &mut File, bytes: usize| {
        let mut taken = Vec::with_capacity(bytes);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Read::by_ref(file)
            .take(bytes)
            .read_to_end(&mut taken)
            .map_err(fail)?;
        Ok::<_, io::Error>(taken)
    };
    let start = take(&mut file, HEAD)?;
    let head = head(&what, &start, length)?;
    head.check_key(&what, key)?;
    let sealed = take(&mut file, head.meta_length + OVERHEAD)?;
    let mut meta = Vec::with_capacity(head.meta_length);
    open_part((&what, key), &start, (0, HEAD), &sealed, &mut meta)?;
    Ok((read_meta(&what, &meta)?, file))
}

/// Reads a file.
pub(crate) fn read(path: &Path, key: &DataKey) -> io::Result<Stored> {
    let bytes = fs::read(path).map_err(|e| named(e, "read", path))?;
    parse(path, &bytes, key)
}

fn parse(path: &Path, bytes: &[u8], key: &DataKey) -> io::Result<Stored> {
    let what = what(path);
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let head = head(&what, bytes, length)?;
    head.check_key(&what, key)?;
    let short = || damaged(&what, "it is cut short");
    let (start, rest) = bytes.split_at_checked(HEAD).ok_or_else(short)?;
    let (sealed, rest) = rest
        .split_at_checked(head.meta_length + OVERHEAD)
        .ok_or_else(short)?;
    let mut at = start.len();
    let mut meta = Vec::with_capacity(head.meta_length);
    open_part((&what, key), start, (0, at), sealed, &mut meta)?;
    at += sealed.len();
    let mut data = Vec::with_capacity(head.data_length);
    for (number, sealed) in (1..).zip(rest.chunks(PART + OVERHEAD)) {
        open_part((&what, key), start, (number, at), sealed, &mut data)?;
        at += sealed.len();
    }
    let meta = read_meta(&what, &meta)?;
    Ok(Stored { meta, data })
}

/// A length.
pub(crate) fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u64::from_be_bytes(*length)).ok()?, rest))
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
