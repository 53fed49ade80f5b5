//! A container of a service that is `exclusive` never runs beside another of its slot, whatever was declared of the node
//! of either: one has ended before the next begins. Unless the service was not exclusive at some time since the later
//! one's task was made: what is decided then may double a slot; and unless one of them is of a version that is not
//! exclusive, and was started again by its node without managers, which may have heard that it had ended.

use super::Invariant;
use crate::sight::Sight;
use api::model::{NodeId, ServiceId, TaskId};
use api::state::Event;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
struct Running {
    node: NodeId,
    slot: (ServiceId, u32),
    exclusive: bool,
    again: bool,
}

#[derive(Debug, Default)]
pub struct State {
    running: BTreeMap<TaskId, Running>,
    /// Tasks that their nodes have started again.
    again: BTreeSet<TaskId>,
    /// When tasks were made.
    made: BTreeMap<TaskId, u64>,
    /// Until when a service was not exclusive, for ever while it is not.
    loose: BTreeMap<ServiceId, u64>,
}

impl State {
    /// Whether one of the two may run beside the other: the service was loose when the later one was made, or later.
    fn may(&self, slot: (ServiceId, u32), a: TaskId, b: TaskId) -> bool {
        let made = |task| self.made.get(&task).copied().unwrap_or(0);
        let later = made(a).max(made(b));
        self.loose.get(&slot.0).is_some_and(|until| *until >= later)
    }
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "exclusive slots stay single"
    }

    fn see(&mut self, sight: &Sight<'_>, now: u64, first: bool) -> Result<(), String> {
        match sight {
            Sight::Runs {
                node,
                task,
                service,
                slot,
                exclusive,
            } => {
                let slot = (*service, *slot);
                let beside = self.running.iter().find(|(other, running)| {
                    *other != task
                        && running.slot == slot
                        && (*exclusive || running.exclusive)
                        && (*exclusive || !self.again.contains(task))
                        && (running.exclusive || !running.again)
                        && !self.may(slot, *task, **other)
                });
                if let Some((other, running)) = beside {
                    return Err(format!(
                        "slot {} of service {service} runs as task {task} on node {node} and still as task {other} on node {}",
                        slot.1, running.node
                    ));
                }
                let running = Running {
                    node: *node,
                    slot,
                    exclusive: *exclusive,
                    again: self.again.contains(task),
                };
                self.running.insert(*task, running);
            }
            Sight::Again { task, .. } => {
                self.again.insert(*task);
            }
            Sight::Ends { task } => {
                self.running.remove(task);
            }
            Sight::Applied {
                outcome: Ok(events),
                ..
            } if first => {
                for event in events {
                    match event {
                        Event::Task(id, None, Some(_)) => {
                            self.made.insert(*id, now);
                        }
                        Event::Service(id, old, Some(new)) => {
                            let is = |s: &api::model::Service| s.spec.template.disconnect.exclusive;
                            let was = old.as_ref().is_none_or(|old| is(old));
                            if !is(new) {
                                self.loose.insert(*id, u64::MAX);
                            } else if !was {
                                self.loose.insert(*id, now);
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
