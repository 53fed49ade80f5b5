//! What a manager keeps on its disk, encrypted; and the key to it.
//!
//! ```text
//! unlock key, or a key in the file ──wraps──► data key ──seals──► log, snapshots, the node's private key
//! ```
//!
//! - `data.rs`: [`DataKey`] seals bytes for the place that they are kept at, so that nothing can be moved.
//! - `keys.rs`: [`Keys`], the file that holds the data key; `format.rs`: its bytes.
//!
//! Knows nothing of Raft, of nodes, or of what is sealed. What doesn't open is never passed on.

mod data;
mod format;
mod keys;

pub use data::{DataKey, OVERHEAD};
pub use keys::{Found, Keys, Locked, UnlockError, remove};

/// Bytes of a key.
pub const KEY: usize = 32;
