//! Links, addresses, routes and neighbours: one or two netlink messages each.

use super::{Ns, Rtnl};
use crate::{
    Error, Result,
    plan::{BRIDGE, LinkPicture, Mac, VXLAN, Vxlan},
};
use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::{
    address::AddressAttribute,
    link::{InfoData, InfoKind, InfoVeth, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
    route::RouteScope,
};
use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};
use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd},
};

/// Whether a netlink error is this errno.
fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(e) if e.raw_code() == -errno)
}

/// Index of a link, `None` if there is no such link.
pub(super) async fn find(rtnl: &Rtnl, name: &str) -> Result<Option<u32>> {
    let mut links = rtnl.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(e) if is_errno(&e, libc::ENODEV) => Ok(None),
        Err(e) => Err(Error::netlink(format!("looking up link {name}"))(e)),
    }
}

/// Whether there is a link of this name.
///
/// # Errors
/// If netlink fails.
pub async fn link_exists(rtnl: &Rtnl, name: &str) -> Result<bool> {
    Ok(find(rtnl, name).await?.is_some())
}

async fn index(rtnl: &Rtnl, name: &str) -> Result<u32> {
    find(rtnl, name).await?.ok_or_else(|| Error::Io {
        what: format!("looking up link {name}"),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

async fn set(rtnl: &Rtnl, what: &str, message: LinkMessage) -> Result<()> {
    rtnl.link()
        .set(message)
        .execute()
        .await
        .map_err(Error::netlink(what))
}

/// Makes a link; one that is there already is no error.
async fn add(rtnl: &Rtnl, what: &str, message: LinkMessage) -> Result<()> {
    match rtnl.link().add(message).execute().await {
        Err(e) if !is_errno(&e, libc::EEXIST) => Err(Error::netlink(what)(e)),
        _ => Ok(()),
    }
}

/// Deletes a link. Nothing there is no error.
///
/// # Errors
/// The kernel's refusal.
pub async fn delete_link(rtnl: &Rtnl, name: &str) -> Result<()> {
    let message = LinkUnspec::new_with_name(name).build();
    match rtnl.link().del_with_message(message).execute().await {
        Err(e) if !is_errno(&e, libc::ENODEV) => {
            Err(Error::netlink(format!("deleting link {name}"))(e))
        }
        _ => Ok(()),
    }
}

/// Makes the bridge of a network's namespace, or brings it up.
///
/// # Errors
/// The kernel's refusal.
pub async fn make_bridge(rtnl: &Rtnl) -> Result<()> {
    let bridge = LinkBridge::new(BRIDGE).mcast_snooping(false).up().build();
    add(rtnl, "making a network's bridge", bridge).await?;
    let bridge = index(rtnl, BRIDGE).await?;
    let up = LinkUnspec::new_with_index(bridge).up().build();
    set(rtnl, "bringing up a network's bridge", up).await
}

/// Makes the VXLAN port of a network: asked of the host's namespace, so that its UDP socket is on
/// the underlay, but born in the network's (`ns`, reached by `rtnl`), in the bridge and up.
///
/// # Errors
/// The kernel's refusal, such as a VNI that somebody else uses.
pub async fn make_vxlan(host: &Rtnl, rtnl: &Rtnl, ns: &Ns, vxlan: &Vxlan) -> Result<()> {
    let bridge = index(rtnl, BRIDGE).await?;
    // No lower link: the routing table picks the way to each node.
    let message = LinkVxlan::new(VXLAN, vxlan.vni)
        .port(vxlan.port)
        .local(vxlan.local)
        .learning(false)
        .proxy(true)
        .mtu(vxlan.mtu)
        .controller(bridge)
        .setns_by_fd(ns.as_fd().as_raw_fd())
        .up()
        .build();
    host.link()
        .add(message)
        .execute()
        .await
        .map_err(Error::netlink(format!(
            "making the vxlan port of vni {} (is another program using this vni on udp port {}?)",
            vxlan.vni, vxlan.port
        )))
}

/// Puts a link into a bridge and brings it up.
///
/// # Errors
/// The kernel's refusal.
pub async fn join_bridge(rtnl: &Rtnl, name: &str, bridge: &str) -> Result<()> {
    let (port, bridge) = (index(rtnl, name).await?, index(rtnl, bridge).await?);
    let message = LinkUnspec::new_with_index(port)
        .controller(bridge)
        .up()
        .build();
    set(rtnl, &format!("putting {name} into its bridge"), message).await
}

/// Leads the host's end of a gateway link to its task: an address with a peer, which is a route too.
///
/// # Errors
/// The kernel's refusal.
pub async fn route_veth(rtnl: &Rtnl, name: &str, own: Ipv4Addr, task: Ipv4Addr) -> Result<()> {
    let index = index(rtnl, name).await?;
    let up = LinkUnspec::new_with_index(index).up().build();
    set(rtnl, &format!("bringing up {name}"), up).await?;
    let mut request = rtnl.address().add(index, own.into(), 32).replace();
    request.message_mut().attributes = vec![
        AddressAttribute::Local(own.into()),
        AddressAttribute::Address(task.into()),
    ];
    request
        .execute()
        .await
        .map_err(Error::netlink(format!("leading {name} to {task}")))
}

/// Makes the host's gateway bridge with its address, or completes it.
///
/// # Errors
/// The kernel's refusal.
pub async fn make_gateway(rtnl: &Rtnl, name: &str, addr: Ipv4Net) -> Result<()> {
    let bridge = LinkBridge::new(name).mcast_snooping(false).up().build();
    add(rtnl, "making the gateway bridge", bridge).await?;
    set_addr(rtnl, name, addr).await
}

/// Makes a task's link in one message: its own end is born in the task's namespace `ns`, named
/// and with its MAC; the other end in `rtnl`'s, in `bridge` if one is given. Then brings it up with its address by `task`.
///
/// # Errors
/// The kernel's refusal.
pub async fn make_link(
    rtnl: &Rtnl,
    bridge: Option<&str>,
    task: &Rtnl,
    ns: &Ns,
    name: &str,
    link: &LinkPicture,
) -> Result<()> {
    let bridge = match bridge {
        Some(bridge) => Some(index(rtnl, bridge).await?),
        None => None,
    };
    let what = format!("making link {name}");
    if let Err(e) = rtnl
        .link()
        .add(veth(bridge, ns, name, link))
        .execute()
        .await
    {
        if !is_errno(&e, libc::EEXIST) {
            return Err(Error::netlink(what)(e));
        }
        // A half of an earlier one, or somebody's: this name is ours in both places.
        delete_link(rtnl, &link.peer).await?;
        delete_link(task, name).await?;
        rtnl.link()
            .add(veth(bridge, ns, name, link))
            .execute()
            .await
            .map_err(Error::netlink(what))?;
    }
    match link.addr {
        // This end can't come up before the other exists, so not in the same message.
        Some(addr) => set_addr(task, name, addr).await,
        None => Ok(()),
    }
}

fn veth(bridge: Option<u32>, ns: &Ns, name: &str, link: &LinkPicture) -> LinkMessage {
    let own = LinkMessageBuilder::<LinkUnspec>::new()
        .name(name)
        .address(link.mac.to_vec())
        .mtu(link.mtu)
        .setns_by_fd(ns.as_fd().as_raw_fd())
        .build();
    let other = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(link.peer.as_str())
        .mtu(link.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(own)))
        .up();
    match bridge {
        Some(bridge) => other.controller(bridge).build(),
        None => other.build(),
    }
}

/// Brings a link up and gives it its address.
///
/// # Errors
/// The kernel's refusal.
pub async fn set_addr(rtnl: &Rtnl, name: &str, addr: Ipv4Net) -> Result<()> {
    let index = index(rtnl, name).await?;
    let up = LinkUnspec::new_with_index(index).up().build();
    set(rtnl, &format!("bringing up {name}"), up).await?;
    add_addr(rtnl, index, name, addr).await
}

async fn add_addr(rtnl: &Rtnl, index: u32, name: &str, addr: Ipv4Net) -> Result<()> {
    rtnl.address()
        .add(index, addr.addr().into(), addr.prefix_len())
        .replace()
        .execute()
        .await
        .map_err(Error::netlink(format!("giving {name} address {addr}")))
}

/// Sets the default route of a task by its link `name`. The next hop is on the link though the
/// link's address is a host address.
///
/// # Errors
/// The kernel's refusal.
pub async fn set_gateway_route(rtnl: &Rtnl, name: &str, via: Ipv4Addr) -> Result<()> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(via)
        .output_interface(index(rtnl, name).await?)
        .scope(RouteScope::Universe)
        .onlink()
        .build();
    rtnl.route()
        .add(route)
        .replace()
        .execute()
        .await
        .map_err(Error::netlink(format!(
            "setting the default route to {via}"
        )))
}

/// Sets (`Some`) or deletes forwarding entries of a network's VXLAN port.
///
/// # Errors
/// The kernel's refusal. Deleting what isn't there is no error.
pub async fn set_fdb(rtnl: &Rtnl, mac: Mac, node: Ipv4Addr, present: bool) -> Result<()> {
    let port = index(rtnl, VXLAN).await?;
    if present {
        return rtnl
            .neighbours()
            .add_bridge(port, &mac)
            .flags(NeighbourFlags::Own)
            .destination(node.into())
            .replace()
            .execute()
            .await
            .map_err(Error::netlink(format!("forwarding to node {node}")));
    }
    let mut message = NeighbourMessage::default();
    message.header.family = netlink_packet_route::AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet(node)),
    ];
    forgiving_delete(rtnl, "ending forwarding", message).await
}

/// Sets (`Some`) or deletes (`None`) the neighbour entry that proxy ARP answers with.
///
/// # Errors
/// The kernel's refusal. Deleting what isn't there is no error.
pub async fn set_neigh(rtnl: &Rtnl, addr: Ipv4Addr, mac: Option<Mac>) -> Result<()> {
    let port = index(rtnl, VXLAN).await?;
    if let Some(mac) = mac {
        return rtnl
            .neighbours()
            .add(port, addr.into())
            .link_layer_address(&mac)
            .replace()
            .execute()
            .await
            .map_err(Error::netlink(format!("setting neighbour {addr}")));
    }
    let mut message = NeighbourMessage::default();
    message.header.family = netlink_packet_route::AddressFamily::Inet;
    message.header.ifindex = port;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(
        addr,
    ))];
    forgiving_delete(rtnl, "deleting a neighbour", message).await
}

async fn forgiving_delete(rtnl: &Rtnl, what: &str, message: NeighbourMessage) -> Result<()> {
    match rtnl.neighbours().del(message).execute().await {
        Err(e) if !is_errno(&e, libc::ENOENT) => Err(Error::netlink(what)(e)),
        _ => Ok(()),
    }
}
