//! A write that a user was told of is part of the log for good: no manager ever has another entry in its place, no
//! leader of a later term is without it (one that was elected for an earlier term and learns of it late may be), and every read that was asked for later sees it.

use super::Invariant;
use crate::sight::Sight;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct State {
    /// Entries that some manager has applied: ids by index.
    applied: BTreeMap<u64, u64>,
    /// Entries that a user was told of: ids, and in which term that was, by index.
    acknowledged: BTreeMap<u64, (u64, u64)>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "acknowledged writes survive"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        match sight {
            Sight::Applied { host, entry, .. } => {
                let there = *self.applied.entry(entry.index).or_insert(entry.id);
                if there != entry.id {
                    return Err(format!(
                        "manager {host} has applied another entry {} than was applied before",
                        entry.index
                    ));
                }
                if self
                    .acknowledged
                    .get(&entry.index)
                    .is_some_and(|(id, _)| *id != entry.id)
                {
                    return Err(format!(
                        "manager {host} has applied another entry {} than was acknowledged",
                        entry.index
                    ));
                }
            }
            Sight::Acknowledged { index, id, term } => {
                self.acknowledged.insert(*index, (*id, *term));
            }
            Sight::Leads { host, term, log } => {
                let lost = self.acknowledged.iter().rev().find(|(index, (id, told))| {
                    told < term
                        && **index > log.base()
                        && log.get(**index).is_none_or(|entry| entry.id != *id)
                });
                if let Some((index, _)) = lost {
                    return Err(format!(
                        "manager {host} leads term {term} without entry {index}, which was acknowledged"
                    ));
                }
            }
            Sight::Read { after, saw } if saw < after => {
                return Err(format!(
                    "a read sees revision {saw}, though {after} was acknowledged before it was asked"
                ));
            }
            _ => {}
        }
        Ok(())
    }
}
