//! Where things are, and the lock that keeps a second clusterd out.

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The state and run folders, held by this process.
#[derive(Debug)]
pub struct Places {
    /// Kept for ever.
    pub state: PathBuf,
    /// Kept until the next boot.
    pub run: PathBuf,
    _lock: Flock<File>,
}

impl Places {
    /// Makes the folders and takes the lock.
    ///
    /// # Errors
    /// When they can't be made, or another clusterd uses them.
    pub fn open(state: &Path, run: &Path) -> Result<Self> {
        for dir in [state, run] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(dir)
                .with_context(|| format!("can't make the folder {}", dir.display()))?;
        }
        let path = state.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("can't open {}", path.display()))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, _)) => {
                let mut pid = String::new();
                // Only to say more.
                let _ = file.read_to_string(&mut pid);
                bail!(
                    "another clusterd (pid {}) uses {}; stop it, or give this one its own --state-dir and --run-dir",
                    pid.trim(),
                    state.display()
                );
            }
        };
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))?;
        // Absolute: mounts and shims outlive this process and its working folder.
        let absolute = |dir: &Path| {
            dir.canonicalize()
                .with_context(|| format!("can't resolve {}", dir.display()))
        };
        Ok(Self {
            state: absolute(state)?,
            run: absolute(run)?,
            _lock: lock,
        })
    }

    /// This machine's membership.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// The replicated state.
    #[must_use]
    pub fn raft(&self) -> PathBuf {
        self.state.join("raft")
    }

    /// What the replicated state is sealed with.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.state.join("raft.key")
    }

    /// Where a backup is tried out.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.raft().with_extension("scratch")
    }

    /// Images.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }
}
