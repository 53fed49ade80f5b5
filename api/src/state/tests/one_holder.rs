//! A name, an address, a VNI and a published port of a node have at most one holder.

use super::*;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// From the tables alone.
fn check(state: &State) {
    let once = |what: &str, all: Vec<String>| {
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(
            distinct.len(),
            all.len(),
            "{what} with more than one holder: {all:?}"
        );
    };
    let shown = |value: &dyn Debug| format!("{value:?}");
    once(
        "network names",
        state
            .networks()
            .values()
            .map(|n| n.spec.name.clone())
            .collect(),
    );
    once(
        "VNIs",
        state
            .networks()
            .values()
            .map(|n| n.vni.to_string())
            .collect(),
    );
    once(
        "service names",
        state
            .services()
            .values()
            .map(|s| s.spec.name.clone())
            .collect(),
    );

    let mut addresses: Vec<String> = Vec::new();
    for service in state.services().values() {
        addresses.extend(service.vips.iter().map(|held| shown(&held)));
    }
    let mut ports = Vec::new();
    for task in state
        .tasks()
        .values()
        .filter(|t| !t.status.state.is_ended())
    {
        // One task may name what it holds twice; that is still one holder.
        let held: BTreeSet<_> = task
            .addresses
            .iter()
            .map(|a| shown(&(&a.network, &a.addr)))
            .collect();
        addresses.extend(held);
        let held: BTreeSet<_> = task
            .ports
            .iter()
            .map(|p| shown(&(task.node, p.protocol, p.published)))
            .collect();
        ports.extend(held);
    }
    once("addresses", addresses);
    once("ports", ports);

    let networks: Vec<_> = state.networks().values().collect();
    for (i, one) in networks.iter().enumerate() {
        for other in networks.iter().skip(i + 1) {
            assert!(
                !one.subnet.contains(&other.subnet) && !other.subnet.contains(&one.subnet),
                "{one:?} {other:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn names_addresses_vnis_and_ports_have_one_holder(history in history()) {
        play(history, |_, after, _| check(after));
    }

    /// What is free can be had: a holder that the index names does hold it.
    #[test]
    fn what_the_indexes_say_is_held_is_held(history in history()) {
        play(history, |_, state, _| {
            for network in state.networks().keys() {
                for (addr, holder) in state.addresses(*network).into_iter().flatten() {
                    let holds = match holder {
                        Holder::Service(id) => state.services()[id].vips.get(network) == Some(addr),
                        Holder::Task(id) => {
                            let task = &state.tasks()[id];
                            let named = task.addresses.iter().any(|a| (a.network, a.addr) == (*network, *addr));
                            named && !task.status.state.is_ended()
                        }
                    };
                    assert!(holds, "{addr} of {network} is not held by {holder:?}");
                }
            }
            for ((node, protocol, published), id) in &state.indexes.ports {
                let task = &state.tasks()[id];
                assert_eq!(task.node, Some(*node));
                assert!(!task.status.state.is_ended());
                assert!(task.ports.iter().any(|p| (p.protocol, p.published) == (*protocol, *published)));
            }
        });
    }
}
