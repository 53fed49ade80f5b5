//! The vocabulary every other crate speaks.
//!
//! - [`model`]: the objects of a cluster, spec and status.
//! - [`state`]: their tables, and `apply(transaction) -> events`. Deterministic, no I/O.
//! - [`proto`]: the wire and the log, as protobuf.
//! - [`convert`]: model to proto and back, round-trip tested.
//! - [`manifest`]: a Compose file to specs, every key honoured or refused by name.
//! - [`backup`]: a backup's file, as far as it can be read without its passphrase.
//!
//! Depends on none of our other crates.

pub mod backup;
pub mod convert;
pub mod manifest;
pub mod model;
pub mod proto;
#[cfg(feature = "sabotage")]
pub mod sabotage;
pub mod state;
