//! The one task that knows all sessions: who is there, what each was told, who is given up.
//!
//! Cancel-safe: each branch of its loop either completes or has taken nothing.

mod acks;
mod begin;
mod clocks;
mod standings;
mod twin;

use super::core::Core;
use super::judge::{Bounds, When, judge};
use super::liveness::{Liveness, TICK};
use super::overview::Overview;
use super::parts::parts;
use super::session::Heard;
use super::standing::{self, gone, managers};
use super::statuses::{self, Report};
use crate::clock::now;
use api::model::{ClusterSpec, NodeCert, NodeDescription, NodeId, Role};
use api::proto::manager_message::Message as ToAgent;
use api::proto::{Assignments, ManagerMessage};
use api::state::{Event, State, Transaction};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use raft_store::{Handle, ProposeError, Watched, Watcher};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Sessions opening and ending.
const QUEUE: usize = 256;
/// Status messages on their way to the batcher.
const REPORTS: usize = 256;
/// Changes are gathered for this long when others were sent just before.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// The managers are looked at every so many ticks.
const MANAGERS_EVERY: u32 = 5;

/// What sessions tell the hub.
pub enum Message {
    /// One begins.
    Open(Box<Opening>),
    /// One has ended.
    Closed {
        /// Whose.
        node: NodeId,
        /// Which of its sessions.
        number: u64,
    },
}

/// A session that begins.
pub struct Opening {
    pub node: NodeId,
    pub number: u64,
    pub description: NodeDescription,
    pub addr: (Ipv4Addr, u16),
    /// Which boot of which machine; empty where it doesn't say.
    pub instance: Bytes,
    pub cert: Option<NodeCert>,
    pub out: mpsc::Sender<Result<ManagerMessage, Status>>,
    pub over: CancellationToken,
    pub heard: Heard,
}

/// How sessions reach the hub.
pub struct HubHandle {
    pub messages: mpsc::Sender<Message>,
    pub reports: mpsc::Sender<Report>,
    pub base: Instant,
    numbers: AtomicU64,
}

