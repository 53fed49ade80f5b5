//! Every decision of the cluster, as pure functions of its state and the time.
//!
//! It knows no clock, no randomness, no async code and no I/O: time and ids are passed in. It keeps nothing
//! between passes: each begins from the state alone, so that a new leader goes on where the old one stopped.
//!
//! ```text
//! survey: one look at every task ─> orchestrate: what each service lacks, and what goes
//!    ─> place: where it runs, or why nowhere; allocate gives addresses and ports ─> transactions
//! ```
//!
//! Invariants, each held by a test of its name:
//! - what it proposes, `apply` takes;
//! - a pass over what came of a pass, at the same time, proposes nothing;
//! - a slot has one task on a node at a time, but for those on nodes that are down, and of exclusive services but for
//!   those on nodes that are down whose leases are over;
//! - no address, port or VNI is given twice;
//! - when every node does what is asked of it, each service comes to run as many tasks as it should.

pub mod allocate;
mod orchestrate;
mod place;
mod survey;
mod transactions;

#[cfg(test)]
mod tests;

use api::model::{Service, Task, Timestamp};
use api::state::{State, Transaction};
use place::Placer;
use survey::Survey;
use transactions::Batch;

/// Changes in one transaction at most: an entry of the log stays small, and a refusal costs little.
const CHUNK: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// In this order. Each is whole in itself: any of them may be missing or refused without harm.
    pub transactions: Vec<Transaction>,
    /// When to look again, if nothing changes before: a restart is due then.
    pub next: Option<Timestamp>,
}

/// One pass over the state. `ids` makes the new tasks' ids.
pub fn schedule(state: &State, now: Timestamp, ids: &mut dyn FnMut() -> u128) -> Decision {
    pass(state, now, ids, CHUNK)
}

/// A pass whose transactions have so many changes at most, unless more belong together.
fn pass(state: &State, now: Timestamp, ids: &mut dyn FnMut() -> u128, chunk: usize) -> Decision {
    let survey = Survey::of(state);
    let mut batch = Batch::new(now, chunk);
    let mut plans = orchestrate::plans(&survey, now);
    let next = plans.iter().filter_map(|plan| plan.next).min();
    let mut placer = Placer::new(&survey, now);
    for plan in &mut plans {
        batch.each(plan.ops.drain(..));
        placer.leave(&plan.stopping);
    }
    for plan in plans {
        let placed = placer.place(plan.group, &plan.stopping, plan.wanted, ids, &mut batch);
        if let Some(task) = plan.rollout.next(placed) {
            batch.each([orchestrate::shut_down(task)]);
        }
    }
    placer.tell(ids, &mut batch);
    batch.each(survey.over.into_iter().map(api::state::Op::RemoveTask));
    Decision {
        transactions: batch.finish(),
        next,
    }
}

/// Whether a slot of a service needs no task any more: its last one has ended well, and no other is to follow. `tasks`
/// are all of the slot.
#[must_use]
pub fn has_completed(service: &Service, mut tasks: Vec<&Task>, now: Timestamp) -> bool {
    tasks.sort_unstable_by_key(|task| survey::age(task));
    orchestrate::has_completed(service, &tasks, now)
}

/// Why a task has no node, as of now: what its status says after the next pass. Absent when it has one, needs
/// none, or would get one.
#[must_use]
pub fn explain(state: &State, task: &Task) -> Option<String> {
    if task.node.is_some() || !survey::is_live(task) {
        return None;
    }
    let service = state.services().get(&task.service)?;
    let survey = Survey::of(state);
    Placer::new(&survey, Timestamp::default()).refusal(service)
}
