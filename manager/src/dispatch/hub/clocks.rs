//! Clocks that are wrong, told where somebody may look.

use super::Hub;
use api::proto::ManagerMessage;
use api::proto::manager_message::Message as ToAgent;

impl Hub {
    /// Tells the node whose clock has become wrong, this manager's log, and whoever asks for the nodes.
    pub(super) fn look_at_clocks(&self) {
        let sessions = self.sessions.iter();
        let clocks = sessions.map(|(node, session)| (*node, session.heard.clock_ahead_ms()));
        let wrong = clocks.filter(|(_, ahead)| *ahead != 0).collect();
        for (node, ahead) in self.overview.clocks(wrong) {
            let seconds = ahead.unsigned_abs() / 1_000;
            let way = if ahead < 0 { "behind" } else { "ahead of" };
            tracing::warn!(
                %node,
                "the clock of a node is {seconds} s {way} this manager's; set the one that is wrong"
            );
            let notice = format!(
                "this node's clock is {seconds} s {way} the leader's; certificates don't hold where clocks differ: set the one that is wrong (`timedatectl set-ntp true`)"
            );
            if let Some(session) = self.sessions.get(&node) {
                // Should its queue be full, the managers' log and `clusterctl status` say so.
                let _ = session.out.try_send(Ok(ManagerMessage {
                    message: Some(ToAgent::Notice(notice)),
                }));
            }
        }
    }
}
