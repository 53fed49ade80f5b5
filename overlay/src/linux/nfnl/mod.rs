//! nf_tables spoken directly, for the rules inside tasks' namespaces.
//!
//! A node has one small table per task, changed whenever any task of its networks comes or goes.
//! A process per change would cost more than all else together, so these go over a netlink socket
//! born in the namespace and kept. (The host's own table changes rarely and is text for `nft`.)

mod batch;
mod socket;
mod vips;

pub use socket::NftSocket;
pub use vips::TABLE;
