//! A task's state and what is wanted of it only move forward, an end is the last word, its node never changes, and
//! a task that was removed never comes again.

use super::Invariant;
use crate::sight::Sight;
use api::model::{Task, TaskId};
use api::state::Event;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct State {
    removed: BTreeSet<TaskId>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "tasks move forward"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, first: bool) -> Result<(), String> {
        let Sight::Applied {
            entry,
            outcome: Ok(events),
            ..
        } = sight
        else {
            return Ok(());
        };
        if !first {
            return Ok(());
        }
        for event in events {
            let Event::Task(id, old, new) = event else {
                continue;
            };
            match (old, new) {
                (Some(old), Some(new)) => forward(old, new)
                    .map_err(|what| format!("entry {}: task {id} {what}", entry.index))?,
                (None, Some(_)) if self.removed.contains(id) => {
                    return Err(format!("entry {}: task {id} comes again", entry.index));
                }
                (Some(_), None) => drop(self.removed.insert(*id)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn forward(old: &Task, new: &Task) -> Result<(), String> {
    let (was, is) = (old.status.state, new.status.state);
    if is < was {
        return Err(format!("goes back from {was:?} to {is:?}"));
    }
    if was.is_ended() && old.status != new.status {
        return Err(format!("says more after its end: {:?}", new.status));
    }
    if new.desired < old.desired {
        return Err(format!(
            "is wanted {:?} after {:?}",
            new.desired, old.desired
        ));
    }
    if old.node.is_some() && (old.node != new.node || old.addresses != new.addresses) {
        return Err("moves to another node".into());
    }
    Ok(())
}
