//! What has to hold at every step, one file each; and what has to hold once all is mended ([`converges`]).

mod acknowledged_writes_survive;
mod agents_never_go_back;
pub mod converges;
mod everything_is_bounded;
mod exclusive_slots_stay_single;
mod healthy_nodes_stay;
mod holders_are_single;
mod nodes_know_their_own;
mod one_leader_a_term;
mod placements_are_allowed;
mod replicas_agree;
mod restarts_back_off;
mod slots_run_once;
mod specs_are_the_users;
mod tasks_move_forward;
mod versions_are_kept;
mod watches_are_whole;

use crate::sight::Sight;
use std::fmt::Debug;

/// Something that has to hold.
pub trait Invariant: Debug {
    /// What, in words.
    fn name(&self) -> &'static str;

    /// Takes what is seen. `first`: no manager has applied the entry before.
    ///
    /// # Errors
    /// What may not be.
    fn see(&mut self, sight: &Sight<'_>, now: u64, first: bool) -> Result<(), String>;
}

/// All of them, of a world with so many managers.
#[must_use]
pub fn all(managers: usize) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(acknowledged_writes_survive::State::default()),
        Box::new(one_leader_a_term::State::default()),
        Box::new(replicas_agree::State::new(managers)),
        Box::new(tasks_move_forward::State::default()),
        Box::new(holders_are_single::State::default()),
        Box::new(slots_run_once::State::default()),
        Box::new(exclusive_slots_stay_single::State::default()),
        Box::new(specs_are_the_users::State),
        Box::new(versions_are_kept::State),
        Box::new(placements_are_allowed::State),
        Box::new(nodes_know_their_own::State),
        Box::new(agents_never_go_back::State::default()),
        Box::new(watches_are_whole::State::default()),
        Box::new(everything_is_bounded::State::default()),
        Box::new(restarts_back_off::State::default()),
        Box::new(healthy_nodes_stay::State::default()),
    ]
}
