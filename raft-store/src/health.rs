//! How a manager's store does: how long its disk takes, how far it is, when it last made a snapshot.

use crate::handle::Handle;
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Over how long the disk's times are told.
const WINDOW: Duration = Duration::from_secs(60);
/// Most of them that are kept; of a busy minute it is the newest.
const KEPT: usize = 4_096;

/// How long the last syncs took. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct SyncTimes(Arc<Mutex<VecDeque<(Instant, Duration)>>>);

impl SyncTimes {
    /// Measures one.
    pub fn measure<T>(&self, sync: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = sync();
        self.note(began, Instant::now());
        done
    }

    fn note(&self, began: Instant, ended: Instant) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == KEPT {
            times.pop_front();
        }
        times.push_back((ended, ended.saturating_duration_since(began)));
    }

    fn summary(&self, now: Instant) -> SyncSummary {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while times
            .pop_front_if(|(at, _)| now.saturating_duration_since(*at) > WINDOW)
            .is_some()
        {}
        let mut took: Vec<Duration> = times.iter().map(|(_, took)| *took).collect();
        drop(times);
        took.sort_unstable();
        let us = |per_cent: usize| {
            let at = took.len().saturating_sub(1) * per_cent / 100;
            let took = took.get(at).copied().unwrap_or_default();
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
        };
        SyncSummary {
            count: took.len() as u64,
            p50_us: us(50),
            p99_us: us(99),
            max_us: us(100),
        }
    }
}

/// How long the syncs of the last minute took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncSummary {
    /// How many there were, up to some thousands.
    pub count: u64,
    /// Half of them took no longer, microseconds.
    pub p50_us: u64,
    /// All but one in a hundred took no longer, microseconds.
    pub p99_us: u64,
    /// The longest, microseconds.
    pub max_us: u64,
}

/// How a store does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Log index of the last entry that is applied.
    pub applied: u64,
    /// Log index up to which the last snapshot goes.
    pub snapshot: Option<u64>,
    /// When that was written, milliseconds since the epoch.
    pub snapshot_at_ms: Option<i64>,
    /// The disk.
    pub sync: SyncSummary,
}

impl Handle {
    /// How this manager's store does.
    #[must_use]
    pub fn health(&self) -> Health {
        let (applied, snapshot) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            (
                now.last_applied.map_or(0, |log| log.index),
                now.snapshot.map(|log| log.index),
            )
        };
        Health {
            applied,
            snapshot,
            snapshot_at_ms: snapshot.and_then(|_| newest_ms(&self.snapshots())),
            sync: self.sync_times().summary(Instant::now()),
        }
    }
}

/// When the newest file of a folder was written.
fn newest_ms(dir: &Path) -> Option<i64> {
    let files = std::fs::read_dir(dir).ok()?;
    let newest = files
        .filter_map(|file| file.ok()?.metadata().ok()?.modified().ok())
        .max()?;
    let since = newest.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_summed_up_and_what_is_kept_is_bounded() {
        let (times, start) = (SyncTimes::default(), Instant::now());
        assert_eq!(times.summary(start), SyncSummary::default());
        for ms in 1..=100u64 {
            times.note(start, start + Duration::from_millis(ms));
        }
        let now = start + Duration::from_secs(1);
        let summary = times.summary(now);
        assert_eq!(summary.count, 100);
        assert_eq!(
            (summary.p50_us, summary.p99_us, summary.max_us),
            (50_000, 99_000, 100_000)
        );
        assert_eq!(times.summary(now + 2 * WINDOW), SyncSummary::default());
        for _ in 0..2 * KEPT {
            times.note(now, now);
        }
        assert_eq!(times.summary(now).count, KEPT as u64);
    }
}
