//! What only the leader knows of nodes, for whoever lists them: who is suspect, who is there twice, whose clock is wrong.

use api::model::NodeId;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A second machine that has tried to be a node within this time is told of.
const TWIN_AGE: Duration = Duration::from_secs(30);

/// Shared by the hub, which writes it, and the control API.
#[derive(Debug, Default)]
pub(crate) struct Overview(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    suspect: BTreeSet<NodeId>,
    /// Of each node with a session: which boot of which machine.
    instances: BTreeMap<NodeId, Bytes>,
    /// Where a second machine called from, and when.
    twins: BTreeMap<NodeId, (Ipv4Addr, Instant)>,
    /// How far the clocks that are wrong are ahead, milliseconds.
    clocks: BTreeMap<NodeId, i64>,
}

impl Overview {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic while it was held leaves maps that are whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These have missed some heartbeats; all others have not.
    pub fn suspects(&self, now: BTreeSet<NodeId>) {
        self.lock().suspect = now;
    }

    /// Whether a node has missed some heartbeats.
    pub fn is_suspect(&self, node: NodeId) -> bool {
        self.lock().suspect.contains(&node)
    }

    /// A session has begun.
    pub fn has_session(&self, node: NodeId, instance: Bytes) {
        self.lock().instances.insert(node, instance);
    }

    /// It has ended.
    pub fn session_ended(&self, node: NodeId) {
        self.lock().instances.remove(&node);
    }

    /// A second machine has tried to be this node. Whether that is news.
    pub fn has_twin(&self, node: NodeId, addr: Ipv4Addr, now: Instant) -> bool {
        let before = self.lock().twins.insert(node, (addr, now));
        before.is_none_or(|(known, at)| known != addr || now.duration_since(at) > TWIN_AGE)
    }

    /// Where a second machine with this node's identity is, if one has called lately.
    pub fn twin(&self, node: NodeId, now: Instant) -> Option<Ipv4Addr> {
        let twin = self.lock().twins.get(&node).copied();
        twin.filter(|(_, at)| now.saturating_duration_since(*at) <= TWIN_AGE)
            .map(|(addr, _)| addr)
    }

    /// So far ahead are the clocks of these nodes, milliseconds; all others are right, or not known. Those of before.
    pub fn clocks(&self, now: BTreeMap<NodeId, i64>) -> BTreeMap<NodeId, i64> {
        std::mem::replace(&mut self.lock().clocks, now)
    }

    /// How far a node's clock is ahead, milliseconds; 0 where it is right, or not known.
    pub fn clock_ahead_ms(&self, node: NodeId) -> i64 {
        self.lock().clocks.get(&node).copied().unwrap_or_default()
    }

    /// How far the clocks that are wrong are ahead, milliseconds.
    pub fn wrong_clocks(&self) -> BTreeMap<NodeId, i64> {
        self.lock().clocks.clone()
    }

    /// This manager leads no more, and knows nothing.
    pub fn clear(&self) {
        *self.lock() = Known::default();
    }
}
