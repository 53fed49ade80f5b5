//! An address, a VNI and a published port of a node have at most one holder, and are free once that has ended; and
//! the state's own tables of them say the same.

use super::Invariant;
use crate::sight::Sight;
use api::model::{NetworkId, NodeId, Protocol, Service, Task};
use api::state::{Event, Holder};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Address(NetworkId, Ipv4Addr),
    Port(NodeId, Protocol, u16),
    Vni(u32),
}

#[derive(Debug, Default)]
pub struct State {
    holders: BTreeMap<Thing, u128>,
}

fn of_task(task: &Task) -> Vec<Thing> {
    if task.status.state.is_ended() {
        return Vec::new();
    }
    let addresses = task
        .addresses
        .iter()
        .map(|held| Thing::Address(held.network, held.addr));
    let ports = task.node.into_iter().flat_map(|node| {
        task.ports
            .iter()
            .map(move |port| Thing::Port(node, port.protocol, port.published))
    });
    addresses.chain(ports).collect()
}

fn of_service(service: &Service) -> Vec<Thing> {
    let vips = service.vips.iter();
    vips.map(|(network, addr)| Thing::Address(*network, *addr))
        .collect()
}

impl State {
    fn change(&mut self, who: u128, old: &[Thing], new: &[Thing]) -> Result<(), String> {
        for thing in old {
            self.holders.remove(thing);
        }
        for thing in new {
            if let Some(other) = self.holders.insert(*thing, who) {
                return Err(format!("{thing:?} is held twice: {other:x} and {who:x}"));
            }
        }
        Ok(())
    }

    /// The tables of the state say the same.
    fn compare(&self, state: &api::state::State, things: &[Thing]) -> Result<(), String> {
        for thing in things {
            let told = match thing {
                Thing::Address(network, addr) => state
                    .addresses(*network)
                    .and_then(|held| held.get(addr))
                    .map(|holder| match holder {
                        Holder::Task(id) => id.0,
                        Holder::Service(id) => id.0,
                    }),
                Thing::Port(node, protocol, port) => {
                    state.port_holder(*node, *protocol, *port).map(|id| id.0)
                }
                Thing::Vni(vni) => state.vni_holder(*vni).map(|id| id.0),
            };
            let held = self.holders.get(thing).copied();
            if told != held {
                return Err(format!(
                    "the state takes {told:x?} for the holder of {thing:?}, which is {held:x?}"
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "holders are single"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, first: bool) -> Result<(), String> {
        let Sight::Applied {
            outcome: Ok(events),
            state,
            ..
        } = sight
        else {
            return Ok(());
        };
        if !first {
            return Ok(());
        }
        let mut touched = Vec::new();
        for event in events {
            let (who, old, new) = match event {
                Event::Task(id, old, new) => (
                    id.0,
                    old.as_deref().map(of_task),
                    new.as_deref().map(of_task),
                ),
                Event::Service(id, old, new) => (
                    id.0,
                    old.as_deref().map(of_service),
                    new.as_deref().map(of_service),
                ),
                Event::Network(id, old, new) => (
                    id.0,
                    old.as_ref().map(|network| vec![Thing::Vni(network.vni)]),
                    new.as_ref().map(|network| vec![Thing::Vni(network.vni)]),
                ),
                _ => continue,
            };
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            self.change(who, &old, &new)?;
            touched.extend(old);
            touched.extend(new);
        }
        self.compare(state, &touched)
    }
}
