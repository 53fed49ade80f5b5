//! This manager's keys: one file beside the replicated state, made when it becomes a manager, gone when it is none
//! any more.

use anyhow::{Context, Result, bail};
use api::model::{Role, UnlockKey};
use seal::{DataKey, Found, Keys, UnlockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The keys.
pub struct Vault {
    path: PathBuf,
    now: Mutex<Option<Arc<Keys>>>,
}

impl Vault {
    /// Of a file, which need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            now: Mutex::default(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Keys>>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are there.
    ///
    /// # Errors
    /// When there are none, they are locked, or can't be read.
    pub fn existing(&self) -> Result<Arc<Keys>> {
        match self.look()? {
            Some(keys) => Ok(keys),
            None => bail!(
                "the key file {} is gone; put it back from a copy, or remove this node's identity and state and join again",
                self.path.display()
            ),
        }
    }

    /// Those that are there, or new ones.
    ///
    /// # Errors
    /// When they are locked, can't be read, or can't be written.
    pub fn keys(&self) -> Result<Arc<Keys>> {
        if let Some(keys) = self.look()? {
            return Ok(keys);
        }
        let keys = Arc::new(Keys::create(&self.path)?);
        *self.lock() = Some(keys.clone());
        Ok(keys)
    }

    fn look(&self) -> Result<Option<Arc<Keys>>> {
        let mut now = self.lock();
        if now.is_none() {
            *now = match Found::look(&self.path)? {
                Found::None => None,
                Found::Open(keys) => Some(Arc::new(keys)),
                Found::Locked(_) => bail!(crate::control::LOCKED),
            };
        }
        Ok(now.clone())
    }

    /// Whether they need the unlock key.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn is_locked(&self) -> Result<bool> {
        Ok(self.lock().is_none() && matches!(Found::look(&self.path)?, Found::Locked(_)))
    }

    /// Opens them, where they need the unlock key.
    ///
    /// # Errors
    /// When it is another key, or they can't be read.
    pub fn unlock(&self, key: &UnlockKey) -> Result<(), UnlockError> {
        let mut now = self.lock();
        if now.is_none()
            && let Found::Locked(locked) = Found::look(&self.path)?
        {
            *now = Some(Arc::new(locked.unlock(key.bytes())?));
        }
        Ok(())
    }

    /// What a node of this role keeps its private key with.
    ///
    /// # Errors
    /// See [`Vault::keys`].
    pub fn seals(&self, role: Role) -> Result<Option<DataKey>> {
        Ok(match role {
            Role::Manager => Some(self.keys()?.data().clone()),
            Role::Worker => None,
        })
    }

    /// Forgets them: nothing is left that they are needed for.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&self) -> Result<()> {
        *self.lock() = None;
        seal::remove(&self.path).context("the keys are left behind")
    }
}
