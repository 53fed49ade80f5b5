//! Keeps a file that grows longer than what is written to it.
//!
//! A sync of a file that a write has made longer waits for the file system's own journal, too: on ext4 it takes
//! twice to three times as long as one of a file whose length stays. So space is asked for ahead of the writes, of
//! which the file system makes a note once per [`AHEAD`] bytes. The space reads as zeroes, as what sled has
//! given back does. It is a help, and not having it no failure.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io;

/// Bytes asked for at once. Small for tests, whose losses of power are to meet it.
const AHEAD: u64 = if cfg!(test) { 64 << 10 } else { 1 << 20 };
/// More is asked for once something is written in the last so many.
const REST: u64 = AHEAD / 2;
/// It is looked at again after so many bytes. The database adds some of its own, and more are on their way: where
/// both together are more than what is left, a sync waits for the journal.
const STEP: u64 = REST / 16;
/// How many looks a disk that had no room is not asked for.
const PAUSE: u32 = 32;

/// See above.
pub(crate) struct Ahead {
    file: File,
    helps: bool,
    pause: u32,
    /// Bytes written since it was last looked at.
    since: u64,
}

impl Ahead {
    /// Of a file that is open for writing.
    pub fn of(file: File) -> Self {
        Self {
            file,
            helps: true,
            pause: 0,
            since: STEP,
        }
    }

    /// So many bytes were written: asks for space if the file will need it soon. Changes nothing of what is in it,
    /// whoever writes meanwhile.
    pub fn wrote(&mut self, bytes: usize) {
        self.since += bytes as u64;
        if self.since >= STEP {
            self.since = 0;
            self.look();
        }
    }

    fn look(&mut self) {
        if self.pause > 0 {
            self.pause -= 1;
        } else if self.helps
            && let Err(error) = self.make_room()
        {
            tracing::debug!(%error, "no space was asked for ahead of the log");
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.pause = PAUSE,
                _ => self.helps = false,
            }
        }
    }

    fn make_room(&mut self) -> io::Result<()> {
        // Each time anew, for sled shortens it.
        let length = self.file.metadata()?.len();
        if !self.is_written_from(length.saturating_sub(REST))? {
            return Ok(());
        }
        let (at, more) = (offset(length)?, offset(AHEAD)?);
        fallocate(&self.file, FallocateFlags::empty(), at, more)?;
        // A file system that doesn't tell space from data would let the file grow for ever.
        self.helps = !self.is_written_from(length + AHEAD - REST)?;
        Ok(())
    }

    fn is_written_from(&self, at: u64) -> io::Result<bool> {
        match lseek(&self.file, offset(at)?, Whence::SeekData) {
            Ok(_) => Ok(true),
            Err(Errno::ENXIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn offset(bytes: u64) -> io::Result<i64> {
    i64::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_file_is_longer_than_what_is_written_but_not_by_much() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(dir.path().join("db")).unwrap();
        let mut ahead = Ahead::of(file.try_clone().unwrap());
        ahead.look();
        let length = || file.metadata().unwrap().len();
        assert_eq!(length(), 0, "nothing is written");
        let mut at = 0;
        while at < 10 * AHEAD {
            file.write_all_at(&[7; 1500], at).unwrap();
            at += 1500;
            file.sync_data().unwrap();
            ahead.wrote(1500);
            assert!(
                length() > at && length() <= at + REST + AHEAD + 4096,
                "{at}"
            );
        }
        // sled shortens it.
        file.set_len(AHEAD).unwrap();
        ahead.look();
        assert_eq!(length(), 2 * AHEAD);
        file.set_len(0).unwrap();
        file.write_all_at(&[7], 0).unwrap();
        ahead.look();
        assert_eq!(length(), 1 + AHEAD);
        assert!(ahead.helps);
    }

    #[test]
    fn a_file_that_can_not_be_helped_is_left_alone() {
        let (reader, _writer) = io::pipe().unwrap();
        let mut ahead = Ahead::of(File::from(std::os::fd::OwnedFd::from(reader)));
        ahead.look();
        ahead.look();
        assert!(!ahead.helps);
    }
}
