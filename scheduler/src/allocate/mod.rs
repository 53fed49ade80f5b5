//! What only one may hold: subnets, VNIs, addresses.

mod addresses;
mod subnets;

pub use addresses::{Addresses, vips};
pub use subnets::network;

/// Why there is nothing to give. Names the object, the rule, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub(crate) String);
