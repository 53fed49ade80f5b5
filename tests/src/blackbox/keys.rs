//! Which registers are in use. Each is for so many calls only: the search for an order grows with them, above all with
//! those whose outcome nobody knows.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{
    dice::Dice,
    history::{Answer, Value},
    plan::NODES,
};

/// Registers in use at once.
const IN_USE: usize = 10;
/// Calls on one, and those of unknown outcome among them.
const CALLS: usize = 60;
const UNKNOWN: usize = 6;

/// What a register is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A label of a node: set, removed, read.
    Label,
    /// A config: created, removed, read.
    Config,
}

/// A register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The label's, or the config's.
    pub name: String,
    /// Which of the two.
    pub kind: Kind,
    /// Whose label, from 1.
    pub node: usize,
}

#[derive(Debug)]
struct Used {
    key: Key,
    calls: usize,
    unknown: usize,
}

/// All registers of a run.
#[derive(Debug)]
pub struct Keys {
    used: Mutex<Vec<Used>>,
    values: AtomicU64,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            used: Mutex::default(),
            values: AtomicU64::new(1),
        }
    }
}

impl Keys {
    fn lock(&self) -> MutexGuard<'_, Vec<Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for a call that begins now.
    pub fn draw(&self, dice: &mut Dice) -> Key {
        let mut all = self.lock();
        let fresh = |used: &Used| used.calls < CALLS && used.unknown < UNKNOWN;
        let mut usable: Vec<usize> = (0..all.len()).rev().filter(|n| fresh(&all[*n])).collect();
        usable.truncate(IN_USE);
        while usable.len() < IN_USE {
            let number = all.len();
            let (kind, what) = match number % 2 {
                0 => (Kind::Label, "label"),
                _ => (Kind::Config, "config"),
            };
            let key = Key {
                name: format!("blackbox-{what}-{number}"),
                kind,
                node: 1 + number / 2 % NODES,
            };
            usable.push(number);
            all.push(Used {
                key,
                calls: 0,
                unknown: 0,
            });
        }
        let used = &mut all[usable[dice.below(usable.len())]];
        used.calls += 1;
        used.key.clone()
    }

    /// How a call on one has ended.
    pub fn ended(&self, key: &Key, answer: &Answer) {
        if matches!(answer, Answer::Unknown(_))
            && let Some(used) = self.lock().iter_mut().find(|used| used.key == *key)
        {
            used.unknown += 1;
        }
    }

    /// A value that no other call has.
    pub fn value(&self) -> Value {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    /// All that were ever drawn.
    #[must_use]
    pub fn all(&self) -> Vec<Key> {
        self.lock().iter().map(|used| used.key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_register_is_given_up_after_so_many_calls() {
        let (keys, mut dice) = (Keys::default(), Dice::new(1, 1));
        let mut calls: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..2_000 {
            let key = keys.draw(&mut dice);
            *calls.entry(key.name.clone()).or_default() += 1;
            if number % 10 == 0 {
                keys.ended(&key, &Answer::Unknown(String::new()));
            }
        }
        assert!(calls.values().all(|calls| *calls <= CALLS), "{calls:?}");
        assert!(calls.len() > 2_000 / CALLS && calls.len() == keys.all().len().min(calls.len()));
        assert!(
            keys.all()
                .iter()
                .any(|key| key.kind == Kind::Config && key.node > 1)
        );
    }
}
