//! A picture of this node's networking: what is wanted, or what is there.

use super::VipTable;
use crate::{Protocol, TaskId};
use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

/// A link-layer address.
pub type Mac = [u8; 6];

/// Everything of ours on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// The host's namespace.
    pub host: HostPicture,
    /// One namespace per network in use, by VNI.
    pub networks: BTreeMap<u32, NetPicture>,
    /// One namespace per task.
    pub tasks: BTreeMap<TaskId, TaskPicture>,
}

/// The host's namespace: only what is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPicture {
    /// Address of the gateway bridge, if the bridge is there, up and addressed.
    pub gateway: Option<Ipv4Net>,
    /// Host ends of the tasks' gateway links, and the task's address that each leads to; `None` if it
    /// is down or leads nowhere.
    pub veths: BTreeMap<String, Option<Ipv4Addr>>,
    /// Published ports in our table; `None` if the table isn't there or isn't as we made it.
    pub published: Option<BTreeMap<(Protocol, u16), SocketAddrV4>>,
}

/// The VXLAN port of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// Source address on the underlay.
    pub local: Ipv4Addr,
    /// UDP port.
    pub port: u16,
    /// MTU, bytes.
    pub mtu: u32,
}

/// The namespace of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetPicture {
    /// Whether the bridge is there and up.
    pub bridge: bool,
    /// The VXLAN port, and whether it is a live port of the bridge.
    pub vxlan: Option<(Vxlan, bool)>,
    /// Tasks' ports, and whether each is a live port of the bridge.
    pub ports: BTreeMap<String, bool>,
    /// Forwarding entries: which node has a MAC.
    pub fdb: BTreeMap<Mac, Ipv4Addr>,
    /// Neighbour entries: what proxy ARP answers.
    pub neigh: BTreeMap<Ipv4Addr, Mac>,
}

/// Where the other end of a task's link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAt {
    /// In the namespace of the network with this VNI.
    Network(u32),
    /// In the host's namespace.
    Host,
}

/// A link in a task's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPicture {
    /// Where the other end is.
    pub at: PeerAt,
    /// Name of the other end.
    pub peer: String,
    /// Link-layer address.
    pub mac: Mac,
    /// MTU, bytes; only set when the link is made, a container may lower it.
    pub mtu: u32,
    /// Its address with prefix; `None` if it has none of ours or is down.
    pub addr: Option<Ipv4Net>,
}

/// The namespace of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskPicture {
    /// Links by name.
    pub links: BTreeMap<String, LinkPicture>,
    /// Next hop of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// VIPs, shared by tasks of the same networks; `None` if the table isn't there or somebody changed it.
    pub vips: Option<Arc<VipTable>>,
}
