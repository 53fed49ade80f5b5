//! The reaper: of the tasks that have ended a slot keeps the newest, as many as the cluster's settings say. It
//! keeps the last one always, and so many that restarts are counted right.

use super::{Plan, restarts, slot};
use crate::survey::Slot;
use api::model::{Service, Timestamp};
use api::state::Op;

/// `succeeded`: the slot has a task or gets one now.
pub(super) fn history(
    slot: &Slot<'_, '_>,
    service: &Service,
    history: u32,
    succeeded: bool,
    now: Timestamp,
    plan: &mut Plan<'_, '_>,
) {
    #[cfg(feature = "sabotage")]
    if api::sabotage::has(api::sabotage::Bug::HistoryUnbounded) {
        return;
    }
    let history = usize::try_from(history).unwrap_or(usize::MAX).max(1);
    let ends = slot::ends(slot, succeeded, now);
    let keep = history.max(restarts::evidence(&service.spec.template.restart, &ends));
    plan.ops.extend(
        ends.iter()
            .skip(keep)
            .map(|end| Op::RemoveTask(end.task.id)),
    );
}
