//! What becomes of a slot: its task is live, is on its way out, is to be replaced now or later, or is done.

use super::{Plan, is_live, slots::Slot};
use api::model::{
    Availability, NodeState, RestartCondition, RestartPolicy, Service, Task, TaskState, Timestamp,
};
use api::state::{Op, State};
use std::sync::Arc;

/// Delay before the first restart, ms; it doubles with each quick failure.
const BACKOFF_FIRST_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 5_000;
/// A run this long makes the next failure count as the first, ms.
const HEALTHY_MS: u64 = 10_000;

pub(super) enum Verdict {
    /// There is a task that should run.
    Live(Arc<Task>),
    /// Its task was asked to end and has not yet.
    Leaving,
    /// A new task is needed.
    Replace,
    /// A new task is needed at that time.
    Later(Timestamp),
    /// Nothing more is to run in it.
    Finished,
}

/// How a task's node is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    Fine,
    /// What runs on it can't be known, and nobody waits for it.
    Lost,
    Drained,
}

fn host(state: &State, task: &Task) -> Host {
    match task.node.map(|id| state.nodes().get(&id)) {
        None => Host::Fine,
        Some(None) => Host::Lost,
        Some(Some(node)) if node.status.state == NodeState::Down => Host::Lost,
        Some(Some(node)) if node.spec.availability == Availability::Drain => Host::Drained,
        Some(Some(_)) => Host::Fine,
    }
}

pub(super) fn look(
    state: &State,
    service: &Service,
    slot: &Slot,
    now: Timestamp,
    plan: &mut Plan,
) -> Verdict {
    let mut live = None;
    let mut leaving = false;
    let mut moved = false;
    for task in slot {
        match (is_live(task), host(state, task)) {
            (true, Host::Fine) if live.is_none() => live = Some(task.clone()),
            // A second one in a slot is one too many, whatever brought it about.
            (true, host) => {
                plan.ops.push(Op::SetTaskDesired {
                    id: task.id,
                    desired: TaskState::Shutdown,
                });
                moved = true;
                leaving |= host != Host::Lost;
            }
            (false, host) => {
                leaving |=
                    !task.status.state.is_ended() && host != Host::Lost && task.node.is_some()
            }
        }
    }
    if let Some(task) = live {
        return Verdict::Live(task);
    }
    if leaving {
        return Verdict::Leaving;
    }
    match slot.first() {
        None => Verdict::Replace,
        Some(_) if moved => Verdict::Replace,
        Some(last) => after_end(service, slot, last, now, plan),
    }
}

/// Whether a task ended by itself, rather than because it was asked to.
fn ended_by_itself(task: &Task) -> bool {
    matches!(
        task.status.state,
        TaskState::Complete | TaskState::Failed | TaskState::Rejected
    )
}

fn after_end(
    service: &Service,
    slot: &Slot,
    last: &Task,
    now: Timestamp,
    plan: &mut Plan,
) -> Verdict {
    // Noted once, so that an end is not taken for one that is wanted back later.
    if last.desired <= TaskState::Running {
        plan.ops.push(Op::SetTaskDesired {
            id: last.id,
            desired: TaskState::Shutdown,
        });
    }
    if !ended_by_itself(last) || last.template_revision != service.template_revision {
        return Verdict::Replace;
    }
    let policy = &service.spec.template.restart;
    let again = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => last.status.state != TaskState::Complete,
        RestartCondition::Any => true,
    };
    if !again || attempts_used_up(policy, slot, last, now) {
        return Verdict::Finished;
    }
    // The leader's time, in which it was first known: nodes' clocks may differ.
    let due = last.meta.updated_at.plus_ms(delay_ms(policy, slot, last));
    // What is decided in this pass touches the task once more; the delay counts from then.
    let due = if last.desired <= TaskState::Running {
        now.plus_ms(delay_ms(policy, slot, last))
    } else {
        due
    };
    if due <= now {
        Verdict::Replace
    } else {
        Verdict::Later(due)
    }
}

fn attempts_used_up(policy: &RestartPolicy, slot: &Slot, last: &Task, now: Timestamp) -> bool {
    let Some(max) = policy.max_attempts else {
        return false;
    };
    let counted = slot
        .iter()
        .filter(|t| t.template_revision == last.template_revision && ended_by_itself(t))
        .filter(|t| {
            policy
                .window_ms
                .is_none_or(|window| now.since_ms(t.meta.updated_at) <= window)
        })
        .count();
    // The first run is no restart.
    counted > usize::try_from(max).unwrap_or(usize::MAX)
}

fn delay_ms(policy: &RestartPolicy, slot: &Slot, last: &Task) -> u64 {
    if let Some(fixed) = policy.delay_ms {
        return fixed;
    }
    let quick = slot
        .iter()
        .take_while(|t| {
            t.template_revision == last.template_revision
                && ended_by_itself(t)
                && t.meta.updated_at.since_ms(t.meta.created_at) < HEALTHY_MS
        })
        .count();
    // A slot that is all quick failures has had more than are kept.
    let doublings = if quick == slot.len() && quick >= KEPT_WITHOUT_LOSS {
        63
    } else {
        quick.saturating_sub(1)
    };
    BACKOFF_FIRST_MS
        .checked_shl(u32::try_from(doublings).unwrap_or(63))
        .map_or(BACKOFF_MAX_MS, |ms| {
            if ms == 0 {
                BACKOFF_MAX_MS
            } else {
                ms.min(BACKOFF_MAX_MS)
            }
        })
}

/// With this many failures in a slot its history may have been cut.
const KEPT_WITHOUT_LOSS: usize = 5;
