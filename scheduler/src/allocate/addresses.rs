//! Addresses of networks, for tasks and as services' virtual ones.
//!
//! Next fit: the search begins behind the address that was given last, which is that of the newest task or
//! service on the network, and goes round. It passes over addresses that a task of the history has held, as long
//! as there are others. So an address comes again as late as it can: somebody may still remember whose it was.
//! All of that is read from the state, so any leader chooses the same.
//!
//! Never given are the network's own address, the first host (the gateway) and the broadcast address.

use super::Refusal;
use api::model::{Network, NetworkId, Service, Task, Timestamp};
use api::state::{Holder, State, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The free addresses of every network, as a pass goes on.
pub(crate) struct Addresses<'a> {
    state: &'a State,
    memories: BTreeMap<NetworkId, Memory>,
    pools: BTreeMap<NetworkId, Pool<'a>>,
}

/// What the state still knows of addresses that were given.
#[derive(Default)]
struct Memory {
    newest: (Timestamp, u32),
    /// Of tasks that have ended.
    left: Vec<u32>,
}

struct Pool<'a> {
    held: Option<&'a Table<Ipv4Addr, Holder>>,
    given: BTreeSet<u32>,
    /// Free, but somebody may remember them.
    left: BTreeSet<u32>,
    free: usize,
    next: u32,
    first: u32,
    last: u32,
}

/// The addresses of a network that tasks and services may have; none when the first is behind the last.
fn bounds(network: &Network) -> (u32, u32) {
    let (base, end) = (
        u32::from(network.subnet.network()),
        u32::from(network.subnet.broadcast()),
    );
    (base.saturating_add(2), end.saturating_sub(1))
}

impl<'a> Addresses<'a> {
    pub fn new(state: &'a State) -> Self {
        Self {
            state,
            memories: BTreeMap::new(),
            pools: BTreeMap::new(),
        }
    }

    /// Learns what these had; to be called before the first address of their networks is taken.
    pub fn remember(
        &mut self,
        services: impl Iterator<Item = &'a Service>,
        tasks: impl Iterator<Item = &'a Task>,
    ) {
        for service in services {
            for (network, addr) in &service.vips {
                self.memory(*network, service.meta.created_at, *addr);
            }
        }
        for task in tasks {
            for held in &task.addresses {
                let memory = self.memory(held.network, task.meta.created_at, held.addr);
                if task.status.state.is_ended() {
                    memory.left.push(held.addr.into());
                }
            }
        }
    }

    fn memory(&mut self, network: NetworkId, given_at: Timestamp, addr: Ipv4Addr) -> &mut Memory {
        let memory = self.memories.entry(network).or_default();
        memory.newest = memory.newest.max((given_at, addr.into()));
        memory
    }

    /// Whether a network has a free address.
    ///
    /// # Errors
    /// When it has none left, or is not there.
    pub fn check(&mut self, id: NetworkId) -> Result<(), Refusal> {
        self.pool(id).map(|_| ())
    }

    /// Takes an address of a network.
    ///
    /// # Errors
    /// When it has none left, or is not there.
    pub fn take(&mut self, id: NetworkId) -> Result<Ipv4Addr, Refusal> {
        self.pool(id).map(Pool::take)
    }

    /// The pool of a network that has a free address.
    fn pool(&mut self, id: NetworkId) -> Result<&mut Pool<'a>, Refusal> {
        let state = self.state;
        let network = state
            .networks()
            .get(&id)
            .ok_or_else(|| Refusal(format!("network {id} is not there (any more)")))?;
        let memory = self.memories.get(&id);
        let pool = self
            .pools
            .entry(id)
            .or_insert_with(|| Pool::of(state, network, memory));
        if pool.free == 0 {
            let size = u64::from(pool.last).saturating_sub(u64::from(pool.first)) + 1;
            let size = if pool.first > pool.last { 0 } else { size };
            return Err(Refusal(format!(
                "network {} has no free address (of {size})",
                network.spec.name
            )));
        }
        Ok(pool)
    }
}

impl<'a> Pool<'a> {
    fn of(state: &'a State, network: &Network, memory: Option<&Memory>) -> Self {
        let (first, last) = bounds(network);
        let held = state.addresses(network.id);
        let is_held = |addr: u32| held.is_some_and(|held| held.contains_key(&Ipv4Addr::from(addr)));
        let within = |addr: &u32| (first..=last).contains(addr);
        let left = memory
            .iter()
            .flat_map(|m| &m.left)
            .copied()
            .filter(within)
            .filter(|a| !is_held(*a));
        let (size, taken) = if first > last {
            (0, 0)
        } else {
            let range = Ipv4Addr::from(first)..=Ipv4Addr::from(last);
            let taken = held.map_or(0, |held| held.range(range).count());
            (
                usize::try_from(last - first)
                    .unwrap_or(usize::MAX)
                    .saturating_add(1),
                taken,
            )
        };
        let next = memory.map_or(first, |m| m.newest.1.saturating_add(1));
        let free = size.saturating_sub(taken);
        Self {
            held,
            given: BTreeSet::new(),
            left: left.collect(),
            free,
            next,
            first,
            last,
        }
    }

    /// To be called only while there is a free one: then this ends, at most once around.
    fn take(&mut self) -> Ipv4Addr {
        let avoid = self.free > self.left.len();
        loop {
            if !(self.first..=self.last).contains(&self.next) {
                self.next = self.first;
            }
            let number = self.next;
            self.next = self.next.saturating_add(1);
            let addr = Ipv4Addr::from(number);
            let held = self.held.is_some_and(|held| held.contains_key(&addr));
            #[cfg(feature = "sabotage")]
            if api::sabotage::has(api::sabotage::Bug::AddressLeasedTwice) {
                return addr;
            }
            if held || self.given.contains(&number) || (avoid && self.left.contains(&number)) {
                continue;
            }
            self.given.insert(number);
            self.left.remove(&number);
            self.free = self.free.saturating_sub(1);
            return addr;
        }
    }
}
