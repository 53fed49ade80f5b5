//! The same entry has the same outcome on every manager, in order and without gaps; a snapshot holds what the
//! entries it stands for have made.

use super::Invariant;
use crate::sight::Sight;
use std::collections::BTreeMap;

/// What an entry came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    events: Option<usize>,
    counts: (usize, usize, usize),
}

#[derive(Debug)]
pub struct State {
    /// By index.
    outcomes: BTreeMap<u64, Outcome>,
    /// What each manager has applied.
    applied: Vec<u64>,
}

impl State {
    pub fn new(managers: usize) -> Self {
        Self {
            outcomes: BTreeMap::new(),
            applied: vec![0; managers],
        }
    }
}

fn counts(state: &api::state::State) -> (usize, usize, usize) {
    (
        state.tasks().len(),
        state.services().len(),
        state.networks().len(),
    )
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "replicas agree"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        match sight {
            Sight::Started { host, applied } => self.applied[*host] = *applied,
            Sight::Installed { host, index, state } => {
                if *index < self.applied[*host] {
                    return Err(format!("manager {host} goes back to snapshot {index}"));
                }
                self.applied[*host] = *index;
                if let Some(outcome) = self.outcomes.get(index)
                    && outcome.counts != counts(state)
                {
                    return Err(format!("the snapshot of {index} on manager {host} differs"));
                }
            }
            Sight::Applied {
                host,
                entry,
                outcome,
                state,
            } => {
                if entry.index != self.applied[*host] + 1 {
                    return Err(format!(
                        "manager {host} applies {} after {}",
                        entry.index, self.applied[*host]
                    ));
                }
                self.applied[*host] = entry.index;
                let outcome = Outcome {
                    events: outcome.as_ref().ok().map(Vec::len),
                    counts: counts(state),
                };
                let before = self.outcomes.entry(entry.index).or_insert(outcome.clone());
                if *before != outcome {
                    return Err(format!(
                        "entry {} comes to {outcome:?} on manager {host}, and came to {before:?}",
                        entry.index
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
