//! One seeded world that drives the cluster's decisions without sockets and without a clock.
//!
//! ```text
//! seed ─► script (machines, faults, users) ─► world: one event after the other ─► what is seen ─► invariants
//!              ▲ parts left out                 │ managers: a model of the consensus around the real state,
//!              └── shrink ◄── a failure ◄───────┘ scheduler and dispatcher; agents: real assignments, machines
//! ```
//!
//! Of the product it runs `api::state`, `scheduler`, the planning of deploys, the dispatcher's tables, judgements
//! and statuses, the ring of changes, and the agents' assignments and task machines. Modelled are the consensus
//! (`raft`), the network, disks, containers, and the shells that only pump between those.
//!
//! The same seed gives the same run: time jumps from event to event, all that is random comes from `dice`, and
//! nothing is decided from the order of an unordered map.

mod agent;
mod book;

pub mod bug;
mod control;
mod dice;
mod event;
mod faults;
mod hub;
mod invariants;
mod leader;
mod machine;
mod manager;
mod net;
mod raft;
pub mod run;
pub mod script;
mod session;
mod settle;
mod sight;
mod stacks;
mod stream;
mod tasks;
mod warden;
mod world;

pub use book::Broken;
