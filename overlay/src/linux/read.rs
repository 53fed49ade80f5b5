//! What is there, as pictures.

use super::Rtnl;
use crate::{
    Error, Result,
    plan::{
        BRIDGE, GATEWAY_BRIDGE, HOST_VETH_PREFIX, HostPicture, LinkPicture, Mac, NetPicture,
        TaskPicture, VXLAN, Vxlan,
    },
};
use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::{
    AddressFamily,
    address::AddressAttribute,
    link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteType},
};
use rtnetlink::RouteMessageBuilder;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// Length of the names of the host's ends of gateway links.
const HOST_VETH_LEN: usize = 15;

#[derive(Debug, Clone)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub kind: Option<InfoKind>,
    pub up: bool,
    pub controller: Option<u32>,
    pub mac: Option<Mac>,
    pub mtu: u32,
    vxlan: Vec<InfoVxlan>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: None,
            up: message.header.flags.contains(LinkFlags::Up),
            controller: None,
            mac: None,
            mtu: 0,
            vxlan: Vec::new(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(mac) => link.mac = mac.try_into().ok(),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(kind) => link.kind = Some(kind),
                            LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = data,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}

impl Link {
    fn is_host_veth(&self) -> bool {
        self.kind == Some(InfoKind::Veth)
            && self.name.starts_with(HOST_VETH_PREFIX)
            && self.name.len() == HOST_VETH_LEN
    }

    fn port_of(&self, bridge: Option<u32>) -> bool {
        self.up && bridge.is_some() && self.controller == bridge
    }

    fn as_vxlan(&self) -> Vxlan {
        let mut vxlan = Vxlan {
            vni: 0,
            local: Ipv4Addr::UNSPECIFIED,
            port: 0,
            mtu: self.mtu,
        };
        for info in &self.vxlan {
            match info {
                InfoVxlan::Id(vni) => vxlan.vni = *vni,
                InfoVxlan::Local(addr) => vxlan.local = *addr,
                InfoVxlan::Port(port) => vxlan.port = *port,
                _ => {}
            }
        }
        vxlan
    }
}

pub(super) async fn links(rtnl: &Rtnl) -> Result<Vec<Link>> {
    rtnl.link()
        .get()
        .execute()
        .map_ok(Link::from)
        .try_collect()
        .await
        .map_err(Error::netlink("listing links"))
}

/// IPv4 addresses with their link's index.
pub(super) async fn addresses(rtnl: &Rtnl) -> Result<Vec<(u32, Ipv4Net)>> {
    let all = addresses_and_peers(rtnl).await?;
    Ok(all.into_iter().map(|(at, own, _)| (at, own)).collect())
}

/// IPv4 addresses with their link's index and, on a link that leads to one address, that.
async fn addresses_and_peers(rtnl: &Rtnl) -> Result<Vec<(u32, Ipv4Net, Ipv4Addr)>> {
    let mut request = rtnl.address().get();
    request.message_mut().header.family = AddressFamily::Inet;
    let mut found = Vec::new();
    let mut stream = std::pin::pin!(request.execute());
    while let Some(message) = stream
        .try_next()
        .await
        .map_err(Error::netlink("listing addresses"))?
    {
        let (mut own, mut peer) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(IpAddr::V4(addr)) => own = Some(*addr),
                AddressAttribute::Address(IpAddr::V4(addr)) => peer = Some(*addr),
                _ => {}
            }
        }
        if let Some(own) = own.or(peer)
            && let Ok(net) = Ipv4Net::new(own, message.header.prefix_len)
        {
            found.push((message.header.index, net, peer.unwrap_or(own)));
        }
    }
    Ok(found)
}

struct Route {
    to: Ipv4Net,
    via: Option<Ipv4Addr>,
    out: Option<u32>,
}

async fn routes(rtnl: &Rtnl) -> Result<Vec<Route>> {
    let request = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut found = Vec::new();
    let mut stream = std::pin::pin!(rtnl.route().get(request).execute());
    while let Some(message) = stream
        .try_next()
        .await
        .map_err(Error::netlink("listing routes"))?
    {
        // The local table's are of other kinds: its own addresses, known from their links' routes.
        let header = &message.header;
        if header.kind != RouteType::Unicast {
            continue;
        }
        let (mut to, mut via, mut out) = (Ipv4Addr::UNSPECIFIED, None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(addr)) => to = *addr,
                RouteAttribute::Gateway(RouteAddress::Inet(addr)) => via = Some(*addr),
                RouteAttribute::Oif(index) => out = Some(*index),
                _ => {}
            }
        }
        if let Ok(to) = Ipv4Net::new(to, header.destination_prefix_length) {
            found.push(Route { to, via, out });
        }
    }
    Ok(found)
}

/// The host's routes that aren't our links'.
///
/// # Errors
/// If netlink fails.
pub async fn host_routes(rtnl: &Rtnl) -> Result<Vec<Ipv4Net>> {
    let ours: Vec<_> = links(rtnl)
        .await?
        .into_iter()
        .filter(|l| l.name == GATEWAY_BRIDGE || l.is_host_veth())
        .map(|l| l.index)
        .collect();
    Ok(routes(rtnl)
        .await?
        .into_iter()
        .filter(|route| route.out.is_none_or(|out| !ours.contains(&out)))
        .map(|route| route.to)
        .collect())
}

