//! A manager that was not taken in yet stands for no election, however often it starts: a node that was a manager
//! before gets the whole log again, and in it the day when it was the only one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// In the folder of the replicated state, while it is not taken in.
const MARK: &str = "not-taken-in";

/// Whether this manager is one, kept on disk.
#[derive(Debug)]
pub struct Novice {
    mark: PathBuf,
    is_one: AtomicBool,
}

impl Novice {
    /// Looks at the folder of a manager's state. One without a log is new.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn look(dir: &Path) -> io::Result<Self> {
        let mark = dir.join(MARK);
        if !dir.join("log").exists() {
            fs::create_dir_all(dir)?;
            File::create(&mark)?.sync_all()?;
            File::open(dir)?.sync_all()?;
        }
        let is_one = AtomicBool::new(mark.exists());
        Ok(Self { mark, is_one })
    }

    /// Whether it is not taken in yet.
    pub fn is_one(&self) -> bool {
        self.is_one.load(Ordering::Relaxed)
    }

    /// It is taken in, for good.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn is_none_any_more(&self) -> io::Result<()> {
        match fs::remove_file(&self.mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.is_one.store(false, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_novice_stays_one_over_starts_and_an_old_manager_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let raft = dir.path().join("raft");
        assert!(Novice::look(&raft).unwrap().is_one());
        fs::create_dir(raft.join("log")).unwrap();
        let again = Novice::look(&raft).unwrap();
        assert!(again.is_one());
        again.is_none_any_more().unwrap();
        again.is_none_any_more().unwrap();
        assert!(!Novice::look(&raft).unwrap().is_one());
    }
}
