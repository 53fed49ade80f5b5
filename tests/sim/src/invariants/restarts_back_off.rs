//! What fails again and again is started again at growing distances: a slot gets so many tasks in a while, and no
//! more.

use super::Invariant;
use crate::sight::Sight;
use api::model::ServiceId;
use api::state::Event;
use std::collections::{BTreeMap, VecDeque};

const WINDOW_MS: u64 = 10_000;
/// By themselves some eight; others come from new versions, lost nodes, and leaders whose clocks differ.
const MOST: usize = 20;

#[derive(Debug, Default)]
pub struct State {
    made: BTreeMap<(ServiceId, u32), VecDeque<u64>>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "restarts back off"
    }

    fn see(&mut self, sight: &Sight<'_>, now: u64, first: bool) -> Result<(), String> {
        let Sight::Applied {
            outcome: Ok(events),
            state,
            ..
        } = sight
        else {
            return Ok(());
        };
        if !first {
            return Ok(());
        }
        for event in events {
            let Event::Task(_, None, Some(task)) = event else {
                continue;
            };
            // Who asks for a fixed delay gets it, however short.
            let service = state.services().get(&task.service);
            if service.is_none_or(|s| s.spec.template.restart.delay_ms.is_some()) {
                continue;
            }
            let made = self.made.entry((task.service, task.slot)).or_default();
            made.push_back(now);
            while made.front().is_some_and(|at| at + WINDOW_MS < now) {
                made.pop_front();
            }
            if made.len() > MOST {
                return Err(format!(
                    "{} got {} tasks in {WINDOW_MS} ms",
                    task.name(),
                    made.len()
                ));
            }
        }
        Ok(())
    }
}
