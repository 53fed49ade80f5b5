//! Virtual addresses: which endpoints stand behind each.

use crate::{Network, TaskNet, View};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// VIP to the ready endpoints' addresses, sorted. An empty list refuses connections.
pub type VipTable = BTreeMap<Ipv4Addr, Vec<Ipv4Addr>>;

/// A change of a namespace's VIPs, performed as one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VipChange {
    /// Start from an empty table.
    pub reset: bool,
    /// VIPs that are new or changed.
    pub set: VipTable,
    /// VIPs that are gone.
    pub del: BTreeSet<Ipv4Addr>,
}

impl VipChange {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.reset && self.set.is_empty() && self.del.is_empty()
    }
}

/// VIPs of all networks of `task`.
#[must_use]
pub fn vip_table(view: &View, task: &TaskNet) -> VipTable {
    let mut table = VipTable::new();
    for attachment in &task.networks {
        if let Some(network) = view.networks.get(&attachment.network) {
            add_network(&mut table, network);
        }
    }
    table
}

fn add_network(table: &mut VipTable, network: &Network) {
    let mut of_service = BTreeMap::new();
    for (id, service) in &network.services {
        if let Some(vip) = service.vip {
            of_service.insert(id, vip);
            table.entry(vip).or_default();
        }
    }
    for endpoint in network.endpoints.values().filter(|e| e.ready) {
        let vip = endpoint.service.as_ref().and_then(|s| of_service.get(s));
        if let Some(backends) = vip.and_then(|vip| table.get_mut(vip)) {
            backends.push(endpoint.addr);
        }
    }
    for vip in of_service.values() {
        if let Some(backends) = table.get_mut(vip) {
            backends.sort_unstable();
            backends.dedup();
        }
    }
}

/// The change from `actual` (`None`: unknown or no table) to `desired`; `None` if there is none.
#[must_use]
pub fn vip_change(desired: &VipTable, actual: Option<&VipTable>) -> Option<VipChange> {
    let Some(actual) = actual else {
        return Some(VipChange {
            reset: true,
            set: desired.clone(),
            del: BTreeSet::new(),
        });
    };
    let change = VipChange {
        reset: false,
        set: desired
            .iter()
            .filter(|(vip, backends)| actual.get(vip) != Some(backends))
            .map(|(vip, backends)| (*vip, backends.clone()))
            .collect(),
        del: actual
            .keys()
            .filter(|vip| !desired.contains_key(vip))
            .copied()
            .collect(),
    };
    (!change.is_empty()).then_some(change)
}