/// Our links in the host's namespace. The published ports are not read here.
///
/// # Errors
/// If netlink fails.
pub async fn read_host_links(rtnl: &Rtnl) -> Result<HostPicture> {
    let links = links(rtnl).await?;
    let bridge = links
        .iter()
        .find(|l| l.name == GATEWAY_BRIDGE && l.kind == Some(InfoKind::Bridge));
    let addresses = addresses_and_peers(rtnl).await?;
    let on = |link: &Link| addresses.iter().find(|(at, ..)| *at == link.index);
    Ok(HostPicture {
        gateway: bridge
            .filter(|bridge| bridge.up)
            .and_then(|bridge| on(bridge).map(|(_, own, _)| *own)),
        veths: links
            .iter()
            .filter(|l| l.is_host_veth())
            .map(|l| {
                let peer = on(l).filter(|_| l.up).map(|(_, _, peer)| *peer);
                (l.name.clone(), peer)
            })
            .collect(),
        published: None,
    })
}

/// A network's namespace.
///
/// # Errors
/// If netlink fails.
pub async fn read_network(rtnl: &Rtnl) -> Result<NetPicture> {
    let links = links(rtnl).await?;
    let bridge = links
        .iter()
        .find(|l| l.name == BRIDGE && l.kind == Some(InfoKind::Bridge));
    let index = bridge.map(|bridge| bridge.index);
    let mut picture = NetPicture {
        bridge: bridge.is_some_and(|bridge| bridge.up),
        ports: links
            .iter()
            .filter(|l| l.kind == Some(InfoKind::Veth))
            .map(|l| (l.name.clone(), l.port_of(index)))
            .collect(),
        ..NetPicture::default()
    };
    let vxlan = links
        .iter()
        .find(|l| l.name == VXLAN && l.kind == Some(InfoKind::Vxlan));
    if let Some(link) = vxlan {
        picture.vxlan = Some((link.as_vxlan(), link.port_of(index)));
        picture.fdb = read_fdb(rtnl, link.index).await?;
        picture.neigh = read_neigh(rtnl, link.index).await?;
    }
    Ok(picture)
}

async fn read_fdb(rtnl: &Rtnl, port: u32) -> Result<BTreeMap<Mac, Ipv4Addr>> {
    let request = rtnl
        .neighbours()
        .get()
        .set_address_family(AddressFamily::Bridge);
    let mut fdb = BTreeMap::new();
    let mut stream = std::pin::pin!(request.execute());
    while let Some(message) = stream
        .try_next()
        .await
        .map_err(Error::netlink("listing forwarding entries"))?
    {
        if message.header.ifindex != port || !message.header.flags.contains(NeighbourFlags::Own) {
            continue;
        }
        let (mut mac, mut node) = (None, None);
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes).ok(),
                NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => node = Some(addr),
                NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                    node = <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
                }
                _ => {}
            }
        }
        if let (Some(mac), Some(node)) = (mac, node) {
            fdb.insert(mac, node);
        }
    }
    Ok(fdb)
}

async fn read_neigh(rtnl: &Rtnl, port: u32) -> Result<BTreeMap<Ipv4Addr, Mac>> {
    let request = rtnl
        .neighbours()
        .get()
        .set_address_family(AddressFamily::Inet);
    let mut neigh = BTreeMap::new();
    let mut stream = std::pin::pin!(request.execute());
    while let Some(message) = stream
        .try_next()
        .await
        .map_err(Error::netlink("listing neighbours"))?
    {
        let header = &message.header;
        if header.ifindex != port || header.state != NeighbourState::Permanent {
            continue;
        }
        let (mut mac, mut addr) = (None, None);
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes).ok(),
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => addr = Some(a),
                _ => {}
            }
        }
        if let (Some(mac), Some(addr)) = (mac, addr) {
            neigh.insert(addr, mac);
        }
    }
    Ok(neigh)
}

/// A task's namespace, as far as `wanted` asks: what a container made there itself is its own. VIPs
/// are not read here. A link's other end is taken to be the wanted one; its namespace tells.
///
/// # Errors
/// If netlink fails.
pub async fn read_task(rtnl: &Rtnl, wanted: &TaskPicture) -> Result<TaskPicture> {
    let (links, addresses) = (links(rtnl).await?, addresses(rtnl).await?);
    let mut picture = TaskPicture::default();
    for link in links.iter().filter(|l| l.kind == Some(InfoKind::Veth)) {
        let (Some(want), Some(mac)) = (wanted.links.get(&link.name), link.mac) else {
            continue;
        };
        let mut of_link = addresses.iter().filter(|(index, _)| *index == link.index);
        let addr = of_link.find(|(_, addr)| link.up && Some(*addr) == want.addr);
        picture.links.insert(
            link.name.clone(),
            LinkPicture {
                mac,
                mtu: want.mtu,
                addr: addr.map(|(_, addr)| *addr),
                ..want.clone()
            },
        );
    }
    picture.gateway = routes(rtnl)
        .await?
        .into_iter()
        .find_map(|route| (route.to.prefix_len() == 0).then_some(route.via))
        .flatten();
    Ok(picture)
}

/// The gateway address a task's namespace has, for adoption.
///
/// # Errors
/// If netlink fails.
pub async fn address_of(rtnl: &Rtnl, name: &str) -> Result<Option<Ipv4Net>> {
    let Some(index) = super::link::find(rtnl, name).await? else {
        return Ok(None);
    };
    Ok(addresses(rtnl)
        .await?
        .into_iter()
        .find_map(|(at, addr)| (at == index).then_some(addr)))
}
