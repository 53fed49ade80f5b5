//! What runs on a manager: control API, dispatcher, CA, leader loop, Raft network.
//!
//! ```text
//! TLS listener ─► auth ─► proxy ─┬─► control, ca ─┐
//!                                ├─► dispatch ────┼─► raft-store ◄─► other managers (raft_rpc)
//! local socket ───────► proxy ───┘   leader ──────┘
//! ```
//!
//! [`identity`], [`certificate`], [`tls`], [`revoked`], [`dialer`], [`auth`] and [`proxy`] know neither Raft nor the state: a node that is
//! only a worker uses them too. Never imports the overlay or the agent.

mod aside;
pub mod auth;
pub mod backup;
pub mod ca;
pub mod certificate;
mod clock;
mod control;
pub mod decisions;
pub mod dialer;
mod dispatch;
mod found;
mod grace;
pub mod identity;
mod leader;
mod manager;
mod novice;
mod outreach;
mod place;
pub mod proxy;
mod quorum;
mod raft_rpc;
pub mod recovery;
mod relock;
pub mod revoked;
mod sweep;
mod terms;
#[cfg(test)]
mod testing;
pub mod tls;
mod upkeep;
mod upstream;

pub use clock::now;
pub use dispatch::LEADER_KEY;
pub use found::{FoundError, Founding};
pub use manager::{MESSAGE_MAX, Manager, ManagerConfig, Pace, StartError};
pub use quorum::Quorum;
