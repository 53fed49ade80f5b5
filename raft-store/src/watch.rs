//! What changed, for whoever follows: a bounded ring of the last changes.
//!
//! A watcher that falls behind what the ring holds, or that would have to see through a snapshot, is told to
//! read everything anew. It is told so at its beginning, too: subscribe first, then read.

use api::state::Event;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Transactions kept.
const KEPT: usize = 1024;
/// Events kept, but for a single transaction that has more: they hold objects that are gone from the state.
const EVENTS_KEPT: usize = 8192;

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
    /// Read everything anew; changes after that follow. Those up to the revision that was read may be among
    /// them: to be left out by whom it matters to.
    Resync,
    /// The store is closed.
    Closed,
}

#[derive(Debug, Default)]
struct Kept {
    /// Number of the first one kept.
    first: u64,
    changes: VecDeque<(u64, Arc<[Event]>)>,
    events: usize,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    kept: Mutex<Kept>,
    /// The number of the next one; the sender's end closes all watchers.
    next: Mutex<Option<Told>>,
    follow: watch::Receiver<u64>,
    cluster: watch::Receiver<()>,
}

#[derive(Debug)]
struct Told {
    next: watch::Sender<u64>,
    /// Of the cluster itself.
    cluster: watch::Sender<()>,
}

impl Default for Ring {
    fn default() -> Self {
        let (next, follow) = watch::channel(0);
        let (told, cluster) = watch::channel(());
        Self {
            kept: Mutex::default(),
            next: Mutex::new(Some(Told {
                next,
                cluster: told,
            })),
            follow,
            cluster,
        }
    }
}

impl Ring {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, number: u64, is_cluster: bool) {
        if let Some(told) = &*self.next.lock().unwrap_or_else(PoisonError::into_inner) {
            told.next.send_replace(number);
            if is_cluster {
                told.cluster.send_replace(());
            }
        }
    }

    /// A transaction was applied.
    pub fn push(&self, revision: u64, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let is_cluster = events.iter().any(|e| matches!(e, Event::Cluster(..)));
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
        self.tell(number, is_cluster);
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
        self.tell(number, true);
    }

    /// Nothing more comes.
    pub fn close(&self) {
        self.next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Changes when the cluster's own object has, and at the beginning, for who needs nothing else: it is not woken
    /// by every write.
    pub fn cluster(&self) -> watch::Receiver<()> {
        let mut cluster = self.cluster.clone();
        cluster.mark_changed();
        cluster
    }

    /// Follows from now on.
    pub fn watch(self: &Arc<Self>) -> Watcher {
        Watcher {
            ring: self.clone(),
            follow: self.follow.clone(),
            next: None,
        }
    }
}

/// Follows the changes.
pub struct Watcher {
    ring: Arc<Ring>,
    follow: watch::Receiver<u64>,
    /// The number of the next one to see; none before the first resync.
    next: Option<u64>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// The next thing to see. Cancel-safe.
    pub async fn next(&mut self) -> Watched {
        loop {
            if let Some(seen) = self.look() {
                return seen;
            }
            if self.follow.changed().await.is_err() {
                // What came before the end is still to be seen.
                return self.look().unwrap_or(Watched::Closed);
            }
        }
    }

