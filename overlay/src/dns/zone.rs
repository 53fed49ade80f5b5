//! The names of networks, and what they mean to one task. Pure.
//!
//! Order of meaning: the task's own names; then its networks in order, the first that knows the
//! name; where one name means several services, those of the asker's own stack. `name.network` asks
//! one network. Upper and lower case are one. Only ready endpoints have names, except for itself.

use crate::{Network, NetworkId, TaskNet, View};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

/// What a question comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// A known name, with its addresses: none if nothing behind it is ready.
    Addresses(Vec<Ipv4Addr>),
    /// The name of an address.
    Pointer(String),
    /// Not ours: ask the node's servers.
    Elsewhere,
}

/// What one owner of a name answers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    stack: Option<String>,
    addrs: Vec<Ipv4Addr>,
}

/// All names of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetZone {
    /// The network's name in lower case.
    domain: String,
    names: HashMap<String, Vec<Group>>,
    reverse: HashMap<Ipv4Addr, String>,
}

/// The zones of all networks.
pub type Zones = BTreeMap<NetworkId, Arc<NetZone>>;

impl NetZone {
    /// The zone of `network`.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        let mut zone = Self {
            domain: network.name.to_ascii_lowercase(),
            ..Self::default()
        };
        let mut ready: BTreeMap<_, Vec<Ipv4Addr>> = BTreeMap::new();
        for endpoint in network.endpoints.values() {
            if let Some(name) = endpoint.names.first() {
                zone.reverse
                    .insert(endpoint.addr, format!("{name}.{}", network.name));
            }
            if !endpoint.ready {
                continue;
            }
            let service = endpoint.service.as_ref();
            let stack = service
                .and_then(|id| network.services.get(id))
                .and_then(|service| service.stack.as_deref());
            let names: BTreeSet<_> = endpoint.names.iter().chain(&endpoint.aliases).collect();
            for name in names {
                zone.add(name, stack, &[endpoint.addr]);
            }
            if let Some(service) = service {
                ready.entry(service).or_default().push(endpoint.addr);
            }
        }
        for (id, service) in &network.services {
            let tasks = ready.remove(id).unwrap_or_default();
            let stack = service.stack.as_deref();
            let names: BTreeSet<_> = service.names.iter().collect();
            for name in names {
                match &service.vip {
                    Some(vip) => zone.add(name, stack, &[*vip]),
                    None => zone.add(name, stack, &tasks),
                }
                zone.add(&format!("tasks.{name}"), stack, &tasks);
            }
            if let (Some(vip), Some(name)) = (service.vip, service.names.first()) {
                zone.reverse.insert(vip, format!("{name}.{}", network.name));
            }
        }
        zone
    }

    fn add(&mut self, name: &str, stack: Option<&str>, addrs: &[Ipv4Addr]) {
        let groups = self.names.entry(name.to_ascii_lowercase()).or_default();
        groups.push(Group {
            stack: stack.map(str::to_owned),
            addrs: addrs.to_vec(),
        });
    }

    fn lookup(&self, name: &str, stack: Option<&str>) -> Option<Vec<Ipv4Addr>> {
        let groups = self.names.get(name)?;
        let own = |group: &&Group| stack.is_some() && group.stack.as_deref() == stack;
        let any_own = groups.iter().any(|group| own(&group));
        let mut addrs: Vec<_> = groups
            .iter()
            .filter(|group| !any_own || own(group))
            .flat_map(|group| group.addrs.iter().copied())
            .collect();
        addrs.sort_unstable();
        addrs.dedup();
        Some(addrs)
    }
}

/// Zones of all networks of a view; those of `old` are kept where the network is the same object.
#[must_use]
pub fn zones(view: &View, old: Option<(&View, &Zones)>) -> Zones {
    view.networks
        .iter()
        .map(|(id, network)| {
            let kept = old.and_then(|(old_view, old_zones)| {
                let same = Arc::ptr_eq(old_view.networks.get(id)?, network);
                old_zones.get(id).filter(|_| same).cloned()
            });
            let zone = kept.unwrap_or_else(|| Arc::new(NetZone::new(network)));
            (id.clone(), zone)
        })
        .collect()
}

