//! What sled 0.34 uses of `parking_lot` 0.11, as `parking_lot` 0.12 has it, but for one thing.
//!
//! sled hands each write to a pool of seven threads and wakes all of them for it (`notify_all`, in its
//! `threadpool.rs`), though one is to take it; with some hundred commits a second that was an eighth of what a manager
//! did. The pool is the only one there that waits until a time (`wait_until`), so those who wait so are woken one at a
//! time. That is enough for a pool: whoever is awake looks for more work before it waits again.

pub use successor::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult,
};

use std::time::{Duration, Instant};

/// A condition variable with two queues: a pool's, of those who [`Condvar::wait_until`], and the others'.
#[derive(Debug, Default)]
pub struct Condvar {
    others: successor::Condvar,
    pool: successor::Condvar,
}

impl Condvar {
    /// One that nobody waits for.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            others: successor::Condvar::new(),
            pool: successor::Condvar::new(),
        }
    }

    /// Waits to be woken.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.others.wait(guard);
    }

    /// Waits to be woken, for so long at most.
    pub fn wait_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        self.others.wait_for(guard, timeout)
    }

    /// Waits as one of a pool, until that time at most.
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Instant,
    ) -> WaitTimeoutResult {
        self.pool.wait_until(guard, timeout)
    }

    /// Wakes one, of the pool only if nobody else waits.
    pub fn notify_one(&self) -> bool {
        self.others.notify_one() || self.pool.notify_one()
    }

    /// Wakes one of the pool and all others. How many.
    pub fn notify_all(&self) -> usize {
        self.others.notify_all() + usize::from(self.pool.notify_one())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    type Shared = Arc<(Mutex<usize>, Condvar)>;

    /// Threads that wait, each by `wait`, until they may go; how many have gone on.
    fn waiting(
        count: usize,
        wait: impl Fn(&Condvar, &mut MutexGuard<'_, usize>) + Clone + Send + 'static,
    ) -> (Shared, Vec<thread::JoinHandle<()>>) {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let threads = (0..count).map(|_| {
            let (shared, wait) = (shared.clone(), wait.clone());
            thread::spawn(move || {
                let mut waiting = shared.0.lock();
                *waiting += 1;
                wait(&shared.1, &mut waiting);
                *waiting -= 1;
            })
        });
        let threads = threads.collect();
        while *shared.0.lock() < count {
            thread::yield_now();
        }
        (shared, threads)
    }

    #[test]
    fn of_a_pool_one_is_woken_and_of_the_others_all() {
        let far = || Instant::now() + Duration::from_secs(3600);
        let (shared, threads) = waiting(4, move |condvar, guard| {
            assert!(!condvar.wait_until(guard, far()).timed_out());
        });
        for left in [3, 2, 1, 0] {
            assert_eq!(shared.1.notify_all(), 1);
            while *shared.0.lock() > left {
                thread::yield_now();
            }
        }
        assert_eq!(shared.1.notify_all(), 0);
        for thread in threads {
            thread.join().unwrap();
        }
        let (shared, threads) = waiting(4, Condvar::wait);
        assert_eq!(shared.1.notify_all(), 4);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
