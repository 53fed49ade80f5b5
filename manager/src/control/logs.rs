//! The log of a service or a task, gathered from every node that has some of it.
//!
//! One task owns a call: it holds the sources (one task of the cluster each, pumped by a future of its own
//! through a bounded channel), merges them and ends them all when the reader goes. A node that can't be
//! reached becomes a notice in the log.

use super::lookup::{self, Target};
use super::merge::{Merge, Step};
use super::{Control, Refusal, Reply};
use crate::dialer::root_cause;
use api::convert;
use api::model::{NodeId, NodeState, ServiceId, Task, TaskId, TaskState};
use api::proto::agent_client::AgentClient;
use api::proto::{AgentLogsRequest, LogRecord, LogsRequest};
use api::state::{Event, State};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};
use raft_store::{Watched, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Records on their way from one node.
const SOURCE_QUEUE: usize = 64;
/// Records on their way to the reader.
const QUEUE: usize = 128;
/// How long a node may take to begin.
const OPEN_BOUND: Duration = Duration::from_secs(5);
/// How long one that is down may take: nobody should wait for what is known.
const DOWN_BOUND: Duration = Duration::from_secs(1);
/// How long a quiet node holds up the rest, where all there is is asked for.
const PATIENCE_ALL: Duration = Duration::from_secs(6);
/// And where the log is followed.
const PATIENCE_FOLLOW: Duration = Duration::from_millis(150);
/// Most tasks of one call.
const SOURCES: usize = 1_000;

/// One task's log: where it is and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    task: TaskId,
    name: String,
    node: NodeId,
    hostname: String,
    addr: String,
    /// The node is known to be down.
    down: bool,
}

fn place(state: &State, task: &Task) -> Option<Place> {
    // One that has not run has nothing to tell.
    if task.status.state < TaskState::Running {
        return None;
    }
    let node = state.nodes().get(&task.node?)?;
    Some(Place {
        task: task.id,
        name: task.name(),
        node: node.id,
        hostname: node.description.hostname.clone(),
        addr: format!("{}:{}", node.addr, node.port),
        down: node.status.state == NodeState::Down,
    })
}

