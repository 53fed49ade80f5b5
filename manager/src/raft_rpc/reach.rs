//! Which managers can't be reached, told once for each time: openraft would say it ten times a second.
//!
//! ```text
//! (nothing known) ──failure──► failing ──failures for 2 s──► told: "can't be reached"
//!        ▲                        │                             │
//!        └────────answer──────────┴──────answer: "again"────────┘
//! ```
//!
//! Knows no clock: the time is an argument of all that decides.

use raft_store::Peer;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A manager that answers nothing for this long is told of.
const SILENT: Duration = Duration::from_secs(2);
/// Failures further apart than this are not one silence: in between nobody had anything to say to it.
const APART: Duration = Duration::from_secs(10);
/// Managers kept; there are never so many.
const KEPT: usize = 64;

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum News {
    Lost,
    Back,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    last: Instant,
    told: bool,
}

/// Those that don't answer, by their Raft ids' nodes.
#[derive(Debug, Default)]
struct Book(BTreeMap<u128, Failing>);

impl Book {
    fn failed(&mut self, node: u128, now: Instant) -> Option<News> {
        if !self.0.contains_key(&node) && self.0.len() >= KEPT {
            let oldest = self.0.iter().min_by_key(|(_, failing)| failing.last);
            let oldest = oldest.map(|(node, _)| *node);
            self.0.retain(|node, _| Some(*node) != oldest);
        }
        let failing = self.0.entry(node).or_insert(Failing {
            since: now,
            last: now,
            told: false,
        });
        if now.duration_since(failing.last) > APART {
            failing.since = now;
        }
        failing.last = now;
        if failing.told || now.duration_since(failing.since) < SILENT {
            return None;
        }
        failing.told = true;
        Some(News::Lost)
    }

    fn answered(&mut self, node: u128) -> Option<News> {
        let failing = self.0.remove(&node)?;
        failing.told.then_some(News::Back)
    }
}

/// Shared by all connections of a manager.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach(Arc<Mutex<Book>>);

impl Reach {
    fn book<T>(&self, with: impl FnOnce(&mut Book) -> T) -> T {
        // A panic while it was held leaves a map that is whole.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call to a manager begins. One that is dropped has had no answer: openraft's heartbeats don't wait long.
    pub fn call(&self, peer: &Peer) -> Call {
        Call {
            reach: self.clone(),
            peer: peer.clone(),
            open: true,
        }
    }
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Call {
    reach: Reach,
    peer: Peer,
    open: bool,
}

impl Call {
    /// It was answered, whatever the answer says.
    pub fn answered(mut self) {
        self.open = false;
        let node = self.peer.node_id.0;
        if self.reach.book(|book| book.answered(node)).is_some() {
            tracing::info!("manager {} can be reached again", self.peer);
        }
    }

    /// It could not be made, or had no answer.
    pub fn failed(mut self, why: &str) {
        self.fail(why);
    }

    fn fail(&mut self, why: &str) {
        self.open = false;
        let (node, now) = (self.peer.node_id.0, Instant::now());
        if self.reach.book(|book| book.failed(node, now)).is_some() {
            // The network's own words begin with the address.
            let known = format!("{} can't be reached: ", self.peer.addr);
            let why = why.strip_prefix(&known).unwrap_or(why);
            tracing::warn!("manager {} can't be reached: {why}", self.peer);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.open {
            self.fail("it does not answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_and_its_end_once() {
        let (mut book, start) = (Book::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let told: Vec<u64> = (0..600)
            .map(|n| n * 100)
            .filter(|ms| book.failed(7, at(*ms)).is_some())
            .collect();
        assert_eq!(told, [2_000]);
        assert_eq!(book.answered(7), Some(News::Back));
        assert_eq!(book.answered(7), None);
        // Each silence anew.
        assert_eq!(book.failed(7, at(70_000)), None);
        assert_eq!(book.failed(7, at(72_000)), Some(News::Lost));
    }

    #[test]
    fn a_blip_is_not_told() {
        let (mut book, start) = (Book::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 500, 1_900] {
            assert_eq!(book.failed(7, at(ms)), None);
        }
        assert_eq!(book.answered(7), None);
        assert_eq!(book.failed(7, at(2_100)), None);
    }

    #[test]
    fn two_lost_elections_long_apart_are_no_silence() {
        let (mut book, start) = (Book::default(), Instant::now());
        assert_eq!(book.failed(7, start), None);
        assert_eq!(book.failed(7, start + Duration::from_secs(600)), None);
    }

    #[test]
    fn managers_are_told_apart_and_not_kept_for_ever() {
        let (mut book, start) = (Book::default(), Instant::now());
        for node in 0..1_000 {
            book.failed(node, start);
            let later = start + Duration::from_secs(3);
            assert_eq!(book.failed(node, later), Some(News::Lost));
        }
        assert_eq!(book.0.len(), KEPT);
    }

    #[test]
    fn a_call_that_was_given_up_is_a_failure() {
        let reach = Reach::default();
        let peer = Peer::default();
        drop(reach.call(&peer));
        assert_eq!(reach.book(|book| book.0.len()), 1);
        reach.call(&peer).answered();
        assert_eq!(reach.book(|book| book.0.len()), 0);
        reach.call(&peer).failed("refused");
        assert_eq!(reach.book(|book| book.0.len()), 1);
    }
}