impl HubHandle {
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// A hub, and the future that runs it until it is stopped.
pub fn start(
    handle: Handle,
    overview: Arc<Overview>,
    stop: CancellationToken,
) -> (HubHandle, impl Future<Output = ()>) {
    let (messages_tx, messages) = mpsc::channel(QUEUE);
    let (reports_tx, reports) = mpsc::channel(REPORTS);
    let base = Instant::now();
    let hub = Hub {
        handle: handle.clone(),
        core: Core::default(),
        sessions: BTreeMap::new(),
        liveness: Liveness::new(base),
        proposals: FuturesUnordered::new(),
        judging: false,
        is_certain: true,
        waiting: Vec::new(),
        confirming: false,
        overview,
        pace: spec(&handle),
        managers: managers(&handle),
        sent: base,
    };
    let running = async move {
        tokio::join!(
            hub.run(messages, stop.clone()),
            statuses::run(handle, reports, stop)
        );
    };
    (
        HubHandle {
            messages: messages_tx,
            reports: reports_tx,
            base,
            numbers: AtomicU64::new(1),
        },
        running,
    )
}

struct Session {
    number: u64,
    out: mpsc::Sender<Result<ManagerMessage, Status>>,
    over: CancellationToken,
    heard: Heard,
    instance: Bytes,
    addr: Ipv4Addr,
    port: u16,
    /// The last heartbeat that was acknowledged.
    acknowledged: u64,
    /// It has got its full message.
    open: bool,
    /// What it was told to be, and at which revision of the cluster.
    told: Option<(Role, u64)>,
}

/// A proposal that has come back.
enum Proposed {
    Ready {
        node: NodeId,
        number: u64,
        outcome: Result<(), ProposeError>,
    },
    /// Whether it is known what became of it.
    Judged { is_certain: bool },
    /// Whether this manager led then, when these heartbeats had been heard: of the nodes' sessions, by their numbers.
    Confirmed {
        led: bool,
        at: Instant,
        heard: Vec<(NodeId, u64, u64)>,
    },
}

struct Hub {
    handle: Handle,
    core: Core,
    sessions: BTreeMap<NodeId, Session>,
    liveness: Liveness,
    proposals: FuturesUnordered<BoxFuture<'static, Proposed>>,
    /// A judgement over nodes is on its way.
    judging: bool,
    /// No judgement may still be written that nobody waits for.
    is_certain: bool,
    /// Sessions that begin while nodes are judged: whether theirs is given up has to be known first.
    waiting: Vec<Opening>,
    /// Whether this manager still leads is being asked.
    confirming: bool,
    overview: Arc<Overview>,
    /// As sessions were told last.
    pace: ClusterSpec,
    managers: Vec<String>,
    /// When changes were last sent.
    sent: Instant,
}

impl Hub {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>, stop: CancellationToken) {
        let mut watcher = self.handle.watch();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u32 = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                message = messages.recv() => match message {
                    Some(Message::Open(opening)) if self.judging => self.waiting.push(*opening),
                    Some(Message::Open(opening)) => self.begin(*opening),
                    Some(Message::Closed { node, number }) => self.closed(node, number),
                    None => break,
                },
                watched = watcher.next() => {
                    if !self.watched(watched, &mut watcher).await {
                        break;
                    }
                }
                Some(proposed) = self.proposals.next(), if !self.proposals.is_empty() => match proposed {
                    Proposed::Ready { node, number, outcome } => self.ready(node, number, outcome),
                    Proposed::Judged { is_certain } => {
                        self.judging = false;
                        self.is_certain &= is_certain;
                        for opening in std::mem::take(&mut self.waiting) {
                            self.begin(opening);
                        }
                    }
                    Proposed::Confirmed { led, at, heard } => self.confirmed(led, at, heard),
                },
                _ = ticks.tick() => {
                    self.tick();
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(MANAGERS_EVERY) {
                        self.look_at_managers();
                    }
                }
            }
        }
        self.overview.clear();
        for (_, session) in std::mem::take(&mut self.sessions) {
            self.turn_away(&session.out, &session.over);
        }
        // Those that have not begun have a reader, too, which nothing else would end.
        messages.close();
        while let Some(message) = messages.recv().await {
            if let Message::Open(opening) = message {
                self.waiting.push(*opening);
            }
        }
        for opening in &self.waiting {
            self.turn_away(&opening.out, &opening.over);
        }
    }

    /// Ends a session, because this manager leads no more.
    fn turn_away(
        &self,
        out: &mpsc::Sender<Result<ManagerMessage, Status>>,
        over: &CancellationToken,
    ) {
        // One that does not read learns of it by the end of its stream.
        let _ = out.try_send(Err(super::not_the_leader(&self.handle)));
        over.cancel();
    }

    fn closed(&mut self, node: NodeId, number: u64) {
        if self
            .sessions
            .get(&node)
            .is_some_and(|session| session.number == number)
        {
            tracing::debug!(%node, "session closed");
            self.drop_session(node);
        }
    }

    fn end(&mut self, node: NodeId, status: Status) {
        if let Some(session) = self.sessions.get(&node) {
            // A full queue: its stream ends all the same.
            let _ = session.out.try_send(Err(status));
        }
        self.drop_session(node);
    }

    fn drop_session(&mut self, node: NodeId) {
        if let Some(session) = self.sessions.remove(&node) {
            self.liveness.heard(node, session.heard.at());
            session.over.cancel();
            self.core.close(node);
            self.overview.session_ended(node);
        }
    }

    fn assign(&mut self, node: NodeId, message: Assignments) {
        for part in parts(message) {
            self.send(node, ToAgent::Assignments(part));
        }
    }

    fn send(&mut self, node: NodeId, message: ToAgent) {
        let Some(session) = self.sessions.get(&node) else {
            return;
        };
        if session
            .out
            .try_send(Ok(ManagerMessage {
                message: Some(message),
            }))
            .is_err()
        {
            tracing::warn!(%node, "the session does not take its messages in time; it begins anew");
            self.drop_session(node);
        }
    }

    /// Gathers what else has changed just now, and sends it all. False: there is nothing to watch any more.
    async fn watched(&mut self, first: Watched, watcher: &mut Watcher) -> bool {
        let deadline = self.sent + DEBOUNCE;
        let mut events: Vec<Arc<[Event]>> = Vec::new();
        let mut resync = false;
        let mut next = first;
        loop {
            match next {
                Watched::Changes { events: more, .. } => events.push(more),
                Watched::Resync => resync = true,
                Watched::Closed => return false,
            }
            match timeout_at(deadline.into(), watcher.next()).await {
                Ok(watched) => next = watched,
                Err(_) => break,
            }
        }
        let messages = self.handle.read(|state| {
            if resync {
                self.core.resync(state)
            } else {
                self.core
                    .advance(state, events.iter().flat_map(|events| events.iter()))
            }
        });
        self.sent = Instant::now();
        for (node, message) in messages {
            self.assign(node, message);
        }
        true
    }

    fn tick(&mut self) {
        self.look_at_pace();
        let at = Instant::now();
        for (node, session) in &self.sessions {
            self.liveness.heard(*node, session.heard.at());
        }
        self.liveness.tick(at);
        self.confirm(at);
        self.tell_standings(None);
        self.look_at_clocks();
        if self.judging {
            return;
        }
        let heartbeat = Duration::from_millis(u64::from(self.pace.heartbeat_ms));
        let bounds = Bounds {
            // Two have been missed, and had time to arrive.
            suspect: heartbeat * 2 + TICK,
            dead: Duration::from_millis(u64::from(self.pace.dead_after_ms)),
        };
        let when = When { at, now: now() };
        let sessions = self.sessions.iter();
        let sessions = sessions
            .map(|(node, session)| (*node, session.open))
            .collect();
        let judged = self
            .handle
            .read(|state| judge(state, &sessions, &self.liveness, bounds, when));
        self.overview.suspects(judged.suspect);
        for node in judged.gone {
            self.liveness.forget(node);
            self.end(node, gone(node));
        }
        for node in judged.dead {
            self.end(
                node,
                Status::deadline_exceeded("nothing was heard of this node for too long"),
            );
        }
        if judged.ops.is_empty() {
            return;
        }
        self.judging = true;
        let handle = self.handle.clone();
        self.proposals.push(Box::pin(async move {
            let transaction = Transaction {
                at: now(),
                ops: judged.ops,
            };
            let proposed = handle.propose(transaction).await;
            if let Err(error) = &proposed {
                // The next tick judges again.
                tracing::warn!("the state of nodes could not be written: {error}");
            }
            let is_certain = !matches!(proposed, Err(ProposeError::Unavailable(_)));
            Proposed::Judged { is_certain }
        }));
    }

    fn look_at_managers(&mut self) {
        let managers = managers(&self.handle);
        if managers.is_empty() || managers == self.managers {
            return;
        }
        self.managers = managers;
        let revision = self.handle.read(State::revision);
        let open: Vec<NodeId> = self.core.nodes().collect();
        for node in open {
            let managers = self.managers.clone();
            self.send(
                node,
                ToAgent::Assignments(Assignments {
                    revision,
                    managers,
                    ..Assignments::default()
                }),
            );
        }
    }
}

fn spec(handle: &Handle) -> ClusterSpec {
    handle
        .read(|state| state.cluster().map(|cluster| cluster.spec.clone()))
        .unwrap_or_default()
}
