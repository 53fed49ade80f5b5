//! One lock per digest, so that two loads or pulls of one layer don't both do the work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::digest::Digest;

/// Locks made when needed and forgotten when nobody holds or awaits them.
#[derive(Default)]
pub(crate) struct KeyedLock {
    locks: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// Held while working on the key.
pub(crate) type KeyedGuard = OwnedMutexGuard<()>;

impl KeyedLock {
    fn of(&self, key: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }

    pub(crate) async fn lock(&self, key: Digest) -> KeyedGuard {
        self.of(key).lock_owned().await
    }

    /// The same from a thread that may block.
    pub(crate) fn lock_blocking(&self, key: Digest) -> KeyedGuard {
        self.of(key).blocking_lock_owned()
    }
}
