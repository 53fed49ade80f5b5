//! The cluster as this node sees it: the networks its tasks are on.
//!
//! Networks are shared by pointer, so that handing over a view in which one network changed costs
//! one network.

use crate::{NetworkId, ServiceId, TaskId};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

/// Desired picture of all networks this node takes part in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Networks by id.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
}

/// One network and everything on it, on all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Name, appended to others' names as a domain (`redis.demo`).
    pub name: String,
    /// VXLAN network identifier, 1 to 2^24 - 1.
    pub vni: u32,
    /// Subnet of its endpoints and VIPs.
    pub subnet: Ipv4Net,
    /// One entry per task that is not yet removed, by task.
    pub endpoints: BTreeMap<TaskId, Endpoint>,
    /// Services by id.
    pub services: BTreeMap<ServiceId, Service>,
}

/// A task's place on a network, here or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address on the network; its MAC address follows from it.
    pub addr: Ipv4Addr,
    /// Advertise address (VTEP) of the node it runs on.
    pub node: Ipv4Addr,
    /// Service it belongs to, if any.
    pub service: Option<ServiceId>,
    /// Task names; the first is what its address resolves back to.
    pub names: Vec<String>,
    /// Further names of this one task.
    pub aliases: Vec<String>,
    /// Whether names and VIPs lead to it. Packets reach it either way.
    pub ready: bool,
}

/// A service on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Full name first (`shop_redis`), then short names and aliases.
    pub names: Vec<String>,
    /// Stack it belongs to: where a short name means two services, the asker's own stack wins.
    pub stack: Option<String>,
    /// Virtual address; `None` is DNS round robin (names give the tasks' addresses).
    pub vip: Option<Ipv4Addr>,
}
