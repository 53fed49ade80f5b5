//! Cutting the log's front off, aside: the consensus waits for a purge, and what is cut off may be as large as the state.
//!
//! What is purged is noted and not read any more from then on; its entries are removed by a thread of their own, the
//! oldest first and little by little. What it has not removed when the log is closed, or lost, is removed when the log
//! is opened again.

use super::*;
use std::sync::Condvar;
use tokio::sync::Notify;

/// A removal that takes longer than this is waited for by the next purge: so the log does not grow without a bound where
/// more is written all the time than is removed.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Wanted {
    /// Entries up to this one go.
    upto: Option<u64>,
    /// When the thread was last idle and was given work.
    since: Option<Instant>,
    stop: bool,
    /// The first failure is the last word.
    failed: Option<io::Error>,
}

/// What tells the thread. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Purger(Arc<(Mutex<Wanted>, Condvar)>, Arc<Notify>);

/// What ends the thread when nobody has the log any more.
pub(super) struct StopsPurging(Purger);

impl Drop for StopsPurging {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Purger {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has entries up to this one removed. An error is that of an earlier removal.
    pub(super) fn remove(&self, upto: u64) -> io::Result<()> {
        let mut wanted = self.wanted();
        if let Some(error) = wanted.failed.take() {
            return Err(error);
        }
        wanted.upto = wanted.upto.max(Some(upto));
        wanted.since.get_or_insert_with(Instant::now);
        self.0.1.notify_all();
        Ok(())
    }

    /// Returns unless a removal takes too long; then, once it is done.
    async fn in_time(&self) {
        loop {
            let done = self.1.notified();
            let is_late = {
                let wanted = self.wanted();
                let late = |since: Instant| since.elapsed() >= PATIENCE;
                wanted.since.is_some_and(late) && !wanted.stop && wanted.failed.is_none()
            };
            if !is_late {
                return;
            }
            // Told of each end; one that came before this is seen at the next look.
            let _ = tokio::time::timeout(PATIENCE, done).await;
        }
    }

    fn is_done(&self) {
        let mut wanted = self.wanted();
        if wanted.upto.is_none() {
            wanted.since = None;
        }
        self.1.notify_waiters();
    }

    fn stop(&self) {
        self.wanted().stop = true;
        self.0.1.notify_all();
    }

    /// Waits for work; none: it is to end.
    fn next(&self) -> Option<u64> {
        let idle = |wanted: &mut Wanted| wanted.upto.is_none() && !wanted.stop;
        let waited = self.0.1.wait_while(self.wanted(), idle);
        let mut wanted = waited.unwrap_or_else(PoisonError::into_inner);
        if wanted.stop {
            return None;
        }
        wanted.upto.take()
    }
}

impl Log {
    /// Starts the thread, which ends as the flusher is closed.
    pub(super) fn start_purging(&mut self) -> io::Result<()> {
        let log = self.clone();
        self.purges = Some(Arc::new(StopsPurging(self.purger.clone())));
        let thread = std::thread::Builder::new()
            .name("raft-purge".into())
            .spawn(move || log.purge_aside())?;
        let purger = self.purger.clone();
        self.flusher.before_close(move || {
            purger.stop();
            if thread.join().is_err() {
                tracing::error!("the thread that purges the log failed");
            }
        });
        Ok(())
    }

    fn purge_aside(&self) {
        while let Some(upto) = self.purger.next() {
            loop {
                match self.unpanicked(|| self.remove_some(upto)) {
                    Ok(true) if !self.purger.wanted().stop => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::error!(%error, "purged entries of the log can't be removed");
                        self.purger.wanted().failed = Some(error);
                        self.purger.is_done();
                        return;
                    }
                }
            }
            self.purger.is_done();
        }
    }

    /// Removes the oldest of them. Whether there are more.
    fn remove_some(&self, upto: u64) -> io::Result<bool> {
        let (mut piece, mut is_more) = (Piece::default(), false);
        for pair in self.entries.range(..=key(upto, u32::MAX)) {
            let (key, value) = pair.map_err(sled_failed)?;
            if piece.bytes > 0 && piece.bytes + key.len() + value.len() > IN_FLIGHT_ASIDE {
                is_more = true;
                break;
            }
            piece.remove(&key, value.len());
        }
        if piece.bytes > 0 {
            self.entries.apply_batch(piece.batch).map_err(not_written)?;
            self.flusher.wrote(piece.bytes);
            self.flusher.barrier_blocking()?;
        }
        Ok(is_more)
    }

    /// What was purged is purged before this returns, and gone some time later.
    pub(super) async fn cut_front(&self, upto: LogId) -> io::Result<()> {
        // The mark first: a crash in between leaves entries too many, not too few.
        self.put("purged", &upto)?;
        {
            let mut reached = self.reached();
            reached.last = reached.last.max(Some(super::position(&upto)));
        }
        self.begins.fetch_max(upto.index + 1, Ordering::AcqRel);
        self.recent.cut_front(upto.index);
        self.flusher.barrier().await?;
        self.purger.in_time().await;
        self.purger.remove(upto.index)
    }
}
