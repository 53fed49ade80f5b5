//! How many tasks a service has, which are replaced, restarted, removed. Where new ones go is not decided
//! here.

mod reap;
mod restart;
mod slots;

use api::model::{Service, ServiceId, ServiceMode, Task, TaskId, TaskState, Timestamp};
use api::state::{Op, State};
use slots::Slots;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A task that needs a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// In which slot.
    pub slot: u32,
    /// It is there already, without a node.
    pub pending: Option<TaskId>,
}

/// What a pass over all services comes to.
#[derive(Debug, Default)]
pub struct Plan {
    /// Changes of tasks that are there.
    pub ops: Vec<Op>,
    /// Tasks that need a node, by service.
    pub wanted: BTreeMap<ServiceId, Vec<Wanted>>,
    /// When something will be due.
    pub next: Option<Timestamp>,
}

impl Plan {
    fn due(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

/// Whether a task is one that should run and has not ended.
#[must_use]
pub fn is_live(task: &Task) -> bool {
    task.desired <= TaskState::Running && !task.status.state.is_ended()
}

/// A pass over all services.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for service in state.services().values() {
        one_service(state, service, now, &mut plan);
    }
    reap::of_removed_services(state, &mut plan);
    plan
}

fn one_service(state: &State, service: &Arc<Service>, now: Timestamp, plan: &mut Plan) {
    let ServiceMode::Replicated { replicas } = service.spec.mode;
    let mut slots = Slots::of(state, service.id);
    slots.shrink_to(replicas, plan);
    let mut wanted = Vec::new();
    // Slots on their way to the current version: no other may begin before they are there.
    let mut moving = 0;
    let mut outdated = Vec::new();
    for (number, slot) in slots.iter() {
        match restart::look(state, service, slot, now, plan) {
            restart::Verdict::Live(task) if task.template_revision == service.template_revision => {
                moving += usize::from(task.status.state < TaskState::Running);
                if task.node.is_none() {
                    wanted.push(Wanted {
                        slot: number,
                        pending: Some(task.id),
                    });
                }
            }
            restart::Verdict::Live(task) => outdated.push(task),
            restart::Verdict::Replace => {
                moving += 1;
                wanted.push(Wanted {
                    slot: number,
                    pending: None,
                });
            }
            restart::Verdict::Leaving => moving += 1,
            restart::Verdict::Later(at) => plan.due(at),
            restart::Verdict::Finished => {}
        }
        reap::of_slot(state, service, slot, plan);
    }
    update(&outdated, moving, plan);
    wanted.extend(slots.missing(replicas).map(|slot| Wanted {
        slot,
        pending: None,
    }));
    if !wanted.is_empty() {
        plan.wanted.insert(service.id, wanted);
    }
}

/// The rollout: tasks of an old version that don't run go at once; those that run, one at a time, each only
/// when all that were replaced before run.
fn update(outdated: &[Arc<Task>], moving: usize, plan: &mut Plan) {
    let (idle, running): (Vec<_>, Vec<_>) = outdated
        .iter()
        .partition(|task| task.status.state < TaskState::Running);
    let next = running.first().filter(|_| moving == 0 && idle.is_empty());
    for task in idle.iter().chain(next) {
        plan.ops.push(Op::SetTaskDesired {
            id: task.id,
            desired: TaskState::Shutdown,
        });
    }
}
