//! One agent's session: reads what it says until either side ends it.

use super::hub::{HubHandle, Message, Opening};
use super::skew::Skew;
use super::statuses::{Ack, Report};
use crate::ca::issuer_of;
use crate::certificate::Certificate;
use api::convert;
use api::model::{NodeCert, NodeDescription, NodeId, TaskId, TaskStatus, Timestamp};
use api::proto::agent_message::Message as FromAgent;
use api::proto::{AgentMessage, ManagerMessage, StatusBatch};
use api::state::{Op, Transaction};
use raft_store::Handle;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

/// Messages on their way to an agent; one that leaves so many lie begins anew.
const QUEUE: usize = 64;
/// How long an agent may take to say who it is.
const HELLO_BOUND: Duration = Duration::from_secs(5);
/// Most statuses of one message.
const STATUSES_MAX: usize = 10_000;

/// When a session was last heard of, as milliseconds after the hub began.
#[derive(Debug, Clone)]
pub struct Heard {
    base: Instant,
    at_ms: Arc<AtomicU64>,
    /// The last heartbeat's sequence.
    beat: Arc<AtomicU64>,
    clock_ahead_ms: Arc<AtomicI64>,
}

impl Heard {
    /// Just now.
    pub fn new(base: Instant) -> Self {
        let heard = Self {
            base,
            at_ms: Arc::default(),
            beat: Arc::default(),
            clock_ahead_ms: Arc::default(),
        };
        heard.now();
        heard
    }

    /// A message has come in.
    pub fn now(&self) {
        let ms = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at_ms.store(ms, Ordering::Relaxed);
    }

    /// A heartbeat was among what came in.
    pub fn heartbeat(&self, sequence: u64) {
        self.beat.store(sequence, Ordering::Release);
    }

    /// The last heartbeat; 0 before there was one that says which it is.
    pub fn beat(&self) -> u64 {
        self.beat.load(Ordering::Acquire)
    }

    /// How far the node's clock is ahead, milliseconds; 0 where it is right.
    pub fn clock_ahead_ms(&self) -> i64 {
        self.clock_ahead_ms.load(Ordering::Relaxed)
    }

    /// When the last one came in.
    pub fn at(&self) -> Instant {
        self.base + Duration::from_millis(self.at_ms.load(Ordering::Relaxed))
    }
}

