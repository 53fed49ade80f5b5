//! Virtual addresses of services.

use super::{Addresses, Refusal};
use api::model::{EndpointMode, NetworkId, Service, ServiceSpec};
use api::state::State;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A service's virtual addresses: in `vip` mode one on each of its networks. Those it has (`old`) it keeps.
///
/// # Errors
/// When a network has none left.
pub fn vips(
    state: &State,
    spec: &ServiceSpec,
    old: &BTreeMap<NetworkId, Ipv4Addr>,
) -> Result<BTreeMap<NetworkId, Ipv4Addr>, Refusal> {
    if spec.endpoint_mode != EndpointMode::Vip {
        return Ok(BTreeMap::new());
    }
    let mut all = BTreeMap::new();
    let mut lacking = Vec::new();
    for attachment in &spec.template.networks {
        match old.get(&attachment.network) {
            Some(addr) => drop(all.insert(attachment.network, *addr)),
            None => lacking.push(attachment.network),
        }
    }
    if lacking.is_empty() {
        return Ok(all);
    }
    lacking.sort_unstable();
    lacking.dedup();
    let mut addresses = Addresses::new(state);
    // Whoever is on those networks; not all of the cluster's tasks, which may be many.
    let on_them = |service: &&Service| {
        service
            .spec
            .template
            .networks
            .iter()
            .any(|on| lacking.binary_search(&on.network).is_ok())
    };
    let neighbours: Vec<&Service> = state
        .services()
        .values()
        .map(AsRef::as_ref)
        .filter(on_them)
        .collect();
    let tasks = neighbours
        .iter()
        .flat_map(|s| state.tasks_of_service(s.id))
        .map(AsRef::as_ref);
    addresses.remember(neighbours.iter().copied(), tasks);
    for network in lacking {
        let addr = addresses
            .take(network)
            .map_err(|refusal| Refusal(format!("service {}: {refusal}", spec.name)))?;
        all.insert(network, addr);
    }
    Ok(all)
}
