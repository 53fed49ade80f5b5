//! What `inspect` shows.

use crate::{NetworkId, Protocol, TaskId};
use ipnet::Ipv4Net;
use serde::Serialize;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// The overlay of this node, as it was last known to be.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Whether leftovers are being removed (see [`Overlay::ready`](crate::Overlay::ready)).
    pub ready: bool,
    /// This node's VXLAN source address.
    pub vtep: Ipv4Addr,
    /// The link that carries the overlay's packets.
    pub underlay: String,
    /// MTU of overlay networks, bytes.
    pub mtu: u32,
    /// Subnet of the gateway bridge.
    pub gateway_pool: Ipv4Net,
    /// Published ports: port and protocol, and where they lead.
    pub published: BTreeMap<String, String>,
    /// Networks in use.
    pub networks: Vec<NetworkStatus>,
    /// Tasks.
    pub tasks: Vec<TaskStatus>,
    /// What couldn't be done at the last try; empty when all is as wanted.
    pub problems: Vec<String>,
}

/// A network in use on this node.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkStatus {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its VNI.
    pub vni: u32,
    /// Endpoints of this node.
    pub local: usize,
    /// Endpoints of other nodes that packets are forwarded to.
    pub remote: usize,
}

/// A task of this node.
#[derive(Debug, Clone, Serialize)]
pub struct TaskStatus {
    /// Its id.
    pub id: TaskId,
    /// Whether it is complete.
    pub attached: bool,
    /// Its address on the gateway bridge.
    pub gateway_addr: Ipv4Addr,
    /// Its address on each network.
    pub addrs: BTreeMap<NetworkId, Ipv4Addr>,
}

/// How a published port is written.
pub(super) fn port_label(protocol: Protocol, port: u16) -> String {
    format!("{port}/{protocol}")
}
