//! A node's networking: everything between a task's first packet and the other node.
//!
//! - [`plan`]: pure. The desired picture of this node from the cluster's [`View`] and the local
//!   tasks, and its difference from what is there.
//! - [`linux`]: netlink, nftables, namespaces: performs a difference, reads what is there.
//! - [`dns`]: the names of a task's networks; the zone is pure, the server thin.
//! - [`Overlay`]: the handle; behind it one actor owns all state and reconciles.
//!
//! Invariants:
//! - Level-triggered: every reconciliation starts from what is there, and can start from nothing.
//! - Only what carries our names is ever changed: namespaces below the run folder, the host's
//!   links `clgw0` and `clg…`, the table `ip clusterd`. The host's own rules are never touched.
//! - Starting and stopping the daemon changes no packet path; only detach, purge and (after
//!   [`Overlay::ready`]) the removal of unknown leftovers do.
//! - No thread's own network namespace is trusted: the host's is captured at start, and every
//!   worker thread enters the one it needs.

mod config;
mod engine;
mod error;
mod ids;
mod task;
mod view;

pub mod dns;
pub mod linux;
pub mod plan;

pub use config::Config;
pub use engine::{NetworkStatus, Overlay, Status, TaskStatus};
pub use error::Error;
pub use ids::{NetworkId, ServiceId, TaskId};
pub use task::{Attached, Attachment, Protocol, PublishedPort, TaskNet};
pub use view::{Endpoint, Network, Service, View};

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
