//! Whether a history of one register is linearizable: whether each call can be given a moment between its beginning
//! and its end, so that all answers are those of a register on which the calls happened one after another.
//!
//! Registers are judged apart, since a history is linearizable if that of each object is. The search is Wing's and
//! Gong's, with Lowe's memory of what was tried. Calls of unknown outcome may happen at any time after they began, or
//! never. stateright's tester was the first choice: it tries every order anew, and a client of which a call was never
//! answered can make no other; it also brings a web server with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::history::{Answer, Ask, Entry, Value};

/// Calls on one register that can be judged.
pub const CALLS_MAX: usize = 128;

/// A history that no register has.
#[derive(Debug)]
pub struct Refuted {
    /// Which one.
    pub key: String,
    /// Calls that can be explained, and no more: the furthest that was reached.
    explained: Vec<Entry>,
    /// The others.
    left: Vec<Entry>,
    holds: Option<Value>,
}

impl fmt::Display for Refuted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "no order of its calls explains the answers of {}. After these, in this order,",
            self.key
        )?;
        for entry in &self.explained {
            writeln!(f, "    {}", line(entry))?;
        }
        writeln!(
            f,
            "  it holds {:?}, and none of these can be next:",
            self.holds
        )?;
        for entry in &self.left {
            writeln!(f, "    {}", line(entry))?;
        }
        Ok(())
    }
}

impl std::error::Error for Refuted {}

/// A call as a line: from when to when, by whom, what.
fn line(entry: &Entry) -> String {
    let ms = |ns: u64| ns / 1_000_000;
    format!(
        "{:>7}..{:<7} ms  client {:<3} node{}  {:?} -> {:?}",
        ms(entry.asked_ns),
        ms(entry.answered_ns),
        entry.client,
        entry.through,
        entry.ask,
        entry.answer
    )
}

/// A call as the search sees it.
struct Call<'a> {
    entry: &'a Entry,
    /// It has happened by then; none: perhaps never.
    until: Option<u64>,
}

impl Call<'_> {
    /// What the register holds after it; none where it can't have happened then.
    fn after(&self, holds: Option<Value>) -> Option<Option<Value>> {
        let fits = |fits: bool, then| fits.then_some(then);
        match (self.entry.ask, &self.entry.answer) {
            (Ask::Set(value), Answer::Done | Answer::Unknown(_)) => Some(Some(value)),
            (Ask::Create(value), Answer::Done | Answer::Unknown(_)) => {
                fits(holds.is_none(), Some(value))
            }
            (Ask::Create(_), Answer::Exists) => fits(holds.is_some(), holds),
            (Ask::Remove, Answer::Done | Answer::Unknown(_)) => fits(holds.is_some(), None),
            (Ask::Remove, Answer::Absent) => fits(holds.is_none(), None),
            (Ask::Read, Answer::Holds(value)) => fits(holds == *value, holds),
            _ => None,
        }
    }

    /// It changes nothing, so that there is no reason to put it off.
    fn only_looks(&self) -> bool {
        matches!(
            self.entry.answer,
            Answer::Exists | Answer::Absent | Answer::Holds(_)
        )
    }
}

/// Judges all registers of a history.
///
/// # Errors
/// The first one that is not what a register does.
pub fn linearizable(entries: &[Entry]) -> Result<(), Box<Refuted>> {
    let mut keys: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        keys.entry(&entry.key).or_default().push(entry);
    }
    keys.into_iter()
        .try_for_each(|(key, entries)| register(key, &entries))
}

