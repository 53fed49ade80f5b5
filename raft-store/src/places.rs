//! Where the managers are: as the membership has it, or as one of them has said since.

use crate::handle::Handle;
use crate::types::Peer;
use api::model::NodeId;
use std::collections::BTreeMap;

impl Handle {
    /// Where the managers are, as the membership has it, or as was said since.
    #[must_use]
    pub fn places(&self) -> BTreeMap<NodeId, String> {
        let own = self.own.node_id;
        let all = self.addresses.all();
        let mut places: BTreeMap<NodeId, String> = all
            .into_values()
            .map(|peer| (peer.node_id, peer.addr))
            .collect();
        // Of itself only the membership's word counts: what it says may be its own.
        for manager in self.managers() {
            if manager.peer.node_id == own {
                places.insert(own, manager.peer.addr);
            }
        }
        places
    }

    /// A manager says that it is elsewhere than the membership has it; it is reached there from now on. Nothing of a
    /// node that is no manager.
    pub fn has_moved(&self, node: NodeId, addr: String) {
        let known = self.managers();
        let Some(known) = known.iter().find(|m| m.peer.node_id == node) else {
            return;
        };
        if node == self.own.node_id {
            return;
        }
        let id = node.raft_id();
        match known.peer.addr == addr {
            true => self.addresses.has_settled(id),
            false => self.addresses.has_moved(
                id,
                Peer {
                    node_id: node,
                    addr,
                },
            ),
        }
    }
}
