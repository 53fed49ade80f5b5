//! What changed, for whoever follows: a bounded ring of the last changes.
//!
//! A watcher that falls behind what the ring holds, or that would have to see through a snapshot, is told to
//! read everything anew. It is told so at its beginning, too: subscribe first, then read.

use api::state::Event;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Transactions kept.
const KEPT: usize = 4096;
/// Events kept.
const EVENTS_KEPT: usize = 262_144;

/// What a watcher sees.
#[derive(Debug, Clone)]
pub enum Watched {
    /// One transaction's changes, in order and without gaps.
    Changes {
        /// At which revision.
        revision: u64,
        /// What changed.
        events: Arc<[Event]>,
    },
    /// Read everything anew; changes after that follow.
    Resync,
    /// The store is closed.
    Closed,
}

#[derive(Default)]
struct Kept {
    /// Number of the first one kept.
    first: u64,
    changes: VecDeque<(u64, Arc<[Event]>)>,
    events: usize,
}

/// The ring.
pub(crate) struct Ring {
    kept: Mutex<Kept>,
    /// The number of the next one; the sender's end closes all watchers.
    next: Mutex<Option<watch::Sender<u64>>>,
    follow: watch::Receiver<u64>,
}

impl Ring {
    pub fn new() -> Self {
        let (next, follow) = watch::channel(0);
        Self { kept: Mutex::default(), next: Mutex::new(Some(next)), follow }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, number: u64) {
        if let Some(next) = &*self.next.lock().unwrap_or_else(PoisonError::into_inner) {
            next.send_replace(number);
        }
    }

    pub fn push(&self, revision: u64, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut kept = self.kept();
        kept.events += events.len();
        kept.changes.push_back((revision, events.into()));
        while kept.changes.len() > KEPT || (kept.events > EVENTS_KEPT && kept.changes.len() > 1) {
            if let Some((_, gone)) = kept.changes.pop_front() {
                kept.events -= gone.len();
                kept.first += 1;
            }
        }
        let number = kept.first + kept.changes.len() as u64;
        drop(kept);
        self.tell(number);
    }

    /// The state was replaced: nobody can follow through.
    pub fn restart(&self) {
        let mut kept = self.kept();
        // One number is left out, so that every watcher is behind.
        kept.first += kept.changes.len() as u64 + 1;
        kept.changes.clear();
        kept.events = 0;
        let number = kept.first;
        drop(kept);
        self.tell(number);
    }

    pub fn close(&self) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub fn watch(self: &Arc<Self>) -> Watcher {
        let kept = self.kept();
        let next = kept.first + kept.changes.len() as u64;
        drop(kept);
        Watcher { ring: self.clone(), follow: self.follow.clone(), next, resync: true }
    }
}

/// Follows the changes.
pub struct Watcher {
    ring: Arc<Ring>,
    follow: watch::Receiver<u64>,
    next: u64,
    resync: bool,
}

impl Watcher {
    /// The next thing to see. Cancel-safe.
    pub async fn next(&mut self) -> Watched {
        loop {
            if std::mem::take(&mut self.resync) {
                return Watched::Resync;
            }
            if let Some(seen) = self.look() {
                return seen;
            }
            if self.follow.changed().await.is_err() {
                // What came before the end is still to be seen.
                return self.look().unwrap_or(Watched::Closed);
            }
        }
    }

    fn look(&mut self) -> Option<Watched> {
        let kept = self.ring.kept();
        if self.next < kept.first {
            self.next = kept.first + kept.changes.len() as u64;
            return Some(Watched::Resync);
        }
        let at = usize::try_from(self.next - kept.first).ok()?;
        let (revision, events) = kept.changes.get(at)?.clone();
        self.next += 1;
        Some(Watched::Changes { revision, events })
    }
}
