//! Networks: listed, made, removed.

use super::{Change, Control, Refusal, lookup, validate};
use api::model::{NetworkId, NetworkSpec};
use api::proto::{
    self, CreateNetworkRequest, ListNetworksReply, ListNetworksRequest, NetworkRow,
    RemoveNetworkReply, RemoveNetworkRequest,
};
use api::state::{Holder, Op, State};
use ipnet::Ipv4Net;
use raft_store::Watched;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// How long a removal waits for tasks that are ending.
const ENDING: Duration = Duration::from_secs(15);

pub async fn list(
    control: &Control,
    request: ListNetworksRequest,
) -> Result<ListNetworksReply, Status> {
    let rows = control
        .read(|state| {
            let mut chosen = Vec::new();
            if request.networks.is_empty() {
                chosen.extend(state.networks().values().cloned());
                chosen.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
            }
            for text in &request.networks {
                chosen.push(lookup::network(state, text)?);
            }
            Ok::<_, Refusal>(chosen.iter().map(|network| row(state, network)).collect())
        })
        .await??;
    Ok(ListNetworksReply { networks: rows })
}

fn row(state: &State, network: &api::model::Network) -> NetworkRow {
    let mut services: Vec<String> = users(state, network.id).collect();
    services.sort();
    let held = state
        .addresses(network.id)
        .map_or(0, api::state::Table::len);
    NetworkRow {
        network: Some(network.into()),
        services,
        addresses: u32::try_from(held).unwrap_or(u32::MAX),
    }
}

/// Names of the services on a network.
pub fn users(state: &State, network: NetworkId) -> impl Iterator<Item = String> {
    state
        .services()
        .values()
        .filter(move |service| {
            service
                .spec
                .template
                .networks
                .iter()
                .any(|on| on.network == network)
        })
        .map(|service| service.spec.name.clone())
}

/// Addresses that the machines themselves have: no network may hold them.
pub fn routes(state: &State) -> Vec<Ipv4Net> {
    state
        .nodes()
        .values()
        .map(|node| Ipv4Net::from(node.addr))
        .collect()
}

/// A network with its VNI and subnet chosen.
pub fn allocated(
    state: &State,
    id: NetworkId,
    spec: &NetworkSpec,
) -> Result<api::model::Network, Refusal> {
    let (vni, subnet) = scheduler::allocate::network(state, spec, &routes(state))?;
    Ok(api::model::Network {
        id,
        meta: api::model::Meta::default(),
        spec: spec.clone(),
        vni,
        subnet,
    })
}

pub async fn create(
    control: &Control,
    request: CreateNetworkRequest,
) -> Result<proto::Network, Status> {
    let spec = request
        .spec
        .ok_or_else(|| Status::invalid_argument("the request has no network"))?;
    let spec = NetworkSpec::try_from(spec).map_err(Refusal::from)?;
    let mut problems = Vec::new();
    validate::network(&spec, &mut problems);
    if let Some(stack) = &spec.stack {
        problems.push(format!(
            "network {}: only deploying stack {stack} makes its networks",
            spec.name
        ));
    }
    if !problems.is_empty() {
        return Err(Refusal::invalid(problems.join("\n")).into());
    }
    let id = NetworkId::random();
    control
        .change(|state, _| {
            if let Some(there) = state.network_by_name(&spec.name) {
                return Err(Refusal::taken(format!(
                    "network {} is there already ({}); remove it first, or take another name",
                    spec.name, there.subnet
                )));
            }
            let network = allocated(state, id, &spec)?;
            Ok(Change {
                ops: vec![Op::CreateNetwork(Box::new(network))],
                answer: (),
            })
        })
        .await?;
    control
        .handle
        .read(|state| {
            state
                .networks()
                .get(&id)
                .map(|network| proto::Network::from(&**network))
        })
        .ok_or_else(|| Status::not_found(format!("network {} was removed meanwhile", spec.name)))
}

pub async fn remove(
    control: &Control,
    request: RemoveNetworkRequest,
) -> Result<RemoveNetworkReply, Status> {
    let deadline = Instant::now() + ENDING;
    // Subscribed before the first look, so that no change is missed.
    let mut watcher = control.handle.watch();
    let id = control
        .read(|state| lookup::network(state, &request.network))
        .await??
        .id;
    loop {
        let ending = control.handle.read(|state| is_only_ending(state, id));
        if !ending {
            break;
        }
        match timeout_at(deadline, watcher.next()).await {
            Ok(Watched::Closed) | Err(_) => break,
            Ok(_) => {}
        }
    }
    control
        .change(|state, _| {
            let Some(network) = state.networks().get(&id) else {
                return Ok(Change { ops: Vec::new(), answer: RemoveNetworkReply {} });
            };
            let name = &network.spec.name;
            let services: Vec<_> = users(state, id).collect();
            if !services.is_empty() {
                return Err(Refusal::first(format!(
                    "network {name} is used by {}; remove {} first",
                    services.join(", "),
                    if services.len() == 1 { "it" } else { "these" }
                )));
            }
            if let Some(held) = state.addresses(id) {
                return Err(Refusal::first(format!(
                    "network {name} is still held by {} task(s) that are ending: {}; see `clusterctl node ls` for a node that is down, or try again",
                    held.len(),
                    holders(state, id).join(", ")
                )));
            }
            Ok(Change { ops: vec![Op::RemoveNetwork(id)], answer: RemoveNetworkReply {} })
        })
        .await
}

/// Nothing is to stay on it, but something has not gone yet.
fn is_only_ending(state: &State, id: NetworkId) -> bool {
    users(state, id).next().is_none() && state.addresses(id).is_some()
}

fn holders(state: &State, id: NetworkId) -> Vec<String> {
    let held = state.addresses(id).into_iter().flatten();
    let names = held.filter_map(|(_, holder)| match holder {
        Holder::Task(task) => state.tasks().get(task).map(|task| task.name()),
        Holder::Service(_) => None,
    });
    names.take(5).collect()
}
