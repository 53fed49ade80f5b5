//! Two machines with one identity: a cloned disk. And two nodes with one address.

use super::Hub;
use api::model::NodeId;
use api::proto::ManagerMessage;
use api::proto::manager_message::Message as ToAgent;
use bytes::Bytes;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tonic::Status;

impl Hub {
    /// Whether another machine that has this node's identity is there and heard of: the refusal of this one.
    pub(super) fn twin(&self, node: NodeId, instance: &Bytes, addr: Ipv4Addr) -> Option<Status> {
        let first = self.sessions.get(&node)?;
        let at = Instant::now();
        let dead_after = Duration::from_millis(u64::from(self.pace.dead_after_ms));
        let same = first.instance == *instance || first.instance.is_empty() || instance.is_empty();
        if same || at.saturating_duration_since(first.heard.at()) > dead_after {
            return None;
        }
        let text = format!(
            "two machines have the identity of node {node}: the one at {} is there already, this one calls from {addr}; is this a cloned disk? take the copy out with `clusterctl leave --force` on it, then join it again",
            first.addr
        );
        if self.overview.has_twin(node, addr, at) {
            tracing::error!(%node, first = %first.addr, second = %addr, "{text}");
            let notice = format!(
                "a second machine, at {addr}, has this node's identity and was refused; is it a copy of this one's disk?"
            );
            // To the one that is there; should its queue be full, the managers' log says so.
            let _ = first.out.try_send(Ok(ManagerMessage {
                message: Some(ToAgent::Notice(notice)),
            }));
        }
        Some(Status::already_exists(text))
    }

    /// Whether another node is there and heard of: the refusal of this one. None of the two would get what is meant for
    /// it. One that has moved away meanwhile is heard of no longer.
    pub(super) fn taken(&self, node: NodeId, addr: (Ipv4Addr, u16)) -> Option<Status> {
        let at = Instant::now();
        let dead_after = Duration::from_millis(u64::from(self.pace.dead_after_ms));
        let (other, _) = self.sessions.iter().find(|(other, session)| {
            **other != node
                && (session.addr, session.port) == addr
                && at.saturating_duration_since(session.heard.at()) <= dead_after
        })?;
        let name = self.handle.read(|state| {
            let known = state.nodes().get(other);
            known.map(|known| known.description.hostname.clone())
        });
        let text = format!(
            "node {} ({other}) is at {} already, and two nodes can't have one address; give this one another with `clusterctl node update self --addr ADDRESS` on it",
            name.unwrap_or_default(),
            addr.0
        );
        tracing::error!(%node, "{text}");
        Some(Status::already_exists(text))
    }
}
