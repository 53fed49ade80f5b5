//! A slot of a service that is `exclusive` never runs twice, whatever was declared of its node: one container has ended
//! before the next begins. Unless the service was not exclusive at some time since the first of them began: what is
//! done then may double a slot.

use super::Invariant;
use crate::sight::Sight;
use api::model::{NodeId, ServiceId, TaskId};
use api::state::Event;
use std::collections::BTreeMap;

#[derive(Debug)]
struct Running {
    node: NodeId,
    slot: (ServiceId, u32),
    since: u64,
}

#[derive(Debug, Default)]
pub struct State {
    /// Of versions that are exclusive.
    running: BTreeMap<TaskId, Running>,
    /// Until when a service was not exclusive, for ever while it is not.
    loose: BTreeMap<ServiceId, u64>,
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
                exclusive: true,
            } => {
                let slot = (*service, *slot);
                let loose = self.loose.get(service).copied();
                let other = self.running.iter().find(|(other, running)| {
                    *other != task
                        && running.slot == slot
                        && loose.is_none_or(|until| until < running.since)
                });
                if let Some((other, running)) = other {
                    return Err(format!(
                        "slot {} of service {service} runs as task {task} on node {node} and still as task {other} on node {}",
                        slot.1, running.node
                    ));
                }
                let running = Running {
                    node: *node,
                    slot,
                    since: now,
                };
                self.running.insert(*task, running);
            }
            Sight::Ends { task } => {
                self.running.remove(task);
            }
            Sight::Applied {
                outcome: Ok(events),
                ..
            } if first => {
                for event in events {
                    let Event::Service(id, old, Some(new)) = event else {
                        continue;
                    };
                    let was = old
                        .as_ref()
                        .is_none_or(|old| old.spec.template.disconnect.exclusive);
                    if !new.spec.template.disconnect.exclusive {
                        self.loose.insert(*id, u64::MAX);
                    } else if !was {
                        self.loose.insert(*id, now);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
