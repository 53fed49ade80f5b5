//! An overlay network.

use super::{Labels, Meta, NetworkId};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// An overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its identity.
    pub id: NetworkId,
    /// Revision and times.
    pub meta: Meta,
    /// What the user asked for.
    pub spec: NetworkSpec,
    /// VXLAN network identifier, 1 to 2^24-1, held by no other network.
    pub vni: u32,
    /// Its addresses; overlaps no other network's.
    pub subnet: Ipv4Net,
}

/// What the user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Unique in the cluster; `stack_name` for a stack's own.
    pub name: String,
    /// The stack that owns it.
    pub stack: Option<String>,
    /// Free labels.
    pub labels: Labels,
    /// A wished subnet.
    pub subnet: Option<Ipv4Net>,
    /// No way out to the world.
    pub internal: bool,
    /// Whether single containers may join (kept and shown; every network here can be joined by services).
    pub attachable: bool,
}
