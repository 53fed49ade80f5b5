//! The dispatcher's shell, as the product's is: sessions, the product's tables and judgements, statuses in
//! batches.

mod statuses;

use crate::bug::{Bug, has};
use crate::event::{Down, Timer, Up};
use crate::manager::{Reading, Waiter};
use crate::raft::By;
use crate::sight::Sight;
use crate::world::{World, instant};
use agent::decisions::Desired;
use api::model::{NodeDescription, NodeId, NodeState, NodeStatus};
use api::proto::Assignments;
use api::state::{Event, Op, State, Transaction};
use bytes::Bytes;
use manager::decisions::{Bounds, Core, Liveness, TICK, When, judge};
use raft_store::{Watched, Watcher};
use statuses::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const DEBOUNCE_MS: u64 = 10;
const GATHER_MS: u64 = 5;
/// Messages that an agent may leave lying.
const QUEUE: usize = 80;

/// A node's session, as the dispatcher knows it.
#[derive(Debug)]
pub struct Open {
    /// Which.
    pub session: u64,
    open: bool,
    heard: u64,
    /// The last heartbeat heard, and the last of them acknowledged.
    beats: u64,
    acknowledged: u64,
    /// The sum of all that it was told.
    told: Desired,
    /// The secrets and configs it has.
    contents: BTreeSet<Bytes>,
}

/// The dispatcher.
#[derive(Debug)]
pub struct Hub {
    /// By node.
    pub sessions: BTreeMap<NodeId, Open>,
    core: Core,
    liveness: Liveness,
    judging: bool,
    /// No judgement may still be written that nobody waits for.
    certain: bool,
    /// Sessions that begin while nodes are judged: of whom, which, and what the node says of itself.
    waiting: Vec<(usize, u64, NodeDescription)>,
    confirming: bool,
    watcher: Watcher,
    sent: u64,
    sending: bool,
    /// Whose turn it is to be looked at.
    turn: usize,
    reports: Vec<Report>,
    /// Whose statuses are being written: their sessions, and the batches' numbers.
    writing: Vec<(u64, u64)>,
    retry: Vec<Op>,
    gathering: bool,
}

impl Hub {
    /// Those that wait, too.
    pub fn all_sessions(&self) -> Vec<u64> {
        let open = self.sessions.values().map(|open| open.session);
        let waiting = self.waiting.iter().map(|(_, session, _)| *session);
        open.chain(waiting).collect()
    }
}

fn dead_after(state: &State) -> Duration {
    let ms = state.cluster().map_or(3_000, |c| c.spec.dead_after_ms);
    Duration::from_millis(u64::from(ms))
}

impl World {
    fn hub(&mut self, host: usize) -> Option<&mut Hub> {
        self.hosts[host].manager.as_mut()?.hub()
    }

    fn lead_term(&self, host: usize) -> u64 {
        let manager = self.hosts[host].manager.as_ref();
        manager
            .and_then(|manager| manager.lead.as_ref())
            .map_or(0, |lead| lead.term)
    }

    pub(crate) fn begin_hub(&self, watcher: Watcher) -> Hub {
        Hub {
            sessions: BTreeMap::new(),
            core: Core::default(),
            liveness: Liveness::new(instant(self.now)),
            judging: false,
            certain: true,
            waiting: Vec::new(),
            confirming: false,
            watcher,
            sent: self.now,
            sending: false,
            turn: 0,
            reports: Vec::new(),
            writing: Vec::new(),
            retry: Vec::new(),
            gathering: false,
        }
    }

    /// A session begins.
    pub(crate) fn hub_open(
        &mut self,
        host: usize,
        agent: usize,
        session: u64,
        description: NodeDescription,
    ) {
        let (now, at) = (self.now, self.clock(host));
        let (node, addr) = (self.hosts[agent].node, World::addr(agent));
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        let known = manager.state.nodes().get(&node).cloned();
        let leader = manager.raft.leader;
        let Some(hub) = manager.hub() else {
            self.end_session(session, leader);
            return;
        };
        let Some(known) = known else {
            self.end_session(session, None);
            return;
        };
        if hub.judging && !has(Bug::StaleLeaderDispatches) {
            hub.waiting.push((agent, session, description));
            return;
        }
        hub.liveness.heard(node, instant(now));
        let new = Open {
            session,
            open: false,
            heard: now,
            beats: 0,
            acknowledged: 0,
            told: Desired::default(),
            contents: BTreeSet::new(),
        };
        hub.core.close(node);
        let certain = hub.certain;
        if let Some(old) = hub.sessions.insert(node, new) {
            self.end_session(old.session, None);
        }
        let same = certain
            && known.status.state == NodeState::Ready
            && known.description == description
            && (known.addr, known.port) == addr;
        if has(Bug::StaleLeaderDispatches) {
            self.node_ready(host, node, session, true);
            return;
        }
        if same {
            self.read(host, Reading::Session { node, session });
            return;
        }
        let status = NodeStatus {
            state: NodeState::Ready,
            since: at,
            ..NodeStatus::default()
        };
        let op = Op::SetNodeStatus {
            id: node,
            status,
            description: Some(description),
            addr: Some(addr),
        };
        let change = Transaction { at, ops: vec![op] };
        self.propose(host, By::Hub, change, Waiter::Ready { node, session });
    }

