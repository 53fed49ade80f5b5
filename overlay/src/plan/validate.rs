//! What is refused before anything is done.

use crate::{Error, Network, NetworkId, TaskNet, View};
use std::collections::BTreeSet;

/// Longest host name, bytes (what `sethostname` takes).
const HOSTNAME_MAX: usize = 64;

/// Checks a task against the view: all of it, before anything is set up.
///
/// # Errors
/// [`Error::UnknownNetwork`], [`Error::BadTask`] or [`Error::BadNetwork`].
pub fn validate_task(view: &View, task: &TaskNet) -> Result<(), Error> {
    let bad = |reason: String| Error::BadTask {
        task: task.id.clone(),
        reason,
    };
    if task.hostname.len() > HOSTNAME_MAX {
        return Err(bad(format!(
            "host name is {} bytes long, the limit is {HOSTNAME_MAX}",
            task.hostname.len()
        )));
    }
    let mut seen = BTreeSet::new();
    for attachment in &task.networks {
        let id = &attachment.network;
        let network = view.networks.get(id).ok_or_else(|| Error::UnknownNetwork {
            task: task.id.clone(),
            network: id.clone(),
        })?;
        validate_network(id, network)?;
        if !seen.insert(id) {
            return Err(bad(format!("network {id} is listed twice")));
        }
        let addr = attachment.addr;
        let subnet = network.subnet.trunc();
        if !subnet.contains(&addr) || addr == subnet.network() || addr == subnet.broadcast() {
            return Err(bad(format!(
                "address {addr} is no host address of network {} ({subnet})",
                network.name
            )));
        }
    }
    let mut ports = BTreeSet::new();
    for port in &task.ports {
        if port.published == 0 || port.target == 0 {
            return Err(bad(format!(
                "published port {} to {}/{}: port 0 can't be published",
                port.published, port.target, port.protocol
            )));
        }
        if !ports.insert((port.protocol, port.published)) {
            return Err(bad(format!(
                "port {}/{} is published twice",
                port.published, port.protocol
            )));
        }
    }
    Ok(())
}

/// Checks a network.
///
/// # Errors
/// [`Error::BadNetwork`].
pub fn validate_network(id: &NetworkId, network: &Network) -> Result<(), Error> {
    let bad = |reason: String| Error::BadNetwork {
        network: id.clone(),
        vni: network.vni,
        reason,
    };
    if network.vni == 0 || network.vni >= 1 << 24 {
        return Err(bad("a vni is 1 to 16777215".into()));
    }
    if network.subnet.prefix_len() > 30 {
        return Err(bad(format!("subnet {} has no room", network.subnet)));
    }
    Ok(())
}
