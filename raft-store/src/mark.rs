//! How far the log is known to be durable, in a file beside it.
//!
//! The database takes what it can't read at its end for a write that was cut off, and leaves it out without a
//! word, whether or not it had been durable. So after each sync the vote and the last entry are noted here,
//! and a log that reaches less far at the next start is damaged, and refused.
//!
//! The note itself is synced only where it goes back, which is before entries are removed; else it may lag,
//! and then promises less than there is. Two places are written in turn, so that one survives the other's
//! being torn.

use crate::codec::{self, damaged};
use crate::disk::named;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of a place: what a disk writes at once.
const PLACE: usize = 512;
const SUM: usize = 32;

/// A leader's term, and who it is.
type Leader = (u64, u64);

/// What is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// The vote: for whom, and whether that one leads by it.
    pub vote: Option<(Leader, bool)>,
    /// The last entry: of which leader, and which.
    pub last: Option<(Leader, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    number: u64,
    reached: Reached,
}

/// The file.
pub(crate) struct Mark {
    file: File,
    path: PathBuf,
    number: u64,
    written: Reached,
}

impl Mark {
    /// Opens the file, making it; what it says. Nothing when it is new.
    ///
    /// # Errors
    /// When neither place can be read, or it is of a newer format.
    pub fn open(path: PathBuf) -> io::Result<(Self, Option<Reached>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| named(e, "open", &path))?;
        let newest = read(&file, &path)?;
        let mark = Self {
            file,
            path,
            number: newest.as_ref().map_or(0, |note| note.number),
            written: newest.as_ref().map(|note| note.reached).unwrap_or_default(),
        };
        Ok((mark, newest.map(|note| note.reached)))
    }

    /// Notes what has become durable.
    pub fn write(&mut self, reached: Reached) -> io::Result<()> {
        if reached == self.written && self.number > 0 {
            return Ok(());
        }
        let goes_back = reached.last < self.written.last || self.number == 0;
        self.place(reached)?;
        if goes_back {
            // In both places, for either may be the one that is left.
            self.place(reached)?;
            self.file
                .sync_data()
                .map_err(|e| named(e, "sync", &self.path))?;
        }
        self.written = reached;
        Ok(())
    }

    fn place(&mut self, reached: Reached) -> io::Result<()> {
        self.number += 1;
        let note = Note {
            number: self.number,
            reached,
        };
        let body = codec::encode(&note)?;
        let length = u16::try_from(body.len()).map_err(io::Error::other)?;
        let mut bytes = [&length.to_be_bytes()[..], &body].concat();
        bytes.resize(PLACE - SUM, 0);
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        let at = (self.number % 2) * PLACE as u64;
        self.file
            .write_all_at(&bytes, at)
            .map_err(|e| named(e, "write", &self.path))
    }
}

/// The newer of the two notes.
fn read(file: &File, path: &Path) -> io::Result<Option<Note>> {
    let what = format!("the mark {}", path.display());
    let length = file.metadata().map_err(|e| named(e, "read", path))?.len();
    let mut newest: Option<Note> = None;
    for at in [0, PLACE] {
        let mut bytes = vec![0; PLACE];
        match file.read_exact_at(&mut bytes, at as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(named(error, "read", path)),
        }
        let (body, sum) = bytes.split_at(PLACE - SUM);
        if Sha256::digest(body).as_slice() != sum {
            continue;
        }
        let whole = body
            .split_first_chunk()
            .and_then(|(length, body)| body.get(..usize::from(u16::from_be_bytes(*length))));
        let whole = whole.ok_or_else(|| damaged(&what, "a note is longer than its place"))?;
        let note: Note = codec::decode(&what, whole)?;
        if newest.as_ref().is_none_or(|n| n.number < note.number) {
            newest = Some(note);
        }
    }
    if newest.is_none() && length > 0 {
        return Err(damaged(&what, "neither of its notes can be read"));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upto(index: u64) -> Reached {
        Reached {
            vote: Some(((1, 7), true)),
            last: Some(((1, 7), index)),
        }
    }

    #[test]
    fn the_newer_note_counts_and_the_other_stands_in_for_a_torn_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let (mut mark, before) = Mark::open(path.clone()).unwrap();
        assert_eq!(before, None);
        for index in 1..=5 {
            mark.write(upto(index)).unwrap();
        }
        let found = |path: &Path| Mark::open(path.to_owned()).map(|(_, reached)| reached);
        assert_eq!(found(&path).unwrap(), Some(upto(5)));
        let whole = std::fs::read(&path).unwrap();
        let newer = usize::from(mark.number % 2 == 1) * PLACE;
        for at in (0..PLACE).step_by(7) {
            let mut torn = whole.clone();
            torn[newer + at] ^= 0x10;
            std::fs::write(&path, torn).unwrap();
            assert_eq!(found(&path).unwrap(), Some(upto(4)), "byte {at}");
        }
        // Back, and neither place remembers more.
        std::fs::write(&path, &whole).unwrap();
        mark.write(upto(2)).unwrap();
        for place in [0, PLACE] {
            let mut torn = std::fs::read(&path).unwrap();
            torn[place] ^= 1;
            std::fs::write(dir.path().join("torn"), torn).unwrap();
            assert_eq!(found(&dir.path().join("torn")).unwrap(), Some(upto(2)));
        }
        std::fs::write(&path, [1; 2 * PLACE]).unwrap();
        let error = found(&path).unwrap_err().to_string();
        assert!(error.contains("mark is damaged"), "{error}");
    }
}