    pub(crate) fn node_ready(&mut self, host: usize, node: NodeId, session: u64, good: bool) {
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        let leader = manager.raft.leader.filter(|leader| *leader != host);
        let state = manager.state.clone();
        let Some(hub) = manager.hub() else { return };
        let Some(open) = hub
            .sessions
            .get_mut(&node)
            .filter(|open| open.session == session)
        else {
            return;
        };
        if !good {
            self.drop_session(host, node);
            self.end_session(session, leader);
            return;
        }
        open.open = true;
        let full = hub.core.open(&state, node);
        self.push_down(session, Down::Welcome);
        self.assign(host, node, full);
    }

    fn assign(&mut self, host: usize, node: NodeId, message: Assignments) {
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        let applied = manager.applied;
        let Some(lead) = &mut manager.lead else {
            return;
        };
        let Some(open) = lead
            .hub
            .as_mut()
            .and_then(|hub| hub.sessions.get_mut(&node))
        else {
            return;
        };
        open.told.apply(message.clone());
        if message.full {
            open.contents.clear();
        }
        for gone in &message.blobs_removed {
            open.contents.remove(gone);
        }
        let come = message.blobs.iter().map(|blob| blob.id.clone());
        open.contents.extend(come);
        self.book.see(&Sight::Told {
            node,
            told: &open.told,
            contents: &open.contents,
            state: &manager.state,
            applied,
            whole: false,
        });
        let session = open.session;
        let lying = self
            .sessions
            .get(&session)
            .map_or(0, |session| session.down.len());
        if lying > QUEUE {
            self.drop_session(host, node);
            self.end_session(session, None);
            return;
        }
        self.push_down(session, Down::Assignments(Box::new(message)));
    }

    fn drop_session(&mut self, host: usize, node: NodeId) {
        if let Some(hub) = self.hub(host)
            && let Some(open) = hub.sessions.remove(&node)
        {
            hub.liveness.heard(node, instant(open.heard));
            hub.core.close(node);
        }
    }

    /// The manager's end of a session hears that the other is gone.
    pub(crate) fn hub_closed(&mut self, host: usize, agent: usize, session: u64) {
        let node = self.hosts[agent].node;
        let own = self.hub(host).is_some_and(|hub| {
            hub.sessions
                .get(&node)
                .is_some_and(|open| open.session == session)
        });
        if own {
            self.drop_session(host, node);
        }
    }

    /// An agent's message.
    pub(crate) fn hub_takes(&mut self, host: usize, agent: usize, session: u64, message: Up) {
        if let Up::Hello(description) = message {
            self.hub_open(host, agent, session, description);
            return;
        }
        let (now, node, term) = (self.now, self.hosts[agent].node, self.lead_term(host));
        let Some(hub) = self.hub(host) else { return };
        let Some(open) = hub
            .sessions
            .get_mut(&node)
            .filter(|open| open.session == session)
        else {
            return;
        };
        open.heard = now;
        if let Up::Heartbeat(beat) = message {
            open.beats = open.beats.max(beat);
        }
        if let Up::Statuses(sequence, statuses) = message {
            hub.reports.push(Report {
                node,
                session,
                sequence,
                statuses,
            });
            if !std::mem::replace(&mut hub.gathering, true) {
                self.later(host, GATHER_MS, Timer::Gather { term });
            }
        }
    }

    /// Something was applied.
    pub(crate) fn wake_hub(&mut self, host: usize) {
        let (now, term) = (self.now, self.lead_term(host));
        let Some(hub) = self.hub(host) else { return };
        if !std::mem::replace(&mut hub.sending, true) {
            let at = (hub.sent + DEBOUNCE_MS).max(now);
            self.later(host, at - now, Timer::Send { term });
        }
    }

    pub(crate) fn hub_send(&mut self, host: usize, term: u64) {
        let now = self.now;
        if self.lead_term(host) != term {
            return;
        }
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        let state = manager.state.clone();
        let Some(hub) = manager.hub() else { return };
        (hub.sending, hub.sent) = (false, now);
        let mut events: Vec<Arc<[Event]>> = Vec::new();
        let mut resync = false;
        while let Some(watched) = hub.watcher.look() {
            match watched {
                Watched::Changes { events: more, .. } => events.push(more),
                Watched::Resync => resync = true,
                Watched::Closed => {}
            }
        }
        let messages = if resync {
            hub.core.resync(&state)
        } else {
            hub.core
                .advance(&state, events.iter().flat_map(|events| events.iter()))
        };
        let mut told: Vec<NodeId> = messages.iter().map(|(node, _)| *node).collect();
        for (node, message) in messages {
            self.assign(host, node, message);
        }
        // Those that were told, and by turns one that was not.
        if let Some(hub) = self.hub(host) {
            let open: Vec<NodeId> = hub.core.nodes().collect();
            hub.turn = hub.turn.wrapping_add(1);
            told.extend(open.get(hub.turn % open.len().max(1)));
        }
        self.check_told(host, &told);
    }

