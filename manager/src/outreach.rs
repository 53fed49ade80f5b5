//! The leader calls nodes that don't call: one that was off while the managers moved looks for them where they were.
//!
//! Level-triggered: every node that is down is told again and again where the managers are, at the address it was last
//! known by. One that has a session knows it already.

use crate::dialer::Dialer;
use crate::dispatch::managers;
use api::model::{NodeId, NodeState};
use api::proto::NoteManagersRequest;
use api::proto::machine_client::MachineClient;
use api::state::State;
use futures_util::future::join_all;
use raft_store::Handle;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// How often it looks for nodes to call.
const TICK: Duration = Duration::from_secs(2);
/// How long between two calls of the same node.
const AGAIN: Duration = Duration::from_secs(10);
/// Calls at once.
const AT_ONCE: usize = 16;
/// How long a call may take.
const BOUND: Duration = Duration::from_secs(4);

/// Whom to call now, those that have waited longest first; notes that they were called. Pure.
fn due(
    state: &State,
    called: &mut BTreeMap<NodeId, Instant>,
    me: NodeId,
    now: Instant,
) -> Vec<(NodeId, String)> {
    let is_down = |id: &NodeId| {
        let node = state.nodes().get(id);
        node.is_some_and(|node| node.status.state == NodeState::Down)
    };
    called.retain(|id, _| is_down(id));
    let mut due: Vec<_> = state
        .nodes()
        .values()
        .filter(|node| node.id != me && is_down(&node.id))
        .map(|node| (called.get(&node.id).copied(), node))
        .filter(|(last, _)| last.is_none_or(|last| now.saturating_duration_since(last) >= AGAIN))
        .collect();
    due.sort_by_key(|(last, node)| (*last, node.id));
    due.truncate(AT_ONCE);
    due.into_iter()
        .map(|(_, node)| {
            called.insert(node.id, now);
            (node.id, format!("{}:{}", node.addr, node.port))
        })
        .collect()
}

/// Goes on until it is stopped.
pub async fn run(handle: Handle, dialer: Dialer, me: NodeId, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = calls(&handle, &dialer, me) => {}
    }
}

async fn calls(handle: &Handle, dialer: &Dialer, me: NodeId) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut called = BTreeMap::new();
    loop {
        ticks.tick().await;
        let due = handle.read(|state| due(state, &mut called, me, Instant::now()));
        let managers = managers(handle);
        join_all(due.into_iter().map(|(node, addr)| {
            let request = NoteManagersRequest {
                managers: managers.clone(),
            };
            async move {
                let mut client = MachineClient::new(dialer.node(&addr, node));
                match timeout(BOUND, client.note_managers(request)).await {
                    Ok(Ok(_)) => tracing::info!(%node, addr, "a node that is down was told where the managers are"),
                    // Most nodes that are down are off.
                    Ok(Err(status)) => tracing::trace!(%node, addr, "not told: {}", status.message()),
                    Err(_) => tracing::trace!(%node, addr, "not told: no answer"),
                }
            }
        }))
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{apply, node, state_of};
    use api::model::NodeStatus;
    use api::state::Op;

    fn set(state: &mut State, id: u128, to: NodeState) {
        let status = NodeStatus {
            state: to,
            ..NodeStatus::default()
        };
        apply(
            state,
            vec![Op::SetNodeStatus {
                id: NodeId(id),
                status,
                description: None,
                addr: None,
            }],
        );
    }

    #[test]
    fn nodes_that_are_down_are_called_again_and_again_and_all_get_their_turn() {
        let many = AT_ONCE as u128 + 4;
        let nodes = (1..=many).map(|n| Op::CreateNode(Box::new(node(n, &format!("node{n}")))));
        let mut state = state_of(nodes.collect());
        let (begin, me) = (Instant::now(), NodeId(1));
        let mut called = BTreeMap::new();
        let mut at = |state: &State, ms| {
            let due = due(state, &mut called, me, begin + Duration::from_millis(ms));
            due.into_iter().map(|(id, _)| id.0).collect::<Vec<_>>()
        };
        for n in 1..=many {
            set(&mut state, n, NodeState::Ready);
        }
        assert!(at(&state, 0).is_empty());
        for n in 1..=many {
            set(&mut state, n, NodeState::Down);
        }
        let first = at(&state, 0);
        assert_eq!(first, (2..2 + AT_ONCE as u128).collect::<Vec<_>>());
        assert_eq!(at(&state, 2_000), (18..=many).collect::<Vec<_>>());
        assert!(at(&state, 4_000).is_empty());
        assert_eq!(at(&state, 10_000), first);
        // One that was back is new.
        set(&mut state, 2, NodeState::Ready);
        assert!(at(&state, 11_000).is_empty());
        set(&mut state, 2, NodeState::Down);
        assert_eq!(at(&state, 11_500), [2]);
    }
}