/// Opens a session: the stream of what the agent is told.
pub async fn open(
    tasks: &TaskTracker,
    handle: &Handle,
    hub: Arc<HubHandle>,
    node: NodeId,
    mut stream: Streaming<AgentMessage>,
) -> Result<ReceiverStream<Result<ManagerMessage, Status>>, Status> {
    let first = timeout(HELLO_BOUND, stream.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the session's first message did not come"))??;
    let Some(AgentMessage {
        message: Some(FromAgent::Hello(hello)),
    }) = first
    else {
        return Err(Status::invalid_argument(
            "a session's first message has to be hello",
        ));
    };
    let invalid = |error: convert::ConvertError| Status::invalid_argument(error.to_string());
    let description = hello
        .description
        .ok_or_else(|| Status::invalid_argument("hello without a description"))?;
    let description = NodeDescription::try_from(description).map_err(invalid)?;
    let addr = Ipv4Addr::from(hello.addr);
    let port = u16::try_from(hello.port).unwrap_or(0);
    if addr.is_unspecified() || addr.is_broadcast() || addr.is_multicast() || port == 0 {
        return Err(Status::invalid_argument(format!(
            "{addr}:{} is no address of a node",
            hello.port
        )));
    }
    let cert = read_certificate(handle, node, &hello.cert_pem)?;
    let (out, rx) = mpsc::channel(QUEUE);
    let over = CancellationToken::new();
    let heard = Heard::new(hub.base);
    let number = hub.next_number();
    let opening = Opening {
        node,
        number,
        description,
        addr: (addr, port),
        instance: hello.instance,
        cert,
        out: out.clone(),
        over: over.clone(),
        heard: heard.clone(),
    };
    if hub
        .messages
        .send(Message::Open(Box::new(opening)))
        .await
        .is_err()
    {
        return Err(super::not_the_leader(handle));
    }
    let reader = Reader {
        node,
        number,
        handle: handle.clone(),
        hub,
        out,
        over,
        heard,
    };
    tasks.spawn(reader.run(stream));
    Ok(ReceiverStream::new(rx))
}

/// What is to be kept of the certificate that a node shows; none when it shows none.
fn read_certificate(handle: &Handle, node: NodeId, pem: &str) -> Result<Option<NodeCert>, Status> {
    if pem.is_empty() {
        return Ok(None);
    }
    let unfit = |why: String| Status::invalid_argument(format!("the certificate of hello: {why}"));
    let read = Certificate::from_pem(pem).map_err(|e| unfit(e.to_string()))?;
    if read.identity.node != node {
        return Err(unfit(format!("it is node {}'s", read.identity.node)));
    }
    let known = handle.read(|state| {
        let known = state.nodes().get(&node).map(|known| known.cert.clone());
        known.zip(state.cluster().cloned())
    });
    let Some((known, cluster)) = known else {
        // The hub says that it is gone.
        return Ok(None);
    };
    // Most show what is known already. Two certificates of one second differ in who signed them.
    if cluster.retiring.is_none()
        && !known.issuer.is_empty()
        && known == read.record(known.issuer.clone())
    {
        return Ok(Some(known));
    }
    let issuer = issuer_of(&cluster, pem, read.not_after);
    if issuer.is_empty() {
        return Err(unfit("it is not of this cluster's CA".into()));
    }
    Ok(Some(read.record(issuer)))
}

struct Reader {
    node: NodeId,
    number: u64,
    handle: Handle,
    hub: Arc<HubHandle>,
    out: mpsc::Sender<Result<ManagerMessage, Status>>,
    over: CancellationToken,
    heard: Heard,
}

impl Reader {
    async fn run(self, mut stream: Streaming<AgentMessage>) {
        let mut skew = Skew::default();
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.over.cancelled() => break,
                // The agent reads no more.
                () = self.out.closed() => break,
            };
            let Ok(Some(message)) = message else { break };
            self.heard.now();
            let goes_on = match message.message {
                Some(FromAgent::Statuses(batch)) => self.statuses(batch).await,
                Some(FromAgent::Goodbye(_)) => {
                    self.goodbye().await;
                    false
                }
                Some(FromAgent::Heartbeat(beat)) => {
                    self.heard.heartbeat(beat.sequence);
                    let ahead = skew.heard(Timestamp(beat.at), crate::now(), Instant::now());
                    self.heard.clock_ahead_ms.store(ahead, Ordering::Relaxed);
                    true
                }
                Some(FromAgent::Hello(_)) | None => true,
            };
            if !goes_on {
                break;
            }
        }
        // The hub may be gone; then so are its sessions.
        let _ = self
            .hub
            .messages
            .send(Message::Closed {
                node: self.node,
                number: self.number,
            })
            .await;
    }

    /// The node has left: so does its record.
    async fn goodbye(&self) {
        tracing::info!(node = %self.node, "a node leaves the cluster");
        let ops = vec![Op::RemoveNode(self.node)];
        if let Err(error) = self
            .handle
            .propose(Transaction {
                at: crate::now(),
                ops,
            })
            .await
        {
            // It is down soon, and `node rm` removes it.
            tracing::warn!(node = %self.node, %error, "a node that left could not be removed");
            // A full queue: the session ends anyway.
            let _ = self
                .out
                .try_send(Err(Status::unavailable(error.to_string())));
        }
    }

    async fn statuses(&self, batch: StatusBatch) -> bool {
        let sequence = batch.sequence;
        let read = read(batch);
        let statuses = match read {
            Ok(statuses) => statuses,
            Err(status) => {
                // A full queue: the session ends anyway.
                let _ = self.out.try_send(Err(status));
                return false;
            }
        };
        let ack = Ack {
            sequence,
            out: self.out.clone(),
            over: self.over.clone(),
        };
        let report = Report {
            node: self.node,
            statuses,
            ack,
        };
        tokio::select! {
            sent = self.hub.reports.send(report) => sent.is_ok(),
            () = self.over.cancelled() => false,
        }
    }
}

fn read(batch: StatusBatch) -> Result<Vec<(TaskId, TaskStatus)>, Status> {
    if batch.statuses.len() > STATUSES_MAX {
        return Err(Status::invalid_argument(format!(
            "{STATUSES_MAX} statuses are the most at once"
        )));
    }
    let invalid = |error: convert::ConvertError| Status::invalid_argument(error.to_string());
    let statuses = batch.statuses.into_iter().map(|set| {
        let id = convert::task_id(&set.id).map_err(invalid)?;
        let status = set
            .status
            .ok_or_else(|| Status::invalid_argument("a status that is none"))?;
        Ok((id, TaskStatus::try_from(status).map_err(invalid)?))
    });
    statuses.collect()
}
