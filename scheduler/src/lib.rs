//! Every decision of the cluster, as pure functions of its state and the time.
//!
//! It knows no clock, no randomness, no async code and no I/O: time and ids are passed in. It keeps nothing
//! between passes: each begins from the state alone, so that a new leader goes on where the old one stopped.
//!
//! - [`orchestrate`]: how many tasks a service has, which are replaced, restarted, removed.
//! - [`place`]: where they go; a refusal says which rule, and of how many nodes.
//! - [`allocate`]: addresses, subnets, VNIs.
//!
//! Invariants: what it proposes, `apply` takes; run again and again on what came of it, it soon proposes
//! nothing; a slot has one task that is not ended, but for those on nodes that are down.

pub mod allocate;
pub mod orchestrate;
pub mod place;

#[cfg(test)]
mod tests;

use api::model::Timestamp;
use api::state::{Op, State, Transaction};

/// Changes in one transaction at most.
const CHUNK: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// In this order; each whole in itself.
    pub transactions: Vec<Transaction>,
    /// When to look again, if nothing changes before.
    pub next: Option<Timestamp>,
}

/// One pass over the state.
pub fn schedule(state: &State, now: Timestamp, ids: &mut dyn FnMut() -> u128) -> Decision {
    let plan = orchestrate::plan(state, now);
    let mut ops = plan.ops;
    place::place(state, now, plan.wanted, ids, &mut ops);
    let mut transactions = Vec::new();
    let mut rest = ops.into_iter().peekable();
    while rest.peek().is_some() {
        let ops: Vec<Op> = rest.by_ref().take(CHUNK).collect();
        transactions.push(Transaction { at: now, ops });
    }
    Decision {
        transactions,
        next: plan.next,
    }
}
