//! Clocks that are wrong, told where somebody may look.

use super::Hub;
use api::model::NodeId;
use api::proto::ManagerMessage;
use api::proto::manager_message::Message as ToAgent;
use std::collections::BTreeMap;

impl Hub {
    /// Tells the node whose clock has become wrong, or right again; this manager's log; and whoever asks for the nodes.
    pub(super) fn look_at_clocks(&self) {
        let sessions = self.sessions.iter();
        let clocks = sessions.map(|(node, session)| (*node, session.heard.clock_ahead_ms()));
        let now: BTreeMap<NodeId, i64> = clocks.filter(|(_, ahead)| *ahead != 0).collect();
        let before = self.overview.clocks(now.clone());
        for (node, ahead) in now.iter().filter(|(node, _)| !before.contains_key(node)) {
            let seconds = ahead.unsigned_abs() / 1_000;
            let way = if *ahead < 0 { "behind" } else { "ahead of" };
            let hostname = self.hostname(*node);
            tracing::warn!(
                %node,
                %hostname,
                "the clock of a node is {seconds} s {way} this manager's; set the one that is wrong"
            );
            self.notice(*node, format!(
                "this node's clock is {seconds} s {way} the leader's; certificates don't hold where clocks differ: set the one that is wrong (`timedatectl set-ntp true`)"
            ));
        }
        // One whose session has ended is not known to be right.
        let right = before.keys().filter(|node| !now.contains_key(node));
        for node in right.filter(|node| self.sessions.contains_key(node)) {
            let hostname = self.hostname(*node);
            tracing::info!(%node, %hostname, "the clock of a node is as this manager's again");
            self.notice(*node, "this node's clock is as the leader's again".into());
        }
    }

    fn hostname(&self, node: NodeId) -> String {
        let of = |state: &api::state::State| {
            let node = state.nodes().get(&node)?;
            Some(node.description.hostname.clone())
        };
        self.handle.read(of).unwrap_or_default()
    }

    /// For the node's log. Should its queue be full, the managers' log has it.
    fn notice(&self, node: NodeId, text: String) {
        if let Some(session) = self.sessions.get(&node) {
            let message = Some(ToAgent::Notice(text));
            let _ = session.out.try_send(Ok(ManagerMessage { message }));
        }
    }
}
