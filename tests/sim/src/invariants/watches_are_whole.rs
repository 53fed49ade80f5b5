//! Who follows a manager's changes sees each once, in order and without gaps, or is told to read anew.

use super::Invariant;
use crate::sight::Sight;
use raft_store::Watched;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct State {
    /// Revisions at which something has changed.
    changes: BTreeSet<u64>,
    /// What each manager's follower has seen.
    seen: BTreeMap<usize, u64>,
    applied: BTreeMap<usize, u64>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "watches are whole"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        match sight {
            Sight::Started { host, applied } => {
                self.seen.insert(*host, *applied);
            }
            Sight::Applied {
                host,
                entry,
                outcome,
                ..
            } => {
                self.applied.insert(*host, entry.index);
                if outcome.as_ref().is_ok_and(|events| !events.is_empty()) {
                    self.changes.insert(entry.index);
                }
            }
            Sight::Watched {
                host,
                watched: Watched::Resync,
                revision,
            } => {
                self.seen.insert(*host, *revision);
            }
            Sight::Watched {
                host,
                watched: Watched::Changes { revision, .. },
                ..
            } => {
                let seen = self.seen.get(host).copied().unwrap_or(0);
                // Up to what was read anew it may come once more.
                if *revision <= seen && self.applied.get(host) != Some(&seen) {
                    return Err(format!(
                        "who follows manager {host} sees {revision} after {seen}"
                    ));
                }
                self.whole(*host, seen, *revision)?;
                self.seen.insert(*host, seen.max(*revision));
            }
            // All that there was to see has been seen.
            Sight::Logged { host, .. } => {
                let (seen, applied) = (self.seen.get(host), self.applied.get(host));
                let seen = seen.copied().unwrap_or(0);
                self.whole(*host, seen, applied.map_or(0, |applied| applied + 1))?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    fn whole(&self, host: usize, seen: u64, next: u64) -> Result<(), String> {
        if next <= seen + 1 {
            return Ok(());
        }
        match self.changes.range(seen + 1..next).next() {
            Some(skipped) => Err(format!(
                "who follows manager {host} has seen {seen} and never sees {skipped}"
            )),
            None => Ok(()),
        }
    }
}
