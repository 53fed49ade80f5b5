//! The reaper: tasks that are over and of which nobody needs to know any more.

use super::{Plan, slots::Slot};
use api::model::{ClusterSpec, Service, Task, TaskState};
use api::state::{Op, State};

/// Whether nothing of a task is on any node.
fn is_over(task: &Task) -> bool {
    task.status.state.is_ended() || task.node.is_none()
}

/// Removes a task that was just asked to be removed, if it is over.
pub(super) fn if_over(task: &Task, plan: &mut Plan) {
    if is_over(task) {
        plan.ops.push(Op::RemoveTask(task.id));
    }
}

/// Of a slot: what was asked to end before it had a node, and the oldest of what has ended, beyond what is
/// kept as history.
pub(super) fn of_slot(state: &State, service: &Service, slot: &Slot, plan: &mut Plan) {
    let defaults = ClusterSpec::default();
    let history = state.cluster().map_or(&defaults, |c| &c.spec).task_history;
    // Attempts are counted in the history, so it has to hold them.
    let attempts = service
        .spec
        .template
        .restart
        .max_attempts
        .map_or(0, |max| max.saturating_add(1));
    let keep = usize::try_from(history.max(attempts)).unwrap_or(usize::MAX);
    let ended = slot
        .iter()
        .filter(|t| t.status.state.is_ended())
        .skip(keep.max(1));
    let unplaced = slot
        .iter()
        .filter(|t| t.node.is_none() && t.desired > TaskState::Running);
    for task in ended.chain(unplaced.filter(|t| !t.status.state.is_ended())) {
        plan.ops.push(Op::RemoveTask(task.id));
    }
}

/// Tasks that are to be removed and are over.
pub(super) fn of_removed_services(state: &State, plan: &mut Plan) {
    for task in state
        .tasks()
        .values()
        .filter(|t| t.desired == TaskState::Remove && is_over(t))
    {
        plan.ops.push(Op::RemoveTask(task.id));
    }
}
