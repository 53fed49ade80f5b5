//! A new network's subnet.

use super::{Refusal, vnis};
use api::model::{ClusterSpec, NetworkSpec};
use api::state::State;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// A network needs room for its gateway and some tasks.
const PREFIX_MAX: u8 = 29;

/// Chooses for a network: the lowest free VNI and, where no subnet is wished, the lowest of the cluster's pool
/// that overlaps no other network and none of `used_routes`. A wished one is checked against the same.
///
/// # Errors
/// When the wished subnet is taken or too small, or the pool is used up.
pub fn network(
    state: &State,
    spec: &NetworkSpec,
    used_routes: &[Ipv4Net],
) -> Result<(u32, Ipv4Net), Refusal> {
    let subnet = match spec.subnet {
        Some(wished) => wish(state, &spec.name, wished, used_routes)?,
        None => first_free(state, &spec.name, used_routes)?,
    };
    Ok((vnis::free(state, &spec.name)?, subnet))
}

fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

fn wish(
    state: &State,
    name: &str,
    wished: Ipv4Net,
    used_routes: &[Ipv4Net],
) -> Result<Ipv4Net, Refusal> {
    let wished = wished.trunc();
    if wished.prefix_len() > PREFIX_MAX {
        return Err(Refusal(format!(
            "network {name}: the subnet {wished} is too small; give a /{PREFIX_MAX} or larger"
        )));
    }
    if let Some(other) = state
        .networks()
        .values()
        .find(|n| overlaps(&n.subnet, &wished))
    {
        return Err(Refusal(format!(
            "network {name}: the subnet {wished} overlaps {} of network {}; give another or none",
            other.subnet, other.spec.name
        )));
    }
    if let Some(route) = used_routes.iter().find(|r| overlaps(r, &wished)) {
        return Err(Refusal(format!(
            "network {name}: the subnet {wished} overlaps {route}, which nodes use already; give another or none"
        )));
    }
    Ok(wished)
}

fn first_free(state: &State, name: &str, used_routes: &[Ipv4Net]) -> Result<Ipv4Net, Refusal> {
    let defaults = ClusterSpec::default();
    let settings = state.cluster().map_or(&defaults, |cluster| &cluster.spec);
    let (pool, prefix) = (settings.address_pool, settings.subnet_prefix);
    if prefix > PREFIX_MAX || prefix < pool.prefix_len() {
        return Err(Refusal(format!(
            "network {name}: the cluster's settings cut its address pool {pool} into subnets of /{prefix}; give a \
             --subnet, or set a prefix between /{} and /{PREFIX_MAX}",
            pool.prefix_len()
        )));
    }
    let number = |addr: Ipv4Addr| u64::from(u32::from(addr));
    let mut taken: Vec<(u64, u64)> = state
        .networks()
        .values()
        .map(|n| n.subnet)
        .chain(used_routes.iter().copied())
        .map(|net| (number(net.network()), number(net.broadcast())))
        .collect();
    taken.sort_unstable();
    let size = 1u64 << (32 - u32::from(prefix));
    let mut at = number(pool.network());
    for (first, last) in taken {
        if first >= at + size {
            break;
        }
        if last >= at {
            // Behind it, in whole steps.
            at = (last + 1).div_ceil(size) * size;
        }
    }
    let fits = at + size <= number(pool.broadcast()) + 1;
    let subnet = fits
        .then(|| u32::try_from(at).ok().map(Ipv4Addr::from))
        .flatten();
    subnet.and_then(|base| Ipv4Net::new(base, prefix).ok()).ok_or_else(|| {
        Refusal(format!(
            "network {name}: the address pool {pool} has no free /{prefix} left ({} networks); give a --subnet, or \
             remove networks that nothing uses",
            state.networks().len()
        ))
    })
}
