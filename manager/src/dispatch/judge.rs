//! What the state says of nodes, against what is heard of them: level-triggered, pure.
//!
//! A node that is given up has its silence written beside: how long nothing has been heard of it, at least. It is
//! written again when it has become long enough for the lease of one of its exclusive tasks to be surely over; the
//! scheduler, which knows no clock, goes by that. The silence is this leader's own, by its steady clock: what another
//! leader has heard came before this one was elected, since it was acknowledged only by one that still led.

use super::liveness::Liveness;
use api::model::{Node, NodeId, NodeState, NodeStatus, Timestamp};
use api::state::{Op, State};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// When it is.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// By the steady clock.
    pub at: Instant,
    /// By the clock on the wall, to be written.
    pub now: Timestamp,
}

/// How long silence may last.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Until a node is suspect.
    pub suspect: Duration,
    /// Until it is given up.
    pub dead: Duration,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// To be proposed.
    pub ops: Vec<Op>,
    /// Sessions of nodes that are no members any more.
    pub gone: Vec<NodeId>,
    /// Sessions of nodes that are given up.
    pub dead: Vec<NodeId>,
    /// Nodes that are ready and have missed some heartbeats.
    pub suspect: BTreeSet<NodeId>,
}

/// `sessions`: of each node that has one, whether it has got its assignments.
pub fn judge(
    state: &State,
    sessions: &BTreeMap<NodeId, bool>,
    liveness: &Liveness,
    bounds: Bounds,
    when: When,
) -> Judgement {
    let is_member = |node: &NodeId| state.nodes().contains_key(node);
    let mut judgement = Judgement {
        gone: sessions
            .keys()
            .filter(|node| !is_member(node))
            .copied()
            .collect(),
        ..Judgement::default()
    };
    for (id, node) in state.nodes() {
        let is_dead = liveness.is_dead(*id, bounds.dead, when.at);
        let is_open = sessions.get(id).copied();
        let silence = liveness.silence(*id, when.at);
        let is_ready = node.status.state == NodeState::Ready;
        if is_dead {
            judgement.dead.extend(is_open.map(|_| *id));
            judgement.ops.extend(given_up(state, node, silence, when));
        } else if is_ready && silence > bounds.suspect && liveness.knows(*id) {
            judgement.suspect.insert(*id);
        }
        // A judgement that was overtaken by the node's own word.
        if !is_dead && is_open == Some(true) && !is_ready {
            judgement.ops.push(set(
                *id,
                NodeStatus {
                    state: NodeState::Ready,
                    since: when.now,
                    ..NodeStatus::default()
                },
            ));
        }
    }
    judgement
}

fn set(id: NodeId, status: NodeStatus) -> Op {
    Op::SetNodeStatus {
        id,
        status,
        description: None,
        addr: None,
    }
}

/// What is to be written of a node that is given up, if anything is new.
fn given_up(state: &State, node: &Node, silence: Duration, when: When) -> Option<Op> {
    let silent_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
    let hostname = &node.description.hostname;
    match node.status.state {
        NodeState::Ready => {
            let message = format!("nothing was heard of it for {silent_ms} ms");
            tracing::warn!(node = %node.id, %hostname, "node is down: {message}");
            Some(set(
                node.id,
                NodeStatus {
                    state: NodeState::Down,
                    message,
                    since: when.now,
                    silent_ms,
                },
            ))
        }
        NodeState::Down => {
            let known = node.status.silent_ms;
            let is_over = state
                .tasks_of_node(node.id)
                .filter_map(|task| state.exclusive_until_ms(task))
                .any(|over| known < over && over <= silent_ms);
            is_over.then(|| {
                tracing::info!(node = %node.id, %hostname, silent_ms, "leases of a node that is down are over");
                set(
                    node.id,
                    NodeStatus {
                        silent_ms,
                        ..node.status.clone()
                    },
                )
            })
        }
        NodeState::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::liveness::TICK;
    use crate::testing::{self, apply, running, state_of};
    use api::model::{Disconnect, ServiceId};

    const NODE: NodeId = NodeId(1);

    struct World {
        state: State,
        liveness: Liveness,
        start: Instant,
        sessions: BTreeMap<NodeId, bool>,
    }

    fn world() -> World {
        let mut service = testing::service(1, "db");
        service.spec.template.disconnect = Disconnect {
            stop_after_ms: Some(5_000),
            exclusive: true,
        };
        let mut state = state_of(vec![
            Op::CreateNode(Box::new(testing::node(1, "node1"))),
            Op::CreateService(Box::new(service)),
        ]);
        running(&mut state, 1, 1, 1, 1);
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.heard(NODE, start);
        World {
            state,
            liveness,
            start,
            sessions: BTreeMap::from([(NODE, true)]),
        }
    }

    impl World {
        fn at(&mut self, from_ms: u64, ms: u64) -> Judgement {
            let bounds = Bounds {
                suspect: Duration::from_secs(2),
                dead: Duration::from_secs(3),
            };
            for tick in (from_ms..=ms).step_by(TICK.as_millis() as usize) {
                let now = self.start + Duration::from_millis(tick);
                self.liveness.tick(now);
                self.liveness.led(now, bounds.dead, now);
            }
            let when = When {
                at: self.start + Duration::from_millis(ms),
                now: Timestamp(1_000),
            };
            judge(&self.state, &self.sessions, &self.liveness, bounds, when)
        }
    }

    #[test]
    fn a_silent_node_is_suspect_then_down_and_its_silence_is_written_when_a_lease_is_over() {
        let mut world = world();
        assert_eq!(world.at(0, 1_900), Judgement::default());
        assert_eq!(world.at(2_000, 2_500).suspect, [NODE].into());
        let down = world.at(2_600, 3_200);
        assert_eq!((down.dead.as_slice(), down.ops.len()), (&[NODE][..], 1));
        apply(&mut world.state, down.ops);
        world.sessions.clear();
        assert_eq!(world.state.nodes()[&NODE].status.silent_ms, 3_200);
        let task = world.state.tasks_of_node(NODE).next().unwrap().clone();
        let over = world.state.exclusive_until_ms(&task).unwrap();
        assert_eq!(world.at(3_400, over - 200), Judgement::default());
        assert!(world.state.may_still_run(&task));
        let again = world.at(over, over);
        assert_eq!(again.ops.len(), 1);
        apply(&mut world.state, again.ops);
        assert!(!world.state.may_still_run(&task));
        // Once is enough.
        assert_eq!(world.at(over + 200, over + 5_000), Judgement::default());
    }

    #[test]
    fn a_new_leader_counts_the_silence_from_its_own_beginning() {
        let mut world = world();
        let down = world.at(0, 3_200);
        apply(&mut world.state, down.ops);
        // Later, another leads.
        world.sessions.clear();
        world.start += Duration::from_secs(3_600);
        world.liveness = Liveness::new(world.start);
        let task = world.state.tasks_of_node(NODE).next().unwrap().clone();
        let over = world.state.exclusive_until_ms(&task).unwrap();
        assert_eq!(world.at(0, over - 200), Judgement::default());
        assert_eq!(world.at(over, over).ops.len(), 1);
    }

    #[test]
    fn without_exclusive_tasks_nothing_is_written_of_the_silence() {
        let mut world = world();
        apply(&mut world.state, vec![Op::RemoveService(ServiceId(1))]);
        let down = world.at(0, 3_200);
        apply(&mut world.state, down.ops);
        world.sessions.clear();
        assert_eq!(world.at(3_400, 600_000), Judgement::default());
    }
}
