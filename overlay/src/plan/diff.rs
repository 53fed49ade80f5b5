//! The way from what is there to what is wanted, in the order in which it can be gone.

use super::{
    HostPicture, LinkPicture, Mac, NetPicture, PeerAt, Picture, TaskPicture, VipChange, VipTable,
    Vxlan, vip_change,
};
use crate::{Protocol, TaskId};
use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Make the gateway bridge (or bring it up, or give it its address), and what the host needs to
    /// forward.
    MakeGateway(Ipv4Net),
    /// Bring up a host end of a gateway link and lead it to this task's address.
    RouteVeth(String, Ipv4Addr),
    /// Delete a host end of a gateway link.
    DeleteVeth(String),
    /// Make our table anew, with these published ports.
    ResetTable(BTreeMap<(Protocol, u16), SocketAddrV4>),
    /// Change published ports.
    Publish {
        /// New or changed.
        add: BTreeMap<(Protocol, u16), SocketAddrV4>,
        /// Gone, with what they led to.
        del: BTreeMap<(Protocol, u16), SocketAddrV4>,
    },
    /// Make the namespace of a network.
    MakeNetwork(u32),
    /// Change a network's namespace.
    Network(u32, NetOp),
    /// Remove the namespace of a network.
    DropNetwork(u32),
    /// Make the namespace of a task.
    MakeTask(TaskId),
    /// Change a task's namespace.
    Task(TaskId, TaskOp),
    /// Remove the namespace of a task.
    DropTask(TaskId),
}

/// One step in a network's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetOp {
    /// Make the bridge or bring it up.
    MakeBridge,
    /// Make the VXLAN port, in the bridge and up.
    MakeVxlan(Vxlan),
    /// Delete the VXLAN port, and its entries with it.
    DeleteVxlan,
    /// Put the VXLAN port back into the bridge and up.
    JoinVxlan,
    /// Put a task's port back into the bridge and up.
    JoinPort(String),
    /// Delete a task's port.
    DeletePort(String),
    /// Set a forwarding entry, in place of another node's.
    SetFdb(Mac, Ipv4Addr),
    /// Delete a forwarding entry.
    DelFdb(Mac, Ipv4Addr),
    /// Set a neighbour entry.
    SetNeigh(Ipv4Addr, Mac),
    /// Delete a neighbour entry.
    DelNeigh(Ipv4Addr),
}

/// One step in a task's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskOp {
    /// Make a link, both ends, complete; an old one of this name goes first.
    MakeLink(String, LinkPicture),
    /// Bring a link up and give it its address.
    SetAddr(String, Ipv4Net),
    /// Set the default route.
    SetGateway(Ipv4Addr),
    /// Change the VIPs.
    Vips(VipChange),
}

/// Steps from `actual` to `desired`. What serves is made before what needs it, and new entries come
/// before old ones go.
#[must_use]
pub fn diff(desired: &Picture, actual: &Picture) -> Vec<Op> {
    let mut ops = Vec::new();
    diff_host(&desired.host, &actual.host, &mut ops);
    for (vni, network) in &desired.networks {
        let there = actual.networks.get(vni);
        if there.is_none() {
            ops.push(Op::MakeNetwork(*vni));
        }
        let steps = diff_network(network, there.unwrap_or(&NetPicture::default()));
        ops.extend(steps.into_iter().map(|op| Op::Network(*vni, op)));
    }
    for (id, task) in &desired.tasks {
        let there = actual.tasks.get(id);
        if there.is_none() {
            ops.push(Op::MakeTask(id.clone()));
        }
        let steps = diff_task(task, there.unwrap_or(&TaskPicture::default()), actual);
        ops.extend(steps.into_iter().map(|op| Op::Task(id.clone(), op)));
    }
    // Ports lead to tasks, so they come when tasks are there.
    match (&desired.host.published, &actual.host.published) {
        (Some(want), None) => ops.push(Op::ResetTable(want.clone())),
        (Some(want), Some(have)) if want != have => ops.push(publish(want, have)),
        _ => {}
    }
    for id in actual.tasks.keys() {
        if !desired.tasks.contains_key(id) {
            ops.push(Op::DropTask(id.clone()));
        }
    }
    for vni in actual.networks.keys() {
        if !desired.networks.contains_key(vni) {
            ops.push(Op::DropNetwork(*vni));
        }
    }
    ops
}

