//! A new network's subnet and VNI.

use super::Refusal;
use api::model::{ClusterSpec, NetworkSpec};
use api::state::State;
use ipnet::Ipv4Net;

/// VNIs below are left to those who make VXLANs by hand.
const VNI_FIRST: u32 = 4096;
const VNI_LAST: u32 = (1 << 24) - 1;
/// A network needs room for a gateway and some tasks.
const PREFIX_MAX: u8 = 29;

fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// Chooses for a network: the lowest free VNI and, where none is wished, the lowest subnet of the cluster's
/// pool that overlaps no other network and none of `used_routes`.
///
/// # Errors
/// When the wished subnet is taken or too small, or the pool is used up.
pub fn network(
    state: &State,
    spec: &NetworkSpec,
    used_routes: &[Ipv4Net],
) -> Result<(u32, Ipv4Net), Refusal> {
    let defaults = ClusterSpec::default();
    let settings = state.cluster().map_or(&defaults, |c| &c.spec);
    let subnet = match spec.subnet {
        Some(wished) => wish(state, &spec.name, wished, used_routes)?,
        None => first_free(state, &spec.name, settings, used_routes)?,
    };
    let vni = (VNI_FIRST..=VNI_LAST)
        .find(|vni| state.vni_holder(*vni).is_none())
        .ok_or_else(|| {
            Refusal(format!(
                "network {}: all VNIs are taken; remove networks that nothing uses",
                spec.name
            ))
        })?;
    Ok((vni, subnet))
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
            "network {name}: the subnet {wished} overlaps {route}, which nodes have a route to; give another or none"
        )));
    }
    Ok(wished)
}

fn first_free(
    state: &State,
    name: &str,
    settings: &ClusterSpec,
    used_routes: &[Ipv4Net],
) -> Result<Ipv4Net, Refusal> {
    let full = || {
        Refusal(format!(
            "network {name}: the address pool {} has no free /{} left ({} networks); give a --subnet, or remove networks \
             that nothing uses",
            settings.address_pool,
            settings.subnet_prefix,
            state.networks().len()
        ))
    };
    let step = 1u64 << (32 - u32::from(settings.subnet_prefix.min(32)));
    let span = |net: &Ipv4Net| {
        (
            u64::from(u32::from(net.network())),
            u64::from(u32::from(net.broadcast())) + 1,
        )
    };
    let (begin, end) = span(&settings.address_pool);
    let mut taken: Vec<(u64, u64)> = state
        .networks()
        .values()
        .map(|n| span(&n.subnet))
        .chain(used_routes.iter().map(span))
        .collect();
    taken.sort_unstable();
    // The first gap that is wide enough, in whole steps.
    let mut at = begin;
    for (from, to) in taken {
        if at + step <= from {
            break;
        }
        at = at.max(to.div_ceil(step) * step);
    }
    if at + step > end {
        return Err(full());
    }
    let base = u32::try_from(at).map_err(|_| full())?;
    Ipv4Net::new(base.into(), settings.subnet_prefix).map_err(|_| full())
}
