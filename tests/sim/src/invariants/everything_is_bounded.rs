//! What could only grow does not: the ended tasks of a slot, and a manager's log.

use super::Invariant;
use crate::manager::SNAPSHOT_EVERY;
use crate::raft::KEPT;
use crate::sight::Sight;
use api::model::{ServiceId, Task};
use api::state::Event;
use std::collections::BTreeMap;

/// The evidence that the longest delay before a restart needs is kept, and what a pass that was cut off has left.
const ENDED_MAX: usize = 14;
/// Entries that a manager without a majority may gather, or that come in while a snapshot is made.
const LOG_MAX: u64 = SNAPSHOT_EVERY + KEPT + 200;

#[derive(Debug, Default)]
pub struct State {
    ended: BTreeMap<(ServiceId, u32), usize>,
}

fn ended(task: Option<&Task>) -> Option<(ServiceId, u32)> {
    task.filter(|task| task.status.state.is_ended())
        .map(|task| (task.service, task.slot))
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "everything is bounded"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, first: bool) -> Result<(), String> {
        match sight {
            Sight::Logged { host, entries } if *entries as u64 > LOG_MAX => {
                Err(format!("manager {host} keeps {entries} entries"))
            }
            Sight::Applied {
                outcome: Ok(events),
                ..
            } if first => {
                for event in events {
                    let Event::Task(_, old, new) = event else {
                        continue;
                    };
                    if let Some(slot) = ended(old.as_deref())
                        && let Some(count) = self.ended.get_mut(&slot)
                    {
                        *count = count.saturating_sub(1);
                    }
                    if let Some(slot) = ended(new.as_deref()) {
                        let count = self.ended.entry(slot).or_default();
                        *count += 1;
                        if *count > ENDED_MAX {
                            return Err(format!("slot {} keeps {count} ended tasks", slot.1));
                        }
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
