//! Published ports: each is held by one task of a node.

use api::model::{NodeId, Protocol, PublishedPort};
use api::state::State;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The ports of all nodes, as a pass goes on.
pub(crate) struct Ports<'a> {
    state: &'a State,
    /// Given in this pass: to which service's which slot.
    given: BTreeMap<(NodeId, Protocol, u16), (Arc<str>, u32)>,
}

impl<'a> Ports<'a> {
    pub fn new(state: &'a State) -> Self {
        Self {
            state,
            given: BTreeMap::new(),
        }
    }

    pub fn are_free(&self, node: NodeId, ports: &[PublishedPort]) -> bool {
        #[cfg(feature = "sabotage")]
        if api::sabotage::has(api::sabotage::Bug::CapacityExceeded) {
            return true;
        }
        ports.iter().all(|port| {
            self.state
                .port_holder(node, port.protocol, port.published)
                .is_none()
                && !self
                    .given
                    .contains_key(&(node, port.protocol, port.published))
        })
    }

    /// The first of the ports that is taken, and the name of the task that has it.
    pub fn taken(&self, node: NodeId, ports: &[PublishedPort]) -> Option<(PublishedPort, String)> {
        ports.iter().find_map(|port| {
            let holder = match self.state.port_holder(node, port.protocol, port.published) {
                Some(id) => self
                    .state
                    .tasks()
                    .get(&id)
                    .map_or_else(|| id.to_string(), |t| t.name()),
                None => {
                    let (service, slot) = self.given.get(&(node, port.protocol, port.published))?;
                    format!("{service}.{slot}")
                }
            };
            Some((*port, holder))
        })
    }

    pub fn take(&mut self, node: NodeId, ports: &[PublishedPort], service: &Arc<str>, slot: u32) {
        self.given.extend(
            ports
                .iter()
                .map(|p| ((node, p.protocol, p.published), (service.clone(), slot))),
        );
    }
}
