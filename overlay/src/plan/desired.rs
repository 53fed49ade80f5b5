//! The desired picture, from the view and the local tasks.

use super::{
    GATEWAY_IF, HostPicture, LinkPicture, NetPicture, PeerAt, Picture, TaskPicture, VipTable,
    Vxlan, gateway_of, host_veth, mac_of, network_port, vip_table,
};
use crate::{Network, NetworkId, TaskNet, View};
use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

/// Room that VXLAN's headers take from the underlay's MTU, bytes.
const VXLAN_OVERHEAD: u32 = 50;

/// What the plan must know of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeParams {
    /// This node's VXLAN source address.
    pub vtep: Ipv4Addr,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// MTU of the underlay link, bytes.
    pub underlay_mtu: u32,
    /// The gateway bridge's subnet.
    pub pool: Ipv4Net,
}

impl NodeParams {
    /// MTU on overlay networks, bytes.
    #[must_use]
    pub fn overlay_mtu(&self) -> u32 {
        self.underlay_mtu.saturating_sub(VXLAN_OVERHEAD)
    }
}

/// A task of this node.
#[derive(Debug, Clone)]
pub struct Local {
    /// What the agent asked for.
    pub net: Arc<TaskNet>,
    /// Its address on the gateway bridge.
    pub gateway_addr: Ipv4Addr,
    /// Whether its namespace is complete. One being attached only keeps its networks in use and its
    /// ports from being taken for leftovers.
    pub attached: bool,
}

/// Adds to `desired` what was inherited beyond it, so that nothing of it is removed: before all tasks
/// of the node are known, an unknown one is no leftover.
pub fn tolerate(desired: &mut Picture, inherited: &Picture) {
    fn keep<K: Ord + Clone, V: Clone>(into: &mut BTreeMap<K, V>, from: &BTreeMap<K, V>) {
        for (key, value) in from {
            into.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    keep(&mut desired.host.veths, &inherited.host.veths);
    if let (Some(want), Some(have)) = (&mut desired.host.published, &inherited.host.published) {
        keep(want, have);
    }
    for (vni, have) in &inherited.networks {
        let want = desired.networks.entry(*vni).or_insert_with(|| have.clone());
        keep(&mut want.ports, &have.ports);
    }
    keep(&mut desired.tasks, &inherited.tasks);
}

/// What should be on this node.
#[must_use]
pub fn desired<'a>(
    params: &NodeParams,
    view: &View,
    locals: impl IntoIterator<Item = &'a Local>,
) -> Picture {
    let mut picture = Picture {
        host: HostPicture {
            gateway: Ipv4Net::new(gateway_of(params.pool), params.pool.prefix_len()).ok(),
            published: Some(BTreeMap::new()),
            ..HostPicture::default()
        },
        ..Picture::default()
    };
    // Most tasks of a node are on the same networks, and then have the same VIPs.
    let mut vips: BTreeMap<Vec<&NetworkId>, Arc<VipTable>> = BTreeMap::new();
    for local in locals {
        let task = &local.net;
        let veth = host_veth(&task.id);
        picture.host.veths.insert(veth, Some(local.gateway_addr));
        for attachment in &task.networks {
            if let Some(network) = view.networks.get(&attachment.network) {
                picture
                    .networks
                    .entry(network.vni)
                    .or_insert_with(|| network_picture(params, network))
                    .ports
                    .insert(network_port(&task.id), true);
            }
        }
        if local.attached {
            let networks = task.networks.iter().map(|a| &a.network).collect();
            let vips = vips
                .entry(networks)
                .or_insert_with(|| Arc::new(vip_table(view, task)));
            let pictured = task_picture(params, view, local, vips.clone());
            picture.tasks.insert(task.id.clone(), pictured);
            let gateway = local.gateway_addr;
            let published = picture.host.published.get_or_insert_default();
            for port in &task.ports {
                published.insert(
                    (port.protocol, port.published),
                    SocketAddrV4::new(gateway, port.target),
                );
            }
        }
    }
    picture
}

fn network_picture(params: &NodeParams, network: &Network) -> NetPicture {
    let mut picture = NetPicture {
        bridge: true,
        vxlan: Some((
            Vxlan {
                vni: network.vni,
                local: params.vtep,
                port: params.vxlan_port,
                mtu: params.overlay_mtu(),
            },
            true,
        )),
        ..NetPicture::default()
    };
    for endpoint in network.endpoints.values() {
        if endpoint.node != params.vtep {
            let mac = mac_of(endpoint.addr);
            picture.fdb.insert(mac, endpoint.node);
            picture.neigh.insert(endpoint.addr, mac);
        }
    }
    picture
}

/// One task's namespace.
fn task_picture(
    params: &NodeParams,
    view: &View,
    local: &Local,
    vips: Arc<VipTable>,
) -> TaskPicture {
    let task = &local.net;
    let mut picture = TaskPicture {
        gateway: Some(gateway_of(params.pool)),
        vips: Some(vips),
        ..TaskPicture::default()
    };
    picture.links.insert(
        GATEWAY_IF.to_owned(),
        LinkPicture {
            at: PeerAt::Host,
            peer: host_veth(&task.id),
            mac: mac_of(local.gateway_addr),
            mtu: params.underlay_mtu,
            // A host address: everything, other tasks too, is reached through the host alone.
            addr: Ipv4Net::new(local.gateway_addr, 32).ok(),
        },
    );
    for (index, attachment) in task.networks.iter().enumerate() {
        let Some(network) = view.networks.get(&attachment.network) else {
            continue;
        };
        picture.links.insert(
            format!("eth{index}"),
            LinkPicture {
                at: PeerAt::Network(network.vni),
                peer: network_port(&task.id),
                mac: mac_of(attachment.addr),
                mtu: params.overlay_mtu(),
                addr: Ipv4Net::new(attachment.addr, network.subnet.prefix_len()).ok(),
            },
        );
    }
    picture
}
