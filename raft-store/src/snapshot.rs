//! Snapshots as ordinary files: written beside, synced, renamed, the folder synced; the last two are kept.
//!
//! A file is `magic, format, length of meta, meta, length of data, SHA-256 of all before and the data, data`.

use crate::codec;
use crate::types::SnapshotMeta;
use crate::wire;
use api::proto;
use prost::Message;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"CLSTSNAP";
const KEPT: usize = 2;
const SUFFIX: &str = "snap";

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    dir: PathBuf,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub meta: SnapshotMeta,
    pub data: Vec<u8>,
}

fn damaged(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot {} is damaged: {why}", path.display()))
}

fn named(error: io::Error, action: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("can't {action} {}: {error}", path.display()))
}

impl Snapshots {
    /// Opens the folder, making it; half files of a crash go.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir).map_err(|e| named(e, "make", &dir))?;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "new") {
                fs::remove_file(&path).map_err(|e| named(e, "remove", &path))?;
            }
        }
        Ok(Self { dir })
    }

    /// All, newest first.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.dir)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == SUFFIX))
            .collect();
        // Names are the index, in as many digits as any index has.
        files.sort();
        files.reverse();
        Ok(files)
    }

    /// The newest that is whole. Damaged ones are told.
    ///
    /// # Errors
    /// When there are some, and none is whole, or one is of a newer format.
    pub fn newest(&self) -> io::Result<Option<Stored>> {
        let mut first_error = None;
        for path in self.files()? {
            match read(&path) {
                Ok(stored) => return Ok(Some(stored)),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "trying an older snapshot");
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Writes one; older ones beyond those kept go.
    pub fn write(&self, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
        let path = self.dir.join(format!("{index:020}.{SUFFIX}"));
        let fresh = path.with_extension("new");
        let meta = wire::snapshot_meta(meta).encode_to_vec();
        let mut head = MAGIC.to_vec();
        head.push(codec::FORMAT);
        head.extend_from_slice(&(meta.len() as u64).to_be_bytes());
        head.extend_from_slice(&meta);
        head.extend_from_slice(&(data.len() as u64).to_be_bytes());
        let sum = Sha256::new().chain_update(&head).chain_update(data).finalize();
        let written = (|| {
            let mut file = File::create(&fresh)?;
            file.write_all(&head)?;
            file.write_all(&sum)?;
            file.write_all(data)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.dir)?.sync_all()
        })();
        if let Err(error) = written {
            // The half file is worth nothing, and a full disk wants its room back.
            let _ = fs::remove_file(&fresh);
            return Err(named(error, "write the snapshot", &path));
        }
        for old in self.files()?.into_iter().skip(KEPT) {
            fs::remove_file(&old).map_err(|e| named(e, "remove", &old))?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Stored> {
    let bytes = fs::read(path).map_err(|e| named(e, "read", path))?;
    let short = || damaged(path, "it is cut short");
    let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or_else(short)?;
    if magic != MAGIC {
        return Err(damaged(path, "it doesn't begin as one"));
    }
    let rest = codec::versioned(&format!("the snapshot {}", path.display()), rest)?;
    let (meta, rest) = take(rest).ok_or_else(short)?;
    let (length, rest) = rest.split_at_checked(8).ok_or_else(short)?;
    let head = bytes.len() - rest.len();
    let (sum, data) = rest.split_at_checked(32).ok_or_else(short)?;
    if u64::from_be_bytes(length.try_into().map_err(|_| short())?) != data.len() as u64 {
        return Err(short());
    }
    let found = Sha256::new().chain_update(bytes.get(..head).unwrap_or_default()).chain_update(data).finalize();
    if found.as_slice() != sum {
        return Err(damaged(path, "its checksum is another"));
    }
    let meta = proto::SnapshotMeta::decode(meta).map_err(|e| damaged(path, &e.to_string()))?;
    let meta = wire::read_snapshot_meta(&meta).map_err(|e| damaged(path, &e.to_string()))?;
    Ok(Stored { meta, data: data.to_vec() })
}

/// A part with its length before it.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(8)?;
    let length = usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?;
    rest.split_at_checked(length)
}
