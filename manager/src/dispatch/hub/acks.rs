//! Heartbeats are acknowledged, and sessions told of the pace they are to keep.

use super::{Hub, Proposed, spec};
use api::model::{ClusterSpec, NodeId};
use api::proto::Pace;
use api::proto::manager_message::Message as ToAgent;
use std::time::{Duration, Instant};

impl Hub {
    /// Heartbeats are acknowledged once it is sure that this manager led when they had been heard: another would
    /// count the silence of their nodes from its own beginning, which came later. All of them by one question; it is
    /// asked without any, too, since who is not sure to lead gives no node up.
    pub(super) fn confirm(&mut self, at: Instant) {
        if self.confirming {
            return;
        }
        let heard: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.open && session.heard.beat() > session.acknowledged)
            .map(|(node, session)| (*node, session.number, session.heard.beat()))
            .collect();
        self.confirming = true;
        let handle = self.handle.clone();
        self.proposals.push(Box::pin(async move {
            let led = handle.linearizable().await;
            if let Err(error) = &led {
                tracing::debug!("heartbeats are not acknowledged: {error}");
            }
            let led = led.is_ok();
            Proposed::Confirmed { led, at, heard }
        }));
    }

    pub(super) fn confirmed(&mut self, led: bool, at: Instant, heard: Vec<(NodeId, u64, u64)>) {
        self.confirming = false;
        if !led {
            return;
        }
        let dead_after = Duration::from_millis(u64::from(self.pace.dead_after_ms));
        self.liveness.led(at, dead_after, Instant::now());
        for (node, number, beat) in heard {
            let session = self.sessions.get_mut(&node);
            if let Some(session) = session.filter(|session| session.number == number) {
                session.acknowledged = beat;
                self.send(node, ToAgent::HeartbeatHeard(beat));
            }
        }
    }

    /// Sessions that are open learn of new settings; the old ones count against nobody.
    pub(super) fn look_at_pace(&mut self) {
        let now = spec(&self.handle);
        let told = |spec: &ClusterSpec| (spec.heartbeat_ms, spec.dead_after_ms);
        if told(&now) != told(&self.pace) {
            self.liveness.forgive(Instant::now());
            let open: Vec<NodeId> = self.core.nodes().collect();
            for node in open {
                self.send(
                    node,
                    ToAgent::Pace(Pace {
                        heartbeat_ms: now.heartbeat_ms,
                        dead_after_ms: now.dead_after_ms,
                    }),
                );
            }
        }
        self.pace = now;
    }
}
