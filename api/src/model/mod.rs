//! The objects of a cluster. *Spec* is the user's, *status* is the system's; the system never edits a
//! spec.
//!
//! All maps are ordered, so that whatever is decided from them is decided the same way everywhere.

mod backup;
mod blob;
mod cluster;
mod disconnect;
mod id;
mod network;
mod node;
mod pace;
mod recovery;
mod service;
mod stack;
mod task;
mod token;
mod unlock;

pub use backup::*;
pub use blob::*;
pub use cluster::*;
pub use disconnect::*;
pub use id::*;
pub use network::*;
pub use node::*;
pub use pace::*;
pub use recovery::*;
pub use service::*;
pub use stack::*;
pub use task::*;
pub use token::*;
pub use unlock::*;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Milliseconds since the Unix epoch, UTC. Stamped by the proposer, never read from a clock by the state.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time plus `ms` milliseconds, saturating.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add_unsigned(ms))
    }

    /// Milliseconds from `earlier` to this time; 0 when `earlier` is the later one.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// Ordered `key=value` pairs.
pub type Labels = BTreeMap<String, String>;

/// What every object carries beside its spec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The revision (Raft log index) of its last change; an update names the one it was read at.
    pub revision: u64,
}
