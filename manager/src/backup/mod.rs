//! Backups: the whole state in one file that only its passphrase opens, and a cluster made from one.
//!
//! ```text
//! state after a linearizable read ─► seal ─► open again, into a scratch store ─► clusterctl writes the file
//! the leader's keeper ─► when one is due ─► the same, into a folder of its own; what it made before and is spare goes
//! file ─► open ─► one manager with a new id, the old cluster's id and CA ─► a store made anew
//! ```
//!
//! A file is shown to be good before it is handed out: it is opened with its passphrase, restored into a store
//! of its own, and what that store then holds is compared with what was to be kept. The layout of the file:
//! `backup.proto`; what can be read of it without the passphrase: [`api::backup`].

mod keeper;
mod key;
mod make;
mod restore;
mod schedule;
mod seal;
mod serve;

pub(crate) use keeper::{Keeper, next, schedule_for};
pub use key::PASSPHRASE_MIN;
pub use make::{MakeError, Maker};
pub use restore::{Host, Restored};
pub(crate) use schedule::check;
pub use seal::{OpenError, open};
pub(crate) use serve::{backup, check_passphrase};
