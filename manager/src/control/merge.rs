//! Several logs into one, in the order of their times: pure.
//!
//! A source without a record at hand holds the others up only for a while after it last gave one; from then
//! on it is taken to be quiet, and what it gives comes as it comes. So a dead or slow source delays, but
//! never stops, the rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// Tell this record.
    Emit(T),
    /// Ask the sources without a record again; tell on at this time, if there is one.
    Wait(Option<Instant>),
    /// Every source has ended.
    End,
}

#[derive(Debug)]
struct Source<T> {
    head: Option<(i64, T)>,
    /// When it last gave something.
    gave: Instant,
    ended: bool,
}

/// The sources and what each has at hand.
#[derive(Debug)]
pub struct Merge<T> {
    sources: BTreeMap<usize, Source<T>>,
    patience: Duration,
}

impl<T> Merge<T> {
    /// Waits `patience` for a source that has nothing at hand.
    pub fn new(patience: Duration) -> Self {
        Self {
            sources: BTreeMap::new(),
            patience,
        }
    }

    /// A new source.
    pub fn add(&mut self, id: usize, now: Instant) {
        self.sources.insert(
            id,
            Source {
                head: None,
                gave: now,
                ended: false,
            },
        );
    }

    /// A source gives a record; it has to have had none at hand.
    pub fn give(&mut self, id: usize, at: i64, record: T, now: Instant) {
        if let Some(source) = self.sources.get_mut(&id) {
            (source.head, source.gave) = (Some((at, record)), now);
        }
    }

    /// A source gives no more.
    pub fn end(&mut self, id: usize) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.ended = true;
        }
        self.sources
            .retain(|_, source| !source.ended || source.head.is_some());
    }

    /// Whether this source is to be asked.
    pub fn wants(&self, id: usize) -> bool {
        self.sources
            .get(&id)
            .is_some_and(|source| source.head.is_none() && !source.ended)
    }

    /// What to do now.
    pub fn step(&mut self, now: Instant) -> Step<T> {
        if self.sources.is_empty() {
            return Step::End;
        }
        let first = self
            .sources
            .iter()
            .filter_map(|(id, source)| source.head.as_ref().map(|(at, _)| (*at, *id)))
            .min();
        let Some((_, first)) = first else {
            return Step::Wait(None);
        };
        let held_until = self
            .sources
            .values()
            .filter(|source| source.head.is_none() && !source.ended)
            .map(|source| source.gave + self.patience)
            .max();
        match held_until {
            Some(until) if until > now => Step::Wait(Some(until)),
            _ => self.take(first, now),
        }
    }

    fn take(&mut self, id: usize, now: Instant) -> Step<T> {
        let Some(source) = self.sources.get_mut(&id) else {
            return Step::Wait(None);
        };
        let Some((_, record)) = source.head.take() else {
            return Step::Wait(None);
        };
        source.gave = now;
        if source.ended {
            self.sources.remove(&id);
        }
        Step::Emit(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[test]
    fn a_quiet_source_holds_up_only_for_a_while() {
        let start = Instant::now();
        let mut merge = Merge::new(PATIENCE);
        merge.add(0, start);
        merge.add(1, start);
        merge.give(0, 10, "a", start);
        assert_eq!(merge.step(start), Step::Wait(Some(start + PATIENCE)));
        assert_eq!(merge.step(start + PATIENCE), Step::Emit("a"));
        // From then on the quiet one is not waited for.
        merge.give(0, 11, "b", start + PATIENCE);
        assert_eq!(merge.step(start + PATIENCE), Step::Emit("b"));
        merge.end(0);
        assert_eq!(merge.step(start + PATIENCE), Step::Wait(None));
        merge.end(1);
        assert_eq!(merge.step(start + PATIENCE), Step::<&str>::End);
    }

    proptest! {
        #[test]
        fn whole_logs_come_out_whole_and_in_order(mut logs in proptest::collection::vec(proptest::collection::vec(0i64..50, 0..12), 1..5)) {
            for log in &mut logs {
                log.sort_unstable();
            }
            let mut expected: Vec<i64> = logs.iter().flatten().copied().collect();
            expected.sort_unstable();
            let now = Instant::now();
            let mut merge = Merge::new(PATIENCE);
            let mut rest: Vec<std::collections::VecDeque<i64>> =
                logs.into_iter().map(Into::into).collect();
            (0..rest.len()).for_each(|id| merge.add(id, now));
            let mut out = Vec::new();
            loop {
                for (id, log) in rest.iter_mut().enumerate() {
                    if merge.wants(id) {
                        match log.pop_front() {
                            Some(at) => merge.give(id, at, at, now),
                            None => merge.end(id),
                        }
                    }
                }
                match merge.step(now) {
                    Step::Emit(record) => out.push(record),
                    Step::Wait(_) => prop_assert!(false, "it waits for a source that gave all it had"),
                    Step::End => break,
                }
            }
            prop_assert_eq!(out, expected);
        }
    }
}
