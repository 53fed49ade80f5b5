//! The agent's session with the leader: assignments in, heartbeats and statuses out.
//!
//! One task owns it and tries for ever: the leader it was told of, then every manager it knows. While no
//! manager answers, everything on the node runs on.

use crate::clock;
use crate::keeper::Keeper;
use crate::known::Known;
use crate::pace::{Heard, Pace};
use crate::status::StatusBook;
use api::convert;
use api::proto::agent_message::Message as ToManager;
use api::proto::dispatch_client::DispatchClient;
use api::proto::manager_message::Message as FromManager;
use api::proto::{
    AgentMessage, Assignments, Goodbye, Heartbeat, Hello, SetTaskStatus, Standing, StatusBatch,
};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Makes a channel to a manager (`host:port`), with this node's certificate.
pub type Connect = Arc<dyn Fn(String) -> BoxFuture<'static, anyhow::Result<Channel>> + Send + Sync>;

/// Makes the first message of a session: what this node is, now.
pub type MakeHello = Arc<dyn Fn() -> Hello + Send + Sync>;

/// Messages on their way to the manager.
const QUEUE: usize = 64;
/// Statuses in one message.
const BATCH: usize = 1_000;
/// How long statuses are gathered.
const GATHER: Duration = Duration::from_millis(5);
/// How long opening a session may take.
const OPEN_BOUND: Duration = Duration::from_secs(5);
/// How long the manager is given to take a goodbye.
const FAREWELL_BOUND: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Largest message taken from a manager, bytes: the assignments of a large network.
const MESSAGE_LIMIT: usize = 64 << 20;

/// What the session needs.
pub struct Session {
    /// How managers are reached.
    pub connect: Connect,
    /// What this node says of itself.
    pub hello: MakeHello,
    /// What is to be told.
    pub book: Arc<StatusBook>,
    /// The node's lease.
    pub keeper: Arc<Keeper>,
    /// Where assignments go, with the number of their session.
    pub assignments: mpsc::Sender<(u64, Assignments)>,
    /// The manager it has a session with, for whoever wants to know.
    pub manager: watch::Sender<Option<String>>,
    /// The managers known now.
    pub known: Arc<Known>,
    /// What this node's identity should be, for whoever wants to know.
    pub standing: watch::Sender<Option<Standing>>,
    /// What it says of itself has changed: the session begins anew.
    pub anew: Arc<Notify>,
    /// What the managers say when they have removed this node.
    pub denied: watch::Sender<Option<String>>,
    /// The node leaves: what is left to tell is told, then goodbye, and that is all.
    pub farewell: CancellationToken,
}

enum End {
    /// Try this one next.
    Leader(String),
    /// The same again, at once.
    Again,
    /// It did not work, or works no more.
    Lost(String),
    /// The managers have removed this node, and say so.
    Gone(String),
    /// Goodbye was said, and heard.
    Left,
}

impl Session {
    /// Goes on until it is cancelled, or has said goodbye. Whether the managers know that this node has left.
    pub async fn run(self, stop: CancellationToken) -> bool {
        let mut backoff = BACKOFF_MIN;
        let mut queue: VecDeque<String> = VecDeque::new();
        let mut told = String::new();
        loop {
            let Some(addr) = queue.pop_front() else {
                queue = self.known.all().into();
                tokio::select! {
                    () = stop.cancelled() => return false,
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
                continue;
            };
            let began = Instant::now();
            let end = tokio::select! {
                () = stop.cancelled() => return false,
                end = self.one(&addr) => end,
            };
            self.keeper.session_ended();
            let had_session = self.manager.borrow().is_some();
            self.manager.send_replace(None);
            let denied = match &end {
                End::Gone(why) => Some(why.clone()),
                _ => None,
            };
            let is_gone = denied.is_some();
            self.denied.send_replace(denied);
            if matches!(end, End::Left) || (is_gone && self.farewell.is_cancelled()) {
                return true;
            }
            if had_session && began.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            match end {
                End::Leader(leader) if leader != addr => {
                    queue.retain(|other| *other != leader);
                    queue.push_front(leader);
                    // Two managers that name each other must not make a busy loop.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                End::Leader(_) => {}
                End::Again => queue.push_front(addr),
                End::Left => return true,
                End::Lost(why) | End::Gone(why) => {
                    // The same trouble again and again is one line.
                    if told != why {
                        tracing::warn!(manager = %addr, "no session: {why}");
                        told = why;
                    }
                }
            }
        }
    }

    async fn one(&self, addr: &str) -> End {
        let channel = match timeout(OPEN_BOUND, (self.connect)(addr.to_owned())).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return End::Lost(format!("{error:#}")),
            Err(_) => return End::Lost(format!("no connection within {} s", OPEN_BOUND.as_secs())),
        };
        let mut client = DispatchClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        let (tx, rx) = mpsc::channel(QUEUE);
        let hello = AgentMessage {
            message: Some(ToManager::Hello((self.hello)())),
        };
        if tx.send(hello).await.is_err() {
            return End::Lost("the session was closed while it was opened".into());
        }
        let opened = timeout(OPEN_BOUND, client.session(ReceiverStream::new(rx))).await;
        let stream = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return ended(&status),
            Err(_) => return End::Lost(format!("no answer within {} s", OPEN_BOUND.as_secs())),
        };
        self.serve(addr, stream, tx).await
    }

