//! The newest entries, as they were appended: followers and the state machine read them from here a moment later,
//! and need neither sled nor the key for it.

use crate::types::Entry;
use openraft::entry::RaftEntry;
use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of entries kept.
const BYTES: usize = 1 << 20;

/// Entries without a gap, the last one appended at the end. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Recent(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// With their sizes.
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Inner {
    /// The indexes kept: the first, and the one after the last.
    fn span(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.entries.front()?, self.entries.back()?);
        Some((first.0.log_id().index, last.0.log_id().index + 1))
    }

    fn pop_front(&mut self) {
        let size = self.entries.pop_front().map_or(0, |(_, size)| size);
        self.bytes -= size;
    }

    fn pop_back(&mut self) {
        let size = self.entries.pop_back().map_or(0, |(_, size)| size);
        self.bytes -= size;
    }
}

/// The first index of a range, and the one after its last.
pub(super) fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (from, end)
}

impl Recent {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry was appended that is so large.
    pub fn push(&self, entry: Entry, size: usize) {
        let mut inner = self.inner();
        if inner
            .span()
            .is_some_and(|(_, next)| next != entry.log_id().index)
        {
            *inner = Inner::default();
        }
        inner.entries.push_back((entry, size));
        inner.bytes += size;
        while inner.bytes > BYTES {
            inner.pop_front();
        }
    }

    /// The log ends before this one now.
    pub fn cut_back(&self, from: u64) {
        let mut inner = self.inner();
        while inner.span().is_some_and(|(_, next)| next > from) {
            inner.pop_back();
        }
    }

    /// The log begins after this one now.
    pub fn cut_front(&self, upto: u64) {
        let mut inner = self.inner();
        while inner.span().is_some_and(|(first, _)| first <= upto) {
            inner.pop_front();
        }
    }

    /// The entries of a range, at least one, until there are so many bytes of them; none if not all of it is here.
    pub fn get(&self, range: &impl RangeBounds<u64>, bytes_max: usize) -> Option<Vec<Entry>> {
        let (from, end) = bounds(range);
        let inner = self.inner();
        let (first, next) = inner.span()?;
        if from < first || end > next || from >= end {
            return None;
        }
        let skipped = usize::try_from(from - first).ok()?;
        let wanted = usize::try_from(end - from).ok()?;
        let mut total = 0;
        let fitting = inner
            .entries
            .iter()
            .skip(skipped)
            .take(wanted)
            .take_while(|(_, size)| {
                let is_room_left = total < bytes_max;
                total += size;
                is_room_left
            });
        Some(fitting.map(|(entry, _)| entry.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogId, Proposal, TypeConfig};
    use openraft::EntryPayload;
    use openraft::type_config::alias::LeaderIdOf;
    use openraft::vote::RaftLeaderIdExt;

    fn entry(index: u64) -> Entry {
        let leader = LeaderIdOf::<TypeConfig>::new_committed(1, 7);
        let body = Proposal(index.to_be_bytes().to_vec().into());
        Entry::new(LogId::new(leader, index), EntryPayload::Normal(body))
    }

    fn filled(indexes: impl IntoIterator<Item = u64>, size: usize) -> Recent {
        let recent = Recent::default();
        for index in indexes {
            recent.push(entry(index), size);
        }
        recent
    }

    fn found(recent: &Recent, range: impl RangeBounds<u64>) -> Option<Vec<u64>> {
        let entries = recent.get(&range, usize::MAX)?;
        for got in &entries {
            assert_eq!(*got, entry(got.log_id().index));
        }
        Some(entries.iter().map(|e| e.log_id().index).collect())
    }

    #[test]
    fn a_range_is_told_whole_or_not_at_all() {
        let recent = filled(5..10, 8);
        assert_eq!(found(&recent, 5..10), Some((5..10).collect()));
        assert_eq!(found(&recent, 6..=7), Some(vec![6, 7]));
        assert_eq!(found(&recent, 4..6), None);
        assert_eq!(found(&recent, 9..11), None);
        assert_eq!(found(&recent, 7..), None, "there may be more");
        assert_eq!(found(&recent, 7..7), None);
        assert_eq!(found(&Recent::default(), 0..1), None);
    }

    #[test]
    fn so_many_bytes_and_at_least_one() {
        let recent = filled(1..5, 100);
        let count = |bytes_max| recent.get(&(1..5), bytes_max).unwrap().len();
        assert_eq!([count(1), count(100), count(101), count(400)], [1, 1, 2, 4]);
    }

    #[test]
    fn what_the_log_loses_is_lost_here_too() {
        let recent = filled(1..=9, 8);
        recent.cut_back(8);
        recent.cut_front(2);
        assert_eq!(found(&recent, 3..8), Some((3..8).collect()));
        assert_eq!(found(&recent, 3..9), None);
        assert_eq!(found(&recent, 2..8), None);
        recent.push(entry(8), 8);
        assert_eq!(found(&recent, 3..9), Some((3..9).collect()));
        // After a snapshot from the leader the log goes on further ahead.
        recent.push(entry(20), 8);
        assert_eq!(found(&recent, 3..9), None);
        assert_eq!(found(&recent, 20..21), Some(vec![20]));
        recent.cut_back(0);
        assert_eq!(found(&recent, 20..21), None);
        assert_eq!(recent.inner().bytes, 0);
    }

    #[test]
    fn the_bytes_are_bounded() {
        let recent = filled(1..=9, BYTES / 4);
        assert_eq!(found(&recent, 6..=9), Some(vec![6, 7, 8, 9]));
        assert_eq!(found(&recent, 5..=9), None);
        recent.push(entry(10), BYTES + 1);
        assert_eq!(found(&recent, 10..=10), None);
        assert_eq!(recent.inner().bytes, 0);
    }
}
