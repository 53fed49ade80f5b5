//! Networks: made and removed.

use super::{Outcome, Run, missing, refuse};
use crate::model::{Network, NetworkId, Task, TaskState};
use crate::state::ErrorKind;
use std::sync::Arc;

impl Run<'_> {
    pub(super) fn create_network(&mut self, mut network: Network) -> Outcome {
        let name = &network.spec.name;
        if self.state.networks.contains_key(&network.id)
            || self.state.network_by_name(name).is_some()
        {
            return refuse(ErrorKind::Taken, format!("network {name} is there already"));
        }
        if network.vni == 0 || network.vni >= 1 << 24 {
            return refuse(
                ErrorKind::Invalid,
                format!("network {name}: {} is no VNI", network.vni),
            );
        }
        if let Some(other) = self.state.vni_holder(network.vni) {
            return refuse(
                ErrorKind::Conflict,
                format!("VNI {} is held by network {other}", network.vni),
            );
        }
        let overlap = self.state.networks.values().find(|other| {
            other.subnet.contains(&network.subnet) || network.subnet.contains(&other.subnet)
        });
        if let Some(other) = overlap {
            return refuse(
                ErrorKind::Taken,
                format!(
                    "network {name}: {} overlaps {} of network {}",
                    network.subnet, other.subnet, other.spec.name
                ),
            );
        }
        network.meta = self.fresh();
        let event = self.state.set_network(network.id, Some(Arc::new(network)));
        self.events.push(event);
        Ok(())
    }

    pub(super) fn remove_network(&mut self, id: NetworkId) -> Outcome {
        let network = self
            .state
            .networks
            .get(&id)
            .cloned()
            .ok_or_else(|| missing("network", id))?;
        let users: Vec<_> = self
            .state
            .services
            .values()
            .filter(|s| s.spec.template.networks.iter().any(|n| n.network == id))
            .map(|s| s.spec.name.as_str())
            .collect();
        if !users.is_empty() {
            return refuse(
                ErrorKind::InUse,
                format!(
                    "network {} is used by {}; remove these first",
                    network.spec.name,
                    users.join(", ")
                ),
            );
        }
        if let Some(held) = self.state.addresses(id) {
            return refuse(
                ErrorKind::InUse,
                format!(
                    "network {} is still left by {} task(s) that are ending; try again in a moment",
                    network.spec.name,
                    held.len()
                ),
            );
        }
        // Tasks of an older version of their service, which may still be given a node.
        let wants = |t: &&Arc<Task>| {
            let template = self.state.template(t);
            t.node.is_none()
                && !t.status.state.is_ended()
                && t.desired <= TaskState::Running
                && template.is_some_and(|v| v.networks.iter().any(|n| n.network == id))
        };
        let waiting = self.state.tasks.values().filter(wants).count();
        if waiting > 0 {
            return refuse(
                ErrorKind::InUse,
                format!(
                    "network {} is wanted by {waiting} task(s) that wait for a node; try again in a moment",
                    network.spec.name
                ),
            );
        }
        let event = self.state.set_network(id, None);
        self.events.push(event);
        Ok(())
    }
}
