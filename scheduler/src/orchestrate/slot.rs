//! What becomes of one slot.
//!
//! ```text
//! live task ── its node is lost ──────────> successor at once, elsewhere
//!     │ ────── its node is drained ─┐
//!     │ ────── new version ─────────┴─────> asked to end; once it has, a successor
//!     └─────── ended by itself ───────────> successor now, later or never: see `restarts`
//! ```

use super::restarts::{self, End, Verdict};
use super::{Plan, Wanted, shut_down};
use crate::survey::{Entry, Host, Slot, is_live};
use api::model::{Service, Task, TaskState, Timestamp};
use api::state::Op;
use std::cmp::Reverse;

/// How the tasks of a slot have ended, the newest first.
pub(super) fn ends<'a>(slot: &Slot<'_, 'a>, succeeded: bool, now: Timestamp) -> Vec<End<'a>> {
    slot.tasks
        .iter()
        .filter_map(|e| End::of(e.task, succeeded, now))
        .collect()
}

/// Whether the slot's last task has ended well, and gets no successor. `tasks`: all of the slot, the newest first.
pub(crate) fn has_completed(service: &Service, tasks: &[&Task], now: Timestamp) -> bool {
    let ended = tasks
        .first()
        .is_some_and(|last| End::of(last, false, now).is_some());
    if !ended || tasks.iter().any(|task| is_live(task)) {
        return false;
    }
    let ends: Vec<End<'_>> = tasks
        .iter()
        .filter_map(|task| End::of(task, false, now))
        .collect();
    matches!(
        restarts::verdict(service, &ends, now),
        Verdict::Never { failed: false }
    )
}

/// Decides on a slot. Whether it has a task or gets one now.
pub(super) fn look<'a>(slot: &Slot<'_, 'a>, now: Timestamp, plan: &mut Plan<'_, 'a>) -> bool {
    let version = plan.group.service.template_revision;
    let live = the_live_one(slot, version);
    // Something of the slot is on its way out of a node: nothing new may begin in it.
    let mut leaving = slot.removed.iter().any(Entry::is_held);
    let mut before = Vec::new();
    for entry in slot.tasks {
        if live.is_some_and(|live| live.task.id == entry.task.id) {
            continue;
        }
        leaving |= entry.is_held();
        if !entry.task.status.state.is_ended() {
            // Without a node it may be that it is asked already: then it is only to be forgotten.
            match plan.end(entry, TaskState::Shutdown) {
                Some(op) => before.push(op),
                None if entry.task.node.is_none() => before.push(Op::RemoveTask(entry.task.id)),
                None => {}
            }
        }
    }
    // Of the last of these depends whether the slot gets a successor; so it goes only when that is decided.
    let orphans = slot
        .tasks
        .iter()
        .filter(|e| e.task.status.state == TaskState::Orphaned);
    if live.is_some() || !leaving {
        before.extend(orphans.map(|e| Op::RemoveTask(e.task.id)));
    }
    let displaced = is_displaced(slot, version);
    if let Some(live) = live {
        plan.ops.append(&mut before);
        keep(live, leaving, displaced, plan);
        return true;
    }
    if leaving {
        plan.ops.append(&mut before);
        plan.rollout.wait();
        return false;
    }
    let ends = ends(slot, false, now);
    // Only what a task's own end leads to is for the restart policy.
    let ended = slot
        .tasks
        .first()
        .is_some_and(|last| End::of(last.task, false, now).is_some());
    let verdict = if ended {
        restarts::verdict(plan.group.service, &ends, now)
    } else {
        Verdict::Now
    };
    if let Verdict::Now = verdict {
        before.extend(
            ends.iter()
                .filter(|end| end.is_unnoted())
                .map(|end| shut_down(end.task.id)),
        );
        plan.wanted.push(Wanted {
            slot: slot.number,
            pending: None,
            displaced,
            before,
            after: newest(slot),
        });
        return true;
    }
    plan.ops.append(&mut before);
    plan.ops.extend(
        ends.iter()
            .filter(|end| end.is_to_be_noted())
            .map(|end| shut_down(end.task.id)),
    );
    match verdict {
        Verdict::At(due) => {
            plan.rollout.wait();
            plan.due(due);
        }
        // A new version that fails for good is not rolled out any further.
        Verdict::Never { failed: true } => plan.rollout.wait(),
        Verdict::Never { failed: false } | Verdict::Now => {}
    }
    false
}

/// When the newest of its tasks was made.
fn newest(slot: &Slot<'_, '_>) -> Timestamp {
    slot.tasks
        .first()
        .map_or(Timestamp::default(), |e| e.task.meta.created_at)
}

/// Whether the slot's last task on a node was stopped for a new version, rather than that it failed or that its
/// node was lost or drained.
fn is_displaced(slot: &Slot<'_, '_>, version: u64) -> bool {
    let last = slot
        .tasks
        .iter()
        .find(|e| e.host.is_some() && e.task.status.state != TaskState::Orphaned);
    last.is_some_and(|e| {
        e.task.template_revision != version
            && e.task.status.state == TaskState::Shutdown
            && e.host == Some(Host::Ready)
    })
}

/// The task that the slot keeps, if it may keep one: that which has come furthest.
fn the_live_one<'s, 'a>(slot: &Slot<'s, 'a>, version: u64) -> Option<&'s Entry<'a>> {
    slot.tasks
        .iter()
        .enumerate()
        .filter(|(_, e)| is_live(e.task))
        .filter(|(_, e)| match e.host {
            None => e.task.template_revision == version,
            Some(host) => matches!(host, Host::Ready | Host::Unknown),
        })
        .max_by_key(|(newest, e)| (e.task.status.state, Reverse(*newest)))
        .map(|(_, entry)| entry)
}

fn keep<'a>(live: &Entry<'a>, leaving: bool, displaced: bool, plan: &mut Plan<'_, 'a>) {
    let task = live.task;
    let running = task.status.state >= TaskState::Running;
    if leaving {
        plan.rollout.wait();
    }
    match live.host {
        // Its turn comes when its predecessor is gone.
        None if leaving => {}
        None => {
            let wanted = Wanted {
                slot: task.slot,
                pending: Some(task),
                displaced,
                before: Vec::new(),
                after: Timestamp::default(),
            };
            plan.wanted.push(wanted);
        }
        Some(_) if task.template_revision == plan.group.service.template_revision => {
            if !running {
                plan.rollout.wait();
            }
        }
        // What is on a node that we have not heard of is left alone.
        Some(Host::Unknown) => {}
        Some(_) if running => plan.rollout.outdated(task.id),
        Some(_) => {
            // It serves nobody yet, so it need not wait for its turn.
            let op = plan.end(live, TaskState::Shutdown);
            plan.ops.extend(op);
            plan.rollout.wait();
        }
    }
}
