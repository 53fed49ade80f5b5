//! Addresses of networks: for tasks and as services' virtual ones.
//!
//! The next address is the one after the highest that anybody holds or has held in what the state still
//! knows, then the lowest free one: an address that was just freed is not given out again at once, since
//! somebody may still remember whose it was. The network's own address, the first host (the gateway) and the
//! broadcast address are never given.

use super::Refusal;
use api::model::{Network, NetworkId, ServiceSpec};
use api::state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The free addresses of every network, as a pass goes on.
pub struct Addresses<'a> {
    state: &'a State,
    pools: BTreeMap<NetworkId, Pool>,
    /// Highest address of a network that a task which is ended has held.
    remembered: BTreeMap<NetworkId, Ipv4Addr>,
}

struct Pool {
    given: BTreeSet<Ipv4Addr>,
    next: u32,
    first: u32,
    last: u32,
}

fn bounds(network: &Network) -> (u32, u32) {
    let (base, end) = (
        u32::from(network.subnet.network()),
        u32::from(network.subnet.broadcast()),
    );
    (base.saturating_add(2), end.saturating_sub(1))
}

impl<'a> Addresses<'a> {
    /// Over a state.
    #[must_use]
    pub fn new(state: &'a State) -> Self {
        let mut remembered: BTreeMap<NetworkId, Ipv4Addr> = BTreeMap::new();
        for held in state.tasks().values().flat_map(|t| &t.addresses) {
            let highest = remembered.entry(held.network).or_insert(held.addr);
            *highest = (*highest).max(held.addr);
        }
        Self {
            state,
            pools: BTreeMap::new(),
            remembered,
        }
    }

    /// Takes an address of a network.
    ///
    /// # Errors
    /// When it has none left, or is not there.
    pub fn take(&mut self, id: NetworkId) -> Result<Ipv4Addr, Refusal> {
        let network = self
            .state
            .networks()
            .get(&id)
            .ok_or_else(|| Refusal(format!("network {id} is not there (any more)")))?;
        let empty = BTreeMap::new();
        let held = self.state.addresses(id).unwrap_or(&empty);
        let (first, last) = bounds(network);
        let highest = held
            .keys()
            .next_back()
            .copied()
            .max(self.remembered.get(&id).copied());
        let pool = self.pools.entry(id).or_insert_with(|| Pool {
            given: BTreeSet::new(),
            next: highest.map_or(first, |addr| u32::from(addr).saturating_add(1).max(first)),
            first,
            last,
        });
        let size = u64::from(pool.last.saturating_sub(pool.first)) + 1;
        if pool.first > pool.last || (held.len() + pool.given.len()) as u64 >= size {
            return Err(Refusal(format!(
                "network {} has no free address (of {size})",
                network.spec.name
            )));
        }
        // At most once around: there is a free one.
        loop {
            if pool.next > pool.last {
                pool.next = pool.first;
            }
            let addr = Ipv4Addr::from(pool.next);
            pool.next = pool.next.saturating_add(1);
            if !held.contains_key(&addr) && pool.given.insert(addr) {
                return Ok(addr);
            }
        }
    }

    /// Gives an address back that was taken in this pass.
    pub fn give_back(&mut self, id: NetworkId, addr: Ipv4Addr) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.given.remove(&addr);
        }
    }
}

/// A service's virtual addresses: one on each of its networks, those it has kept.
///
/// # Errors
/// When a network has none left.
pub fn vips(
    state: &State,
    spec: &ServiceSpec,
    old: &BTreeMap<NetworkId, Ipv4Addr>,
) -> Result<BTreeMap<NetworkId, Ipv4Addr>, Refusal> {
    if spec.endpoint_mode != api::model::EndpointMode::Vip {
        return Ok(BTreeMap::new());
    }
    let mut addresses = Addresses::new(state);
    spec.template
        .networks
        .iter()
        .map(|attachment| {
            let id = attachment.network;
            match old.get(&id) {
                Some(addr) => Ok((id, *addr)),
                None => addresses
                    .take(id)
                    .map(|addr| (id, addr))
                    .map_err(|refusal| Refusal(format!("service {}: {refusal}", spec.name))),
            }
        })
        .collect()
}
