//! From what the managers say to what the overlay takes. Pure.

use crate::assignments::Desired;
use api::convert;
use api::proto;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Something in an assignment that this node can't take.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A field the managers should not have sent.
    #[error(transparent)]
    Field(#[from] convert::ConvertError),
    /// The overlay refuses it.
    #[error(transparent)]
    Overlay(#[from] overlay::Error),
    /// A subnet that can't be read.
    #[error("network {network}: {subnet:?} is no subnet")]
    Subnet {
        /// Its name.
        network: String,
        /// What was sent.
        subnet: String,
    },
}

/// The name of one of a service's tasks.
fn task_name(service: &str, slot: u32) -> String {
    format!("{service}.{slot}")
}

/// The overlay's picture of all networks. What can't be read is left out and said.
#[must_use]
pub fn view(desired: &Desired) -> (overlay::View, Vec<ViewError>) {
    let mut problems = Vec::new();
    let mut networks: BTreeMap<Bytes, (overlay::NetworkId, overlay::Network)> = BTreeMap::new();
    for network in desired.networks.values() {
        match empty_network(network) {
            Ok(made) => drop(networks.insert(network.id.clone(), made)),
            Err(problem) => problems.push(problem),
        }
    }
    for endpoint in desired.endpoints.values() {
        let Some((_, network)) = networks.get_mut(&endpoint.network) else {
            continue;
        };
        match add_endpoint(network, endpoint) {
            Ok(()) => {}
            Err(problem) => problems.push(problem),
        }
    }
    for service in desired.services.values() {
        let Some((_, network)) = networks.get_mut(&service.network) else {
            continue;
        };
        match service_id(&service.service) {
            Ok(id) => {
                let made = overlay::Service {
                    names: service.names.clone(),
                    stack: service.stack.clone(),
                    vip: service.vip.map(Ipv4Addr::from),
                };
                network.services.insert(id, made);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let networks = networks
        .into_values()
        .map(|(id, network)| (id, Arc::new(network)))
        .collect();
    (overlay::View { networks }, problems)
}

fn service_id(bytes: &Bytes) -> Result<overlay::ServiceId, ViewError> {
    Ok(overlay::ServiceId::new(
        convert::service_id(bytes)?.to_string(),
    )?)
}

fn task_id(bytes: &Bytes) -> Result<overlay::TaskId, ViewError> {
    Ok(overlay::TaskId::new(convert::task_id(bytes)?.to_string())?)
}

fn empty_network(
    network: &proto::NetworkView,
) -> Result<(overlay::NetworkId, overlay::Network), ViewError> {
    let id = overlay::NetworkId::new(convert::network_id(&network.id)?.to_string())?;
    let subnet = network.subnet.parse().map_err(|_| ViewError::Subnet {
        network: network.name.clone(),
        subnet: network.subnet.clone(),
    })?;
    let made = overlay::Network {
        name: network.name.clone(),
        vni: network.vni,
        subnet,
        endpoints: BTreeMap::new(),
        services: BTreeMap::new(),
    };
    Ok((id, made))
}

fn add_endpoint(
    network: &mut overlay::Network,
    endpoint: &proto::Endpoint,
) -> Result<(), ViewError> {
    let id = task_id(&endpoint.task)?;
    let name = task_name(&endpoint.service_name, endpoint.slot);
    let made = overlay::Endpoint {
        addr: Ipv4Addr::from(endpoint.addr),
        node: Ipv4Addr::from(endpoint.vtep),
        service: Some(service_id(&endpoint.service)?),
        names: vec![name.clone(), format!("{name}.{id}")],
        aliases: Vec::new(),
        ready: endpoint.ready,
    };
    network.endpoints.insert(id, made);
    Ok(())
}

/// The host name of a task's container, as docker's is: the beginning of its id.
#[must_use]
pub fn hostname(task: &api::model::Task) -> String {
    task.id.to_string().chars().take(12).collect()
}

/// What the overlay is to do for one task.
///
/// # Errors
/// When an id can't be a file's name, which no id of ours is.
pub fn task_net(task: &api::model::Task) -> Result<overlay::TaskNet, ViewError> {
    let networks = task
        .addresses
        .iter()
        .map(|held| {
            let network = overlay::NetworkId::new(held.network.to_string())?;
            Ok(overlay::Attachment {
                network,
                addr: held.addr,
                aliases: Vec::new(),
            })
        })
        .collect::<Result<_, ViewError>>()?;
    let ports = task
        .ports
        .iter()
        .map(|port| overlay::PublishedPort {
            protocol: match port.protocol {
                api::model::Protocol::Tcp => overlay::Protocol::Tcp,
                api::model::Protocol::Udp => overlay::Protocol::Udp,
            },
            published: port.published,
            target: port.target,
        })
        .collect();
    Ok(overlay::TaskNet {
        id: overlay::TaskId::new(task.id.to_string())?,
        hostname: hostname(task),
        names: vec![task.name(), format!("{}.{}", task.name(), task.id)],
        networks,
        ports,
    })
}