    /// The sums of what these were told are whole now.
    fn check_told(&mut self, host: usize, nodes: &[NodeId]) {
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        let Some(hub) = manager.lead.as_ref().and_then(|lead| lead.hub.as_ref()) else {
            return;
        };
        for node in nodes {
            if let Some(open) = hub.sessions.get(node).filter(|open| open.open) {
                self.book.see(&Sight::Told {
                    node: *node,
                    told: &open.told,
                    contents: &open.contents,
                    state: &manager.state,
                    applied: manager.applied,
                    whole: true,
                });
            }
        }
    }

    pub(crate) fn hub_tick(&mut self, host: usize, term: u64) {
        let at = instant(self.now);
        let clock = self.clock(host);
        if self.lead_term(host) != term {
            return;
        }
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        let leader = manager.raft.leader.filter(|leader| *leader != host);
        let state = manager.state.clone();
        let Some(hub) = manager.hub() else { return };
        for (node, open) in &hub.sessions {
            hub.liveness.heard(*node, instant(open.heard));
        }
        hub.liveness.tick(at);
        self.confirm(host);
        let Some(hub) = self.hub(host) else { return };
        let every = u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX);
        if hub.judging {
            self.later(host, every, Timer::Hub { term });
            return;
        }
        let open: BTreeMap<NodeId, bool> = hub
            .sessions
            .iter()
            .map(|(node, open)| (*node, open.open))
            .collect();
        let bounds = Bounds {
            suspect: Duration::from_millis(2_200),
            dead: dead_after(&state),
        };
        let when = When { at, now: clock };
        let judged = judge(&state, &open, &hub.liveness, bounds, when);
        for node in &judged.gone {
            hub.liveness.forget(*node);
        }
        for node in judged.gone.into_iter().chain(judged.dead) {
            let session = self
                .hub(host)
                .and_then(|hub| hub.sessions.get(&node).map(|open| open.session));
            self.drop_session(host, node);
            if let Some(session) = session {
                self.end_session(session, leader);
            }
        }
        if !judged.ops.is_empty() {
            if let Some(hub) = self.hub(host) {
                hub.judging = true;
            }
            let change = Transaction {
                at: clock,
                ops: judged.ops,
            };
            self.propose(host, By::Hub, change, Waiter::Judged);
        }
        self.later(host, every, Timer::Hub { term });
    }

    /// Heartbeats are acknowledged once it is sure that this manager led when they had been heard.
    fn confirm(&mut self, host: usize) {
        let Some(hub) = self.hub(host).filter(|hub| !hub.confirming) else {
            return;
        };
        let heard: Vec<(NodeId, u64, u64)> = hub
            .sessions
            .iter()
            .filter(|(_, open)| open.open && open.beats > open.acknowledged)
            .map(|(node, open)| (*node, open.session, open.beats))
            .collect();
        if has(Bug::BeatsAcknowledgedUnasked) {
            self.confirmed(host, self.now, heard, true);
        } else {
            hub.confirming = true;
            let at = self.now;
            self.read(host, Reading::Beats { at, heard });
        }
    }

    pub(crate) fn confirmed(
        &mut self,
        host: usize,
        at: u64,
        heard: Vec<(NodeId, u64, u64)>,
        good: bool,
    ) {
        let now = self.now;
        let manager = self.hosts[host].manager.as_ref();
        let dead_after = manager.map_or(Duration::ZERO, |manager| dead_after(&manager.state));
        let Some(hub) = self.hub(host) else { return };
        hub.confirming = false;
        if good {
            hub.liveness.led(instant(at), dead_after, instant(now));
        }
        let mut told = Vec::new();
        for (node, session, beats) in heard {
            let open = hub.sessions.get_mut(&node);
            if let Some(open) = open.filter(|open| good && open.session == session) {
                open.acknowledged = beats;
                told.push((session, beats));
            }
        }
        for (session, beats) in told {
            self.push_down(session, Down::Heard(beats));
        }
    }

    pub(crate) fn judged(&mut self, host: usize, certain: bool) {
        let Some(hub) = self.hub(host) else { return };
        hub.judging = false;
        hub.certain &= certain;
        for (agent, session, description) in std::mem::take(&mut hub.waiting) {
            self.hub_open(host, agent, session, description);
        }
    }
}