pub async fn logs(control: &Control, request: LogsRequest) -> Result<Reply<LogRecord>, Status> {
    // Subscribed before the first look, so that no new task is missed.
    let watcher = request.follow.then(|| control.handle.watch());
    let (service, places) = control
        .read(|state| resolve(state, &request.target))
        .await??;
    let (tx, rx) = mpsc::channel(QUEUE);
    let gather = Gather {
        control: control.clone(),
        request,
        service,
        known: BTreeSet::new(),
        sources: BTreeMap::new(),
        pumps: JoinSet::new(),
        out: tx,
    };
    let stop = control.stop.clone();
    control.tasks.spawn(async move {
        tokio::select! {
            () = gather.run(places, watcher) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(rx)))
}

/// The service followed, if it is one, and where there is something to read.
fn resolve(state: &State, target: &str) -> Result<(Option<ServiceId>, Vec<Place>), Refusal> {
    match lookup::target(state, target)? {
        Target::Service(service) => {
            let places = state
                .tasks_of_service(service.id)
                .filter_map(|task| place(state, task));
            Ok((Some(service.id), places.take(SOURCES).collect()))
        }
        Target::Task(task) => match place(state, &task) {
            Some(place) => Ok((None, vec![place])),
            None => Err(Refusal::first(format!(
                "task {} has not run yet: it is {} ({})",
                task.name(),
                task.status.state.as_str(),
                if task.status.message.is_empty() {
                    "no reason given"
                } else {
                    &task.status.message
                }
            ))),
        },
    }
}

type Source = mpsc::Receiver<LogRecord>;

struct Gather {
    control: Control,
    request: LogsRequest,
    service: Option<ServiceId>,
    known: BTreeSet<TaskId>,
    sources: BTreeMap<usize, Source>,
    /// Ended when this is dropped.
    pumps: JoinSet<()>,
    out: mpsc::Sender<Result<LogRecord, Status>>,
}

impl Gather {
    async fn run(mut self, places: Vec<Place>, watcher: Option<Watcher>) {
        let patience = if self.request.follow {
            PATIENCE_FOLLOW
        } else {
            PATIENCE_ALL
        };
        let mut merge = Merge::new(patience);
        for place in places {
            self.add(&mut merge, place, self.request.tail);
        }
        let mut watcher = watcher.filter(|_| self.service.is_some());
        loop {
            match merge.step(Instant::now()) {
                Step::Emit(record) => {
                    if self.out.send(Ok(record)).await.is_err() {
                        return;
                    }
                    continue;
                }
                Step::End if watcher.is_none() => return,
                Step::End => {
                    if !self.service_is_there() {
                        return;
                    }
                    self.wait(&mut merge, None, &mut watcher).await;
                }
                Step::Wait(until) => self.wait(&mut merge, until, &mut watcher).await,
            }
            if self.out.is_closed() {
                return;
            }
        }
    }

    /// Until a source gives something, a task is new, or it is time to tell on.
    async fn wait(
        &mut self,
        merge: &mut Merge<LogRecord>,
        until: Option<Instant>,
        watcher: &mut Option<Watcher>,
    ) {
        enum Came {
            Record(usize, Option<LogRecord>),
            Change(Watched),
            Time,
            Gone,
        }
        let out = self.out.clone();
        let came = {
            let asked: Vec<BoxFuture<'_, Came>> = self
                .sources
                .iter_mut()
                .filter(|(id, _)| merge.wants(**id))
                .map(|(id, source)| {
                    source
                        .recv()
                        .map(|record| Came::Record(*id, record))
                        .boxed()
                })
                .collect();
            let any = async {
                match asked.is_empty() {
                    true => std::future::pending().await,
                    false => select_all(asked).await.0,
                }
            };
            let change = async {
                match watcher {
                    Some(watcher) => watcher.next().await,
                    None => std::future::pending().await,
                }
            };
            let time = async {
                match until {
                    Some(until) => sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                came = any => came,
                watched = change => Came::Change(watched),
                () = time => Came::Time,
                () = out.closed() => Came::Gone,
            }
        };
        match came {
            Came::Record(id, Some(record)) => merge.give(id, record.at_ns, record, Instant::now()),
            Came::Record(id, None) => {
                self.sources.remove(&id);
                merge.end(id);
            }
            Came::Change(Watched::Closed) => *watcher = None,
            Came::Change(Watched::Changes { events, .. }) => {
                if events.iter().any(|event| self.concerns(event)) {
                    self.look_again(merge);
                }
            }
            Came::Change(Watched::Resync) => self.look_again(merge),
            Came::Time | Came::Gone => {}
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::Task(_, _, Some(task)) => Some(task.service) == self.service,
            Event::Service(id, _, None) => Some(*id) == self.service,
            _ => false,
        }
    }

    fn service_is_there(&self) -> bool {
        self.control.handle.read(|state| {
            self.service.is_some_and(|id| {
                state.services().contains_key(&id) || state.tasks_of_service(id).next().is_some()
            })
        })
    }

    fn look_again(&mut self, merge: &mut Merge<LogRecord>) {
        let Some(service) = self.service else { return };
        let new: Vec<Place> = self.control.handle.read(|state| {
            let places = state
                .tasks_of_service(service)
                .filter_map(|task| place(state, task));
            places
                .filter(|place| !self.known.contains(&place.task))
                .collect()
        });
        for place in new {
            // All a new task has said is new.
            self.add(merge, place, None);
        }
    }

    fn add(&mut self, merge: &mut Merge<LogRecord>, place: Place, tail: Option<u64>) {
        if self.known.len() >= SOURCES || !self.known.insert(place.task) {
            return;
        }
        let id = self.known.len();
        let (tx, rx) = mpsc::channel(SOURCE_QUEUE);
        let request = AgentLogsRequest {
            task: convert::id_bytes(place.task.0),
            name: place.name.clone(),
            follow: self.request.follow,
            tail,
            since: self.request.since,
            until: self.request.until,
        };
        let client = AgentClient::new(self.control.dialer.node(&place.addr, place.node));
        self.pumps.spawn(pump(client, request, place, tx));
        // The handles of those that have ended.
        while self.pumps.try_join_next().is_some() {}
        self.sources.insert(id, rx);
        merge.add(id, Instant::now());
    }
}

/// Brings one task's log; what goes wrong is told in it.
async fn pump(
    mut client: AgentClient<tonic::transport::Channel>,
    request: AgentLogsRequest,
    place: Place,
    tx: mpsc::Sender<LogRecord>,
) {
    let notice = |text: String| LogRecord {
        task: place.name.clone(),
        node: place.hostname.clone(),
        at_ns: crate::clock::now().0.saturating_mul(1_000_000),
        notice: text,
        ..LogRecord::default()
    };
    let missing = |why: String| {
        notice(format!(
            "the log of {} on node {} is missing here: {why}",
            place.name, place.hostname
        ))
    };
    let bound = if place.down { DOWN_BOUND } else { OPEN_BOUND };
    let told = match timeout(bound, client.logs(request)).await {
        Err(_) if place.down => Some(missing("the node is down and does not answer".into())),
        Ok(Err(status)) if place.down => {
            Some(missing(format!("the node is down ({})", reason(&status))))
        }
        Err(_) => Some(missing(format!("no answer within {} s", bound.as_secs()))),
        Ok(Err(status)) => Some(missing(reason(&status))),
        Ok(Ok(response)) => {
            let mut stream = response.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(record)) => {
                        if tx.send(record).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break None,
                    Err(status) => {
                        break Some(notice(format!(
                            "the log of {} on node {} breaks off here: {}",
                            place.name,
                            place.hostname,
                            reason(&status)
                        )));
                    }
                }
            }
        }
    };
    if let Some(told) = told {
        // A reader that is gone doesn't care.
        let _ = tx.send(told).await;
    }
}

/// What a node said, or what kept it from being reached.
pub fn reason(status: &Status) -> String {
    match status.code() {
        Code::Unavailable | Code::Unknown if std::error::Error::source(status).is_some() => {
            root_cause(status)
        }
        _ => status.message().to_owned(),
    }
}
