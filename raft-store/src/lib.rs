//! The replicated state: openraft on sled, the cluster's state as its machine, snapshots in files.
//!
//! - `log.rs`: openraft's log, `database.rs` opens it. Only these name sled; `flusher.rs` makes its writes durable,
//!   `ahead.rs` keeps its file from growing with each.
//! - `codec.rs`: bytes on disk, each behind a format version; `cover.rs`: sealed; `upgrade.rs`: what an earlier
//!   version wrote, sealed.
//! - `machine.rs`, `snapshot.rs`: openraft's state machine around [`api::state::State`].
//! - [`Handle`]: propose, read, watch; `members.rs`: who leads, who is a manager, and how that changes.
//! - `compact.rs`: when the log is cut.
//! - `lead.rs`: what a leader may build on without asking a majority first.
//! - `turns.rs`: who stands for election when, after a leader is silent.
//! - `network.rs`: follows managers to another address; the connections themselves are given from outside.
//! - [`recover`]: the store of a manager that doesn't run, read whole or made anew; [`swap`] puts it in place.
//! - [`wire`]: openraft's messages as protobuf and back.
//!
//! Invariants: what was acknowledged is on the disks of a majority (fdatasync, not only `flush`); writes to
//! the log keep their order; a snapshot is whole or not there; a watcher misses nothing without being told;
//! what can't be read is never passed over; nothing of the state is on the disk but sealed.

mod ahead;
mod codec;
mod compact;
mod cover;
mod database;
mod db_file;
mod disk;
mod error;
mod flusher;
mod handle;
mod health;
mod lead;
mod log;
mod machine;
mod mark;
mod members;
mod network;
mod options;
mod places;
pub mod recover;
mod snapshot;
pub mod swap;
mod turns;
mod types;
#[doc(hidden)]
pub mod untrusted;
mod upgrade;
mod watch;
pub mod wire;

#[cfg(test)]
mod tests;

pub use error::{OpenError, ProposeError};
pub use handle::Handle;
pub use health::{Health, SyncSummary};
pub use lead::OwnTerm;
pub use members::{Leadership, ManagerState};
pub use options::Options;
pub use seal::DataKey;
pub use snapshot::Contents;
pub use types::{Outcome, Peer, Proposal, Raft, TypeConfig};
pub use watch::{Ring, Watched, Watcher};
