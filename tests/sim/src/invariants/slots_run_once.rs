//! A slot of a service runs once. The one exception is what the product says it is: a task whose node was declared
//! down, or was removed, may still run where nobody hears of it, beside its successor, until the node comes back; and so
//! may one that its node has started again without managers, if those may have heard of its end and the node not of that.

use super::Invariant;
use crate::sight::Sight;
use api::model::{NodeId, NodeState, ServiceId, TaskId};
use api::state::Event;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
struct Running {
    node: NodeId,
    slot: (ServiceId, u32),
}

#[derive(Debug, Default)]
pub struct State {
    running: BTreeMap<TaskId, Running>,
    by_slot: BTreeMap<(ServiceId, u32), BTreeSet<TaskId>>,
    /// Tasks whose node was given up while they had not ended.
    given_up: BTreeSet<TaskId>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "slots run once"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, first: bool) -> Result<(), String> {
        match sight {
            Sight::Runs {
                node,
                task,
                service,
                slot,
                ..
            } => {
                let slot = (*service, *slot);
                let beside = self.by_slot.entry(slot).or_default();
                let other = beside
                    .iter()
                    .find(|other| **other != *task && !self.given_up.contains(other));
                if let Some(other) = other
                    && !self.given_up.contains(task)
                {
                    let where_else = self.running.get(other).map(|running| running.node);
                    return Err(format!(
                        "slot {} of service {} runs as task {task} on node {node} and as task {other} on node {where_else:?}, which was not given up",
                        slot.1, slot.0
                    ));
                }
                beside.insert(*task);
                self.running.insert(*task, Running { node: *node, slot });
            }
            Sight::Again {
                node, task, told, ..
            } => {
                if *told {
                    return Err(format!(
                        "node {node} starts task {task} again, though the managers know that it has ended"
                    ));
                }
                self.given_up.insert(*task);
            }
            Sight::Ends { task } => {
                // It may begin again, and is looked at anew then.
                self.given_up.remove(task);
                if let Some(running) = self.running.remove(task)
                    && let Some(beside) = self.by_slot.get_mut(&running.slot)
                {
                    beside.remove(task);
                }
            }
            Sight::Applied {
                outcome: Ok(events),
                state,
                ..
            } if first => {
                for event in events {
                    let Event::Node(id, _, new) = event else {
                        continue;
                    };
                    let lost = new
                        .as_ref()
                        .is_none_or(|node| node.status.state == NodeState::Down);
                    if lost {
                        // One that was removed has its tasks orphaned by now: they may run all the same.
                        self.given_up
                            .extend(state.tasks_of_node(*id).map(|task| task.id));
                        let here = self.running.iter().filter(|(_, r)| r.node == *id);
                        self.given_up.extend(here.map(|(task, _)| *task));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