fn diff_host(desired: &HostPicture, actual: &HostPicture, ops: &mut Vec<Op>) {
    for name in actual.veths.keys() {
        if !desired.veths.contains_key(name) {
            ops.push(Op::DeleteVeth(name.clone()));
        }
    }
    if let Some(addr) = desired.gateway
        && actual.gateway != Some(addr)
    {
        ops.push(Op::MakeGateway(addr));
    }
    for (name, leads_to) in &actual.veths {
        if let Some(Some(addr)) = desired.veths.get(name)
            && *leads_to != Some(*addr)
        {
            ops.push(Op::RouteVeth(name.clone(), *addr));
        }
    }
}

fn publish(
    want: &BTreeMap<(Protocol, u16), SocketAddrV4>,
    have: &BTreeMap<(Protocol, u16), SocketAddrV4>,
) -> Op {
    let only = |a: &BTreeMap<(Protocol, u16), SocketAddrV4>,
                b: &BTreeMap<(Protocol, u16), SocketAddrV4>| {
        a.iter()
            .filter(|(k, v)| b.get(*k) != Some(*v))
            .map(|(k, v)| (*k, *v))
            .collect()
    };
    Op::Publish {
        add: only(want, have),
        del: only(have, want),
    }
}

/// Steps within one network's namespace.
#[must_use]
pub fn diff_network(desired: &NetPicture, actual: &NetPicture) -> Vec<NetOp> {
    let mut ops = Vec::new();
    for name in actual.ports.keys() {
        if !desired.ports.contains_key(name) {
            ops.push(NetOp::DeletePort(name.clone()));
        }
    }
    if desired.bridge && !actual.bridge {
        ops.push(NetOp::MakeBridge);
    }
    let mut entries_survive = true;
    match (desired.vxlan, actual.vxlan) {
        (Some((want, _)), Some((have, joined))) if want == have => {
            if !joined {
                ops.push(NetOp::JoinVxlan);
            }
        }
        (Some((want, _)), have) => {
            if have.is_some() {
                ops.push(NetOp::DeleteVxlan);
            }
            ops.push(NetOp::MakeVxlan(want));
            entries_survive = false;
        }
        (None, Some(_)) => {
            ops.push(NetOp::DeleteVxlan);
            entries_survive = false;
        }
        (None, None) => {}
    }
    for (name, joined) in &actual.ports {
        if !joined && desired.ports.contains_key(name) {
            ops.push(NetOp::JoinPort(name.clone()));
        }
    }
    let (no_fdb, no_neigh) = (BTreeMap::new(), BTreeMap::new());
    let (fdb, neigh) = if entries_survive {
        (&actual.fdb, &actual.neigh)
    } else {
        (&no_fdb, &no_neigh)
    };
    for (mac, node) in &desired.fdb {
        if fdb.get(mac) != Some(node) {
            ops.push(NetOp::SetFdb(*mac, *node));
        }
    }
    for (addr, mac) in &desired.neigh {
        if neigh.get(addr) != Some(mac) {
            ops.push(NetOp::SetNeigh(*addr, *mac));
        }
    }
    for (mac, node) in fdb {
        if !desired.fdb.contains_key(mac) {
            ops.push(NetOp::DelFdb(*mac, *node));
        }
    }
    for addr in neigh.keys() {
        if !desired.neigh.contains_key(addr) {
            ops.push(NetOp::DelNeigh(*addr));
        }
    }
    ops
}

/// Steps within one task's namespace. `whole` says whether the links' other ends are there.
#[must_use]
pub fn diff_task(desired: &TaskPicture, actual: &TaskPicture, whole: &Picture) -> Vec<TaskOp> {
    let mut ops = Vec::new();
    let mut gateway = actual.gateway;
    for (name, want) in &desired.links {
        let have = actual.links.get(name).filter(|have| {
            (&have.at, &have.peer, have.mac) == (&want.at, &want.peer, want.mac)
                && peer_there(want, whole)
        });
        match have {
            None => {
                ops.push(TaskOp::MakeLink(name.clone(), want.clone()));
                // Whatever went over the old link went with it.
                if want.at == PeerAt::Host {
                    gateway = None;
                }
            }
            Some(have) => {
                if let Some(addr) = want.addr
                    && have.addr != want.addr
                {
                    ops.push(TaskOp::SetAddr(name.clone(), addr));
                    if want.at == PeerAt::Host {
                        gateway = None;
                    }
                }
            }
        }
    }
    if let Some(via) = desired.gateway
        && gateway != desired.gateway
    {
        ops.push(TaskOp::SetGateway(via));
    }
    if let Some(want) = &desired.vips
        && let Some(change) = vip_change(want, actual.vips.as_deref())
    {
        ops.push(TaskOp::Vips(change));
    }
    ops
}

