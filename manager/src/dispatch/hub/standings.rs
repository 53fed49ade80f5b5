//! What nodes' identities should be, told as it changes.

use super::{Hub, ToAgent, standing};
use api::model::NodeId;

impl Hub {
    /// Tells every node, or one, what its identity should be, where that has changed.
    pub(super) fn tell_standings(&mut self, only: Option<NodeId>) {
        let managers = self.handle.managers();
        let managers = managers.iter().map(|m| m.peer.node_id).collect();
        let due = self.handle.read(|state| {
            let range = only.map_or(NodeId(0)..=NodeId(u128::MAX), |node| node..=node);
            let open = self
                .sessions
                .range(range)
                .filter(|(_, session)| session.open);
            standing::due(state, &managers, open.map(|(id, s)| (*id, s.told)))
        });
        for (node, told, message) in due {
            if let Some(session) = self.sessions.get_mut(&node) {
                session.told = Some(told);
            }
            self.send(node, ToAgent::Standing(message));
        }
    }
}
