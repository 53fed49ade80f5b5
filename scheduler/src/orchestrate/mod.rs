//! How many tasks a service has; which go, which are replaced, which are removed. Where new ones run is decided
//! in [`crate::place`].

mod reap;
mod replicated;
mod restarts;
mod rollout;
mod slot;

use crate::survey::{Entry, Group, Survey, is_live};
use api::model::{ClusterSpec, ServiceMode, Task, TaskId, TaskState, Timestamp};
use api::state::Op;
pub(crate) use rollout::{Placed, Rollout};
pub(crate) use slot::has_completed;

/// A task that needs a node.
pub(crate) struct Wanted<'a> {
    pub slot: u32,
    /// It is there already, without a node.
    pub pending: Option<&'a Task>,
    /// Its slot's last task was stopped for a new version.
    pub displaced: bool,
    /// What becomes of those before it, in the same transaction.
    pub before: Vec<Op>,
    /// When the newest of those was made: by a clock that was ahead of this leader's perhaps, and which of two is
    /// the newer has to stay true.
    pub after: Timestamp,
}

/// What a pass over a service comes to.
pub(crate) struct Plan<'s, 'a> {
    pub group: Group<'s, 'a>,
    /// Changes of tasks that are there; each makes sense by itself.
    pub ops: Vec<Op>,
    /// In order of their turn where there is not room for all: what ran, then what waits, then what is new.
    pub wanted: Vec<Wanted<'a>>,
    /// Nodes of the tasks that were live and are so no more; one node may be there several times.
    pub stopping: Vec<u32>,
    pub rollout: Rollout,
    /// When something will be due.
    pub next: Option<Timestamp>,
}

impl Plan<'_, '_> {
    /// The change that makes a task end, if it is needed.
    fn end(&mut self, entry: &Entry<'_>, desired: TaskState) -> Option<Op> {
        let task = entry.task;
        if task.desired >= desired {
            return None;
        }
        if is_live(task) {
            self.stopping.extend(entry.site);
        }
        let over =
            task.node.is_none() || (desired == TaskState::Remove && task.status.state.is_ended());
        Some(if over {
            Op::RemoveTask(task.id)
        } else {
            Op::SetTaskDesired {
                id: task.id,
                desired,
            }
        })
    }

    fn due(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

/// The change that makes a task end, to be replaced.
pub(crate) fn shut_down(id: TaskId) -> Op {
    Op::SetTaskDesired {
        id,
        desired: TaskState::Shutdown,
    }
}

/// A pass over all services.
pub(crate) fn plans<'s, 'a>(survey: &'s Survey<'a>, now: Timestamp) -> Vec<Plan<'s, 'a>> {
    let defaults = ClusterSpec::default();
    let history = survey
        .state
        .cluster()
        .map_or(&defaults, |cluster| &cluster.spec)
        .task_history;
    survey
        .groups()
        .map(|group| plan(group, history, now))
        .collect()
}

fn plan<'s, 'a>(group: Group<'s, 'a>, history: u32, now: Timestamp) -> Plan<'s, 'a> {
    let rollout = Rollout::default();
    let mut plan = Plan {
        group,
        ops: Vec::new(),
        wanted: Vec::new(),
        stopping: Vec::new(),
        rollout,
        next: None,
    };
    let ServiceMode::Replicated { replicas } = group.service.spec.mode;
    let too_many = replicated::too_many(&group, replicas);
    for slot in group.slots().filter(|slot| !slot.tasks.is_empty()) {
        if too_many.contains(&slot.number) {
            for entry in slot.tasks {
                let op = plan.end(entry, TaskState::Remove);
                plan.ops.extend(op);
            }
        } else {
            let succeeded = slot::look(&slot, now, &mut plan);
            reap::history(&slot, group.service, history, succeeded, now, &mut plan);
        }
    }
    plan.wanted
        .sort_by_key(|wanted| (wanted.pending.is_some(), wanted.slot));
    plan.wanted.extend(replicated::missing(&group, replicas));
    plan
}