fn peer_there(link: &LinkPicture, whole: &Picture) -> bool {
    match link.at {
        PeerAt::Host => whole.host.veths.contains_key(&link.peer),
        PeerAt::Network(vni) => whole
            .networks
            .get(&vni)
            .is_some_and(|network| network.ports.contains_key(&link.peer)),
    }
}

/// What a step does to a picture. The engine keeps its picture up to date with it; a test says that
/// `diff` gets where it should.
pub fn apply(op: &Op, picture: &mut Picture) {
    match op {
        Op::MakeGateway(addr) => {
            picture.host.gateway = Some(*addr);
        }
        Op::RouteVeth(name, addr) => {
            picture.host.veths.insert(name.clone(), Some(*addr));
        }
        Op::DeleteVeth(name) => {
            picture.host.veths.remove(name);
        }
        Op::ResetTable(ports) => picture.host.published = Some(ports.clone()),
        Op::Publish { add, del } => {
            let published = picture.host.published.get_or_insert_default();
            published.retain(|key, _| !del.contains_key(key));
            published.extend(add);
        }
        Op::MakeNetwork(vni) => {
            picture.networks.insert(*vni, NetPicture::default());
        }
        Op::Network(vni, op) => {
            apply_network(op, picture.networks.entry(*vni).or_default());
        }
        Op::DropNetwork(vni) => {
            picture.networks.remove(vni);
        }
        Op::MakeTask(id) => {
            picture.tasks.insert(id.clone(), TaskPicture::default());
        }
        Op::Task(id, op) => apply_task(id, op, picture),
        Op::DropTask(id) => {
            picture.tasks.remove(id);
        }
    }
}

fn apply_network(op: &NetOp, network: &mut NetPicture) {
    match op {
        NetOp::MakeBridge => network.bridge = true,
        NetOp::MakeVxlan(vxlan) => {
            network.vxlan = Some((*vxlan, true));
            network.fdb.clear();
            network.neigh.clear();
        }
        NetOp::DeleteVxlan => {
            network.vxlan = None;
            network.fdb.clear();
            network.neigh.clear();
        }
        NetOp::JoinVxlan => {
            if let Some((_, joined)) = &mut network.vxlan {
                *joined = true;
            }
        }
        NetOp::JoinPort(name) => {
            network.ports.insert(name.clone(), true);
        }
        NetOp::DeletePort(name) => {
            network.ports.remove(name);
        }
        NetOp::SetFdb(mac, node) => {
            network.fdb.insert(*mac, *node);
        }
        NetOp::DelFdb(mac, _) => {
            network.fdb.remove(mac);
        }
        NetOp::SetNeigh(addr, mac) => {
            network.neigh.insert(*addr, *mac);
        }
        NetOp::DelNeigh(addr) => {
            network.neigh.remove(addr);
        }
    }
}

fn apply_task(id: &TaskId, op: &TaskOp, picture: &mut Picture) {
    let task = picture.tasks.entry(id.clone()).or_default();
    match op {
        TaskOp::MakeLink(name, link) => {
            task.links.insert(name.clone(), link.clone());
            match link.at {
                PeerAt::Host => {
                    let addr = link.addr.map(|net| net.addr());
                    picture.host.veths.insert(link.peer.clone(), addr);
                }
                PeerAt::Network(vni) => {
                    let network = picture.networks.entry(vni).or_default();
                    network.ports.insert(link.peer.clone(), true);
                }
            }
        }
        TaskOp::SetAddr(name, addr) => {
            if let Some(link) = task.links.get_mut(name) {
                link.addr = Some(*addr);
            }
        }
        TaskOp::SetGateway(via) => task.gateway = Some(*via),
        TaskOp::Vips(change) => {
            let table = Arc::make_mut(task.vips.get_or_insert_default());
            if change.reset {
                *table = VipTable::new();
            }
            table.retain(|vip, _| !change.del.contains(vip));
            table.extend(change.set.clone());
        }
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
