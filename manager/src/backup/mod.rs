//! Backups: the whole state in one file that only its passphrase opens, and a cluster made from one.
//!
//! ```text
//! state after a linearizable read ─► seal ─► open again, into a scratch store ─► clusterctl writes the file
//! file ─► open ─► one manager with a new id, the old cluster's id and CA ─► a store made anew
//! ```
//!
//! A file is shown to be good before it is handed out: it is opened with its passphrase, restored into a store
//! of its own, and what that store then holds is compared with what was to be kept. The layout of the file:
//! `backup.proto`; what can be read of it without the passphrase: [`api::backup`].

mod key;
mod make;
mod restore;
mod seal;
mod serve;

pub use key::PASSPHRASE_MIN;
pub use make::{MakeError, Maker};
pub use restore::{Host, Restored};
pub use seal::{OpenError, open};
pub(crate) use serve::backup;