/// The calls that matter, with the time by which each has happened.
fn calls<'a>(entries: &[&'a Entry]) -> Vec<Call<'a>> {
    // Whoever sees a value knows that it was written by then, whatever its writer was told.
    let mut seen: BTreeMap<Value, u64> = BTreeMap::new();
    for entry in entries {
        if let Answer::Holds(Some(value)) = entry.answer {
            let first = seen.entry(value).or_insert(entry.answered_ns);
            *first = entry.answered_ns.min(*first);
        }
    }
    let mut calls: Vec<Call<'a>> = entries
        .iter()
        .filter_map(|entry| {
            let until = match (entry.ask, &entry.answer) {
                (_, Answer::Refused(_)) | (Ask::StaleRead, _) => return None,
                (Ask::Read, Answer::Unknown(_)) => return None,
                (Ask::Set(value) | Ask::Create(value), Answer::Unknown(_)) => {
                    seen.get(&value).copied()
                }
                (_, Answer::Unknown(_)) => None,
                _ => Some(entry.answered_ns),
            };
            Some(Call { entry, until })
        })
        .collect();
    calls.sort_by_key(|call| call.entry.asked_ns);
    calls
}

struct Search<'a> {
    calls: &'a [Call<'a>],
    /// What was tried: which calls had happened, and what the register held.
    tried: BTreeSet<(u128, Option<Value>)>,
    /// The calls in the order that has led furthest, and what the register held then.
    best: (Vec<usize>, Option<Value>),
    order: Vec<usize>,
}

impl Search<'_> {
    /// Whether the calls that have not happened yet can, one after another.
    fn finish(&mut self, happened: u128, holds: Option<Value>) -> bool {
        let is_left = |index: usize| happened & (1 << index) == 0;
        // Whatever has ended has happened; so none begins before another that comes after its end.
        let Some(first_end) = self
            .calls
            .iter()
            .enumerate()
            .filter(|(index, _)| is_left(*index))
            .filter_map(|(_, call)| call.until)
            .min()
        else {
            return true;
        };
        if !self.tried.insert((happened, holds)) {
            return false;
        }
        if self.order.len() >= self.best.0.len() {
            self.best = (self.order.clone(), holds);
        }
        let mut next: Vec<(usize, Option<Value>)> = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            if call.entry.asked_ns > first_end {
                break;
            }
            if is_left(index)
                && let Some(then) = call.after(holds)
            {
                if call.only_looks() {
                    next = vec![(index, then)];
                    break;
                }
                next.push((index, then));
            }
        }
        next.into_iter().any(|(index, then)| {
            self.order.push(index);
            let done = self.finish(happened | 1 << index, then);
            self.order.pop();
            done
        })
    }
}

fn register(key: &str, entries: &[&Entry]) -> Result<(), Box<Refuted>> {
    let calls = calls(entries);
    assert!(
        calls.len() <= CALLS_MAX,
        "{key} has {} calls, and no more than {CALLS_MAX} can be judged",
        calls.len()
    );
    let mut search = Search {
        calls: &calls,
        tried: BTreeSet::new(),
        best: (Vec::new(), None),
        order: Vec::new(),
    };
    if search.finish(0, None) {
        return Ok(());
    }
    let (order, holds) = search.best;
    let of = |index: &usize| calls[*index].entry.clone();
    let left = (0..calls.len()).filter(|index| !order.contains(index));
    Err(Box::new(Refuted {
        key: key.to_owned(),
        explained: order.iter().map(of).collect(),
        left: left.map(|index| of(&index)).collect(),
        holds,
    }))
}

/// Reads that may be stale: what they saw was written before they ended, and was not refused.
///
/// # Errors
/// The first one that saw something else.
pub fn stale_reads(entries: &[Entry]) -> Result<(), String> {
    let mut written: BTreeMap<(&str, Value), &Entry> = BTreeMap::new();
    for entry in entries {
        if let Ask::Set(value) | Ask::Create(value) = entry.ask {
            written.insert((&entry.key, value), entry);
        }
    }
    for read in entries {
        let (Ask::Read | Ask::StaleRead, Answer::Holds(Some(value))) = (read.ask, &read.answer)
        else {
            continue;
        };
        let wrong = |why: &str| Err(format!("{}: {why}\n    {}", read.key, line(read)));
        match written.get(&(read.key.as_str(), *value)) {
            None => return wrong("a value that nobody has written was read"),
            Some(write) if write.asked_ns > read.answered_ns => {
                return wrong("a value was read before anybody asked for it");
            }
            Some(Entry {
                answer: Answer::Refused(_) | Answer::Exists,
                ..
            }) => return wrong("a value was read whose write was refused"),
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
