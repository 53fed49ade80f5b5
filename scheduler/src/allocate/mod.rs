//! What only one may hold: subnets and VNIs of networks, addresses on them, published ports of nodes.
//!
//! All of it is chosen from the state alone, and checked by `apply`: two managers that choose at the same time
//! can't both succeed.

mod addresses;
mod ports;
mod subnets;
mod vips;
mod vnis;

pub use subnets::network;
pub use vips::vips;

pub(crate) use addresses::Addresses;
pub(crate) use ports::Ports;

/// Why there is nothing to give. Names the object, the rule, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub(crate) String);