    /// The next thing to see, if there is one by now.
    pub fn look(&mut self) -> Option<Watched> {
        let kept = self.ring.kept();
        let end = kept.first + kept.changes.len() as u64;
        match self.next {
            Some(next) if next >= kept.first => {
                let at = usize::try_from(next - kept.first).ok()?;
                let (revision, events) = kept.changes.get(at)?.clone();
                self.next = Some(next + 1);
                Some(Watched::Changes { revision, events })
            }
            // At its beginning, or behind.
            _ => {
                self.next = Some(end);
                Some(Watched::Resync)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> Event {
        Event::Cluster(None, None)
    }

    fn now(watcher: &mut Watcher) -> Option<Watched> {
        watcher.look()
    }

    #[tokio::test]
    async fn it_begins_with_a_resync_and_ends_with_closed() {
        let ring = Arc::new(Ring::new());
        ring.push(1, vec![event()]);
        let mut watcher = ring.watch();
        ring.push(2, vec![event()]);
        assert!(matches!(watcher.next().await, Watched::Resync));
        ring.push(3, vec![event()]);
        ring.push(4, vec![]);
        ring.close();
        assert!(matches!(
            watcher.next().await,
            Watched::Changes { revision: 3, .. }
        ));
        for _ in 0..2 {
            assert!(matches!(watcher.next().await, Watched::Closed));
        }
        let mut late = ring.watch();
        assert!(matches!(late.next().await, Watched::Resync));
        assert!(matches!(late.next().await, Watched::Closed));
    }

    #[tokio::test]
    async fn who_follows_the_cluster_alone_sleeps_through_the_rest() {
        let ring = Arc::new(Ring::new());
        let mut cluster = ring.cluster();
        cluster.changed().await.expect("at the beginning");
        ring.push(1, vec![Event::Stack("shop".into(), None, None)]);
        assert!(!cluster.has_changed().expect("open"));
        ring.push(2, vec![event()]);
        cluster.changed().await.expect("the cluster");
        ring.restart();
        cluster.changed().await.expect("perhaps the cluster");
        ring.close();
        assert!(cluster.changed().await.is_err());
    }

    #[tokio::test]
    async fn one_that_waits_is_woken() {
        let ring = Arc::new(Ring::new());
        let mut watcher = ring.watch();
        assert!(matches!(watcher.next().await, Watched::Resync));
        let waiting = tokio::spawn(async move { watcher.next().await });
        tokio::task::yield_now().await;
        ring.push(7, vec![event()]);
        assert!(matches!(
            waiting.await.unwrap(),
            Watched::Changes { revision: 7, .. }
        ));
    }

    #[test]
    fn one_that_is_behind_is_told_once() {
        let ring = Arc::new(Ring::new());
        let mut watcher = ring.watch();
        assert!(matches!(now(&mut watcher), Some(Watched::Resync)));
        for revision in 1..=KEPT as u64 + 1 {
            ring.push(revision, vec![event()]);
        }
        assert!(matches!(now(&mut watcher), Some(Watched::Resync)));
        assert!(now(&mut watcher).is_none());
        ring.push(5_000, vec![event(); EVENTS_KEPT + 1]);
        assert_eq!(ring.kept().changes.len(), 1, "the events are bounded, too");
        assert!(matches!(
            now(&mut watcher),
            Some(Watched::Changes {
                revision: 5_000,
                ..
            })
        ));
        ring.restart();
        assert!(matches!(now(&mut watcher), Some(Watched::Resync)));
        assert!(now(&mut watcher).is_none());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Restart,
        Look(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..1500usize).prop_map(Step::Push),
            1 => Just(Step::Restart),
            6 => (1..1500usize).prop_map(Step::Look),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_seen_has_no_gap_and_no_repeat(steps in proptest::collection::vec(step(), 1..30)) {
            let ring = Arc::new(Ring::new());
            let mut watcher = ring.watch();
            let (mut revision, mut seen) = (0, None);
            for step in steps {
                match step {
                    Step::Push(count) => {
                        for _ in 0..count {
                            revision += 1;
                            ring.push(revision, vec![event()]);
                        }
                    }
                    Step::Restart => ring.restart(),
                    Step::Look(count) => {
                        for _ in 0..count {
                            match now(&mut watcher) {
                                // As a reader would: the state is at this revision.
                                Some(Watched::Resync) => seen = Some(revision),
                                Some(Watched::Changes { revision, .. }) => {
                                    prop_assert_eq!(Some(revision - 1), seen);
                                    seen = Some(revision);
                                }
                                _ => break,
                            }
                        }
                    }
                }
            }
            while let Some(next) = now(&mut watcher) {
                seen = Some(match next {
                    Watched::Changes { revision, .. } => revision,
                    _ => revision,
                });
            }
            prop_assert_eq!(seen, Some(revision));
        }
    }
}