    async fn serve(
        &self,
        addr: &str,
        mut stream: Streaming<api::proto::ManagerMessage>,
        tx: mpsc::Sender<AgentMessage>,
    ) -> End {
        let session = self.keeper.session();
        let mut heart: Option<Heart> = None;
        let mut sequence = 0;
        // Assignments that the agent has no room for yet. No more are read meanwhile, which slows the manager
        // down; that this node lives is told all the same.
        let mut pending: Option<Assignments> = None;
        loop {
            tokio::select! {
                room = self.assignments.reserve(), if pending.is_some() => {
                    // Nobody takes them any more once all has been removed: goodbye is next.
                    if let (Ok(room), Some(assignments)) = (room, pending.take()) {
                        room.send((session, assignments));
                    }
                }
                message = stream.message(), if pending.is_none() => match message {
                    Ok(Some(message)) => match message.message {
                        Some(FromManager::Welcome(welcome)) => {
                            heart = Some(Heart::new(Pace::new(welcome.heartbeat_ms, welcome.dead_after_ms)));
                            self.known.set(welcome.managers);
                            self.manager.send_replace(Some(addr.to_owned()));
                            self.book.begin_session();
                            tracing::info!(manager = %addr, "session open");
                        }
                        Some(FromManager::Assignments(assignments)) => {
                            self.known.set(assignments.managers.clone());
                            pending = Some(assignments);
                        }
                        Some(FromManager::HeartbeatHeard(beat)) => {
                            self.keeper.acknowledged(beat);
                            if let Some(heart) = &mut heart {
                                heart.heard.acknowledged(Instant::now().into_std());
                            }
                        }
                        Some(FromManager::Pace(pace)) => {
                            if let Some(heart) = &mut heart {
                                *heart = Heart::new(Pace::new(pace.heartbeat_ms, pace.dead_after_ms));
                            }
                        }
                        Some(FromManager::Notice(notice)) => tracing::error!(manager = %addr, "{notice}"),
                        Some(FromManager::Standing(standing)) => {
                            self.standing.send_replace(Some(standing));
                        }
                        // Should one be lost, the session is, too, and all are sent again in the next.
                        Some(FromManager::StatusesCommitted(sequence)) => self.book.committed(sequence),
                        None => {}
                    },
                    Ok(None) => return End::Lost("the manager ended the session".into()),
                    Err(status) => return ended(&status),
                },
                () = tick(heart.as_ref()) => {
                    if let Some(heart) = &mut heart {
                        let now = Instant::now().into_std();
                        if heart.heard.is_lost(&heart.pace, now) {
                            return End::Lost(format!(
                                "the manager has acknowledged nothing for {} ms; it may have lost the others",
                                heart.pace.dead_after.as_millis()
                            ));
                        }
                        heart.next = Instant::now() + heart.pace.next(rand::random());
                        let sequence = self.keeper.beat();
                        let beat = AgentMessage { message: Some(ToManager::Heartbeat(Heartbeat { sequence, at: clock::now().0 })) };
                        // One that can't be sent at once is worth nothing later: the next one is due soon.
                        if let Err(TrySendError::Closed(_)) = tx.try_send(beat) {
                            return End::Lost("the connection is closed".into());
                        }
                    }
                }
                () = self.book.changed(), if heart.is_some() => {
                    tokio::time::sleep(GATHER).await;
                    sequence += 1;
                    if let Some(batch) = self.statuses(sequence)
                        && tx.send(batch).await.is_err()
                    {
                        return End::Lost("the connection is closed".into());
                    }
                }
                () = self.anew.notified(), if heart.is_some() => return End::Again,
                () = self.farewell.cancelled(), if heart.is_some() => {
                    let goodbye = AgentMessage { message: Some(ToManager::Goodbye(Goodbye {})) };
                    for last in self.statuses(sequence + 1).into_iter().chain([goodbye]) {
                        if tx.send(last).await.is_err() {
                            break;
                        }
                    }
                    // The manager ends the session once it has done its part.
                    let over = async {
                        loop {
                            match stream.message().await {
                                Ok(Some(_)) => {}
                                Ok(None) => return End::Left,
                                Err(status) => return ended(&status),
                            }
                        }
                    };
                    let silent = || End::Lost("the manager did not answer to goodbye".into());
                    return timeout(FAREWELL_BOUND, over).await.unwrap_or_else(|_| silent());
                }
            }
        }
    }

    /// What is to be told, if anything.
    fn statuses(&self, sequence: u64) -> Option<AgentMessage> {
        let statuses: Vec<_> = self
            .book
            .take(sequence, BATCH)
            .into_iter()
            .map(|(task, status)| SetTaskStatus {
                id: convert::id_bytes(task.0),
                status: Some((&status).into()),
            })
            .collect();
        if statuses.is_empty() {
            return None;
        }
        Some(AgentMessage {
            message: Some(ToManager::Statuses(StatusBatch { sequence, statuses })),
        })
    }
}

/// The heartbeats of a session.
struct Heart {
    pace: Pace,
    heard: Heard,
    /// When the next one is due.
    next: Instant,
}

impl Heart {
    /// The first one is due now.
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            heard: Heard::default(),
            next: Instant::now(),
        }
    }
}

async fn tick(heart: Option<&Heart>) {
    match heart {
        Some(heart) => sleep_until(heart.next).await,
        None => std::future::pending().await,
    }
}

/// A manager that doesn't lead says who does.
fn ended(status: &Status) -> End {
    if status.code() == Code::FailedPrecondition
        && let Some(leader) = status
            .metadata()
            .get("leader")
            .and_then(|value| value.to_str().ok())
        && !leader.is_empty()
    {
        return End::Leader(leader.to_owned());
    }
    let text = status.message().to_owned();
    match status.metadata().contains_key("gone") {
        true => End::Gone(text),
        false => End::Lost(text),
    }
}