/// Who asks: one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Its own names, in lower case.
    own: BTreeSet<String>,
    /// Names it has on one network only, in lower case.
    aliases: BTreeSet<(String, Ipv4Addr)>,
    networks: Vec<(NetworkId, Ipv4Addr)>,
    stack: Option<String>,
}

impl Asker {
    /// For a task; `view` tells which stack it is of.
    #[must_use]
    pub fn new(task: &TaskNet, view: &View) -> Self {
        let stack = task.networks.iter().find_map(|attachment| {
            let network = view.networks.get(&attachment.network)?;
            let service = network.endpoints.get(&task.id)?.service.as_ref()?;
            network.services.get(service)?.stack.clone()
        });
        let lower = |name: &String| name.to_ascii_lowercase();
        let mut own: BTreeSet<_> = task.names.iter().map(lower).collect();
        own.insert(lower(&task.hostname));
        own.insert(task.id.as_str().to_ascii_lowercase());
        own.remove("");
        Self {
            own,
            aliases: task
                .networks
                .iter()
                .flat_map(|a| a.aliases.iter().map(|name| (lower(name), a.addr)))
                .collect(),
            networks: task
                .networks
                .iter()
                .map(|a| (a.network.clone(), a.addr))
                .collect(),
            stack,
        }
    }

    /// What `name` (any case, with or without the last dot) means to this task.
    #[must_use]
    pub fn forward(&self, zones: &Zones, name: &str) -> Meaning {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Some(first) = self.own_addrs(&name, None) {
            return Meaning::Addresses(first);
        }
        let mine = || {
            self.networks
                .iter()
                .filter_map(|(id, addr)| Some((zones.get(id)?, *addr)))
        };
        for (zone, _) in mine() {
            if let Some(addrs) = zone.lookup(&name, self.stack.as_deref()) {
                return Meaning::Addresses(addrs);
            }
        }
        for (zone, addr) in mine() {
            let short = name
                .strip_suffix(zone.domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'));
            let Some(short) = short.filter(|_| !zone.domain.is_empty()) else {
                continue;
            };
            let found = self
                .own_addrs(short, Some(addr))
                .or_else(|| zone.lookup(short, self.stack.as_deref()));
            if let Some(addrs) = found {
                return Meaning::Addresses(addrs);
            }
        }
        // An alias may be shared with others, who count first; alone, it is this task.
        let alias = self.aliases.iter().find(|(alias, _)| *alias == name);
        alias.map_or(Meaning::Elsewhere, |(_, addr)| {
            Meaning::Addresses(vec![*addr])
        })
    }

    /// Its own address for one of its own names: on its first network (`only`: on this one). A task
    /// without networks has its hosts file.
    fn own_addrs(&self, name: &str, only: Option<Ipv4Addr>) -> Option<Vec<Ipv4Addr>> {
        if !self.own.contains(name) {
            return None;
        }
        only.or_else(|| self.networks.first().map(|(_, addr)| *addr))
            .map(|addr| vec![addr])
    }

    /// The name of an address of this task's networks.
    #[must_use]
    pub fn reverse(&self, zones: &Zones, addr: Ipv4Addr) -> Meaning {
        self.networks
            .iter()
            .filter_map(|(id, _)| zones.get(id))
            .find_map(|zone| zone.reverse.get(&addr))
            .map_or(Meaning::Elsewhere, |name| Meaning::Pointer(name.clone()))
    }
}

/// The address that a reverse name (`4.3.2.1.in-addr.arpa`) asks for.
#[must_use]
pub fn reverse_name(name: &str) -> Option<Ipv4Addr> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let addr: Ipv4Addr = name.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [a, b, c, d] = addr.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
