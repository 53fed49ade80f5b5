//! How entries are read: put together from their parts, and none left out that the log has.

use super::*;

impl Log {
    /// The entries of a range, at least one, until there are so many bytes of them.
    pub(super) fn read(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: usize,
    ) -> io::Result<Vec<Entry>> {
        self.read_counted(range, bytes_max)
            .map(|(entries, _)| entries)
    }

    /// As [`Log::read`], and how many bytes they are.
    pub(super) fn read_counted(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: usize,
    ) -> io::Result<(Vec<Entry>, usize)> {
        let (first, end) = bounds(&range);
        loop {
            // What is purged may be there still, or in part.
            let begins = first.max(self.begins.load(Ordering::Acquire));
            if begins >= end {
                return Ok((Vec::new(), 0));
            }
            let read = self.read_there(begins, end, bytes_max);
            if self.begins.load(Ordering::Acquire) <= begins {
                return read;
            }
        }
    }

    fn read_there(
        &self,
        first: u64,
        end: u64,
        bytes_max: usize,
    ) -> io::Result<(Vec<Entry>, usize)> {
        let mut entries = Vec::new();
        // The one that is being put together.
        let mut open: Option<(u64, u32, Vec<u8>)> = None;
        let mut total = 0;
        for pair in self.entries.range(key(first, 0)..key(end, 0)) {
            let (key, value) = pair.map_err(sled_failed)?;
            let (index, part) = self.position(&key)?;
            let take_off = |bytes: &mut Vec<u8>| {
                let what = || format!("part {part} of {}", self.what(index));
                self.cover.take_off(bytes, what, &place(&key), &value)
            };
            match &mut open {
                Some((current, next, bytes)) if *current == index && *next == part => {
                    take_off(bytes)?;
                    *next += 1;
                }
                _ if part == 0 => {
                    if let Some((done, _, bytes)) = open.take() {
                        entries.push(codec::decode_entry(&self.what(done), done, bytes)?);
                        if total >= bytes_max {
                            return Ok((entries, total));
                        }
                    }
                    let mut bytes = Vec::with_capacity(value.len());
                    take_off(&mut bytes)?;
                    open = Some((index, 1, bytes));
                }
                _ => {
                    return Err(codec::damaged(
                        &self.what(index),
                        format!("part {part} follows on none"),
                    ));
                }
            }
            total += value.len();
        }
        if let Some((done, _, bytes)) = open {
            entries.push(codec::decode_entry(&self.what(done), done, bytes)?);
        }
        Ok((entries, total))
    }

    /// As [`Log::read`], without sled where it can be; of what the log has in that range, nothing is left out.
    pub(super) fn newest_or_read(
        &self,
        range: impl RangeBounds<u64> + Clone,
        bytes_max: usize,
    ) -> io::Result<Vec<Entry>> {
        match self.recent.get(&range, bytes_max) {
            Some(entries) => Ok(entries),
            None => self.read_whole(range, bytes_max),
        }
    }

    /// As [`Log::read`], and an error where an entry that the log has is not found: openraft takes what is missing at
    /// either end for what was never there, and goes on without it. The entries of a damaged tree were all there when
    /// it was opened, and one was not found a moment later.
    fn read_whole(
        &self,
        range: impl RangeBounds<u64> + Clone,
        bytes_max: usize,
    ) -> io::Result<Vec<Entry>> {
        let index = |reached: &Reached| reached.last.map(|(_, index)| index);
        let cuts = self.cuts.load(Ordering::Acquire);
        let before = index(&self.reached());
        let entries = self.unpanicked(|| self.read(range.clone(), bytes_max))?;
        // What is cut off at either end meanwhile is not missed.
        let last = before.min(index(&self.reached()));
        if cuts % 2 == 1 || self.cuts.load(Ordering::Acquire) != cuts {
            // Of a log whose end is cut off nobody needs all.
            return Ok(entries);
        }
        let begins = self.begins.load(Ordering::Acquire);
        let found = entries.iter().map(|entry| entry.log_id().index);
        let is_all = bytes_max == usize::MAX;
        match missing(bounds(&range), (begins, last), found, is_all) {
            None => Ok(entries),
            Some(index) => {
                let error = codec::damaged(&self.what(index), "it was there, and is not found");
                Err(said_of_damage(error, &self.dir, &self.suspects))
            }
        }
    }
}

/// The first entry of a range that a log has and that was not found. `log` is its first entry and its last; where not all are asked for, the first of them are enough.
fn missing(
    range: (u64, u64),
    log: (u64, Option<u64>),
    found: impl Iterator<Item = u64>,
    is_all: bool,
) -> Option<u64> {
    let first = range.0.max(log.0);
    let end = range.1.min(log.1.map_or(0, |last| last + 1));
    let mut next = first;
    for index in found.filter(|index| *index >= first) {
        if index != next {
            return Some(next);
        }
        next += 1;
    }
    let is_enough = next >= end || (next > first && !is_all);
    (!is_enough).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn what_a_log_has_is_missed_and_nothing_else() {
        let log = (5, Some(9));
        let seen =
            |range, found: &[u64], is_all| missing(range, log, found.iter().copied(), is_all);
        assert_eq!(seen((0, 20), &[5, 6, 7, 8, 9], true), None);
        assert_eq!(seen((5, 8), &[5, 6, 7], true), None);
        assert_eq!(
            seen((0, 20), &[4, 5, 6, 7, 8, 9, 10], true),
            None,
            "in between"
        );
        assert_eq!(seen((0, 5), &[], true), None, "purged");
        assert_eq!(seen((10, 20), &[], true), None, "not there yet");
        assert_eq!(seen((5, 20), &[], true), Some(5));
        assert_eq!(seen((5, 20), &[5, 7, 8, 9], true), Some(6));
        assert_eq!(seen((7, 10), &[8, 9], true), Some(7));
        assert_eq!(seen((5, 10), &[5, 6], true), Some(7));
        assert_eq!(seen((5, 10), &[5, 6], false), None, "no more fitted");
        assert_eq!(seen((5, 10), &[], false), Some(5));
        assert_eq!(missing((0, 9), (0, None), [].into_iter(), true), None);
    }
}
