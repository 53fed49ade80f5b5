//! One who watches: a node of the cluster that runs nothing and writes down what it is told. It stands on the machine,
//! outside of the partitions, so that it is always somebody's session.
//!
//! What it is told never goes back, neither within a session nor from one to the next, whoever leads; what it is told
//! to forget it has been told before; and in the end what it has added up is what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use api::{
    model::{JoinToken, TaskState, TaskStatus},
    proto::{
        AgentMessage, Assignments, Heartbeat, Hello, SetTaskStatus, StatusBatch,
        agent_message::Message as ToManager, dispatch_client::DispatchClient,
        manager_message::Message as FromManager,
    },
};
use bytes::Bytes;
use manager::{dialer::Dialer, tls::Tls};
use tokio::{
    sync::mpsc,
    time::{interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::scale::agents;

/// Its name.
pub const NAME: &str = "watcher";
const OPEN_BOUND: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// What it was told, added up.
#[derive(Debug, Default)]
pub struct View {
    /// The state's revision that this is of.
    revision: u64,
    /// Its own tasks, and what each is to be.
    tasks: BTreeMap<Bytes, i32>,
    /// Tasks that it was told to forget.
    forgotten: BTreeSet<Bytes>,
    networks: BTreeSet<Bytes>,
    /// Tasks by network, and whether each is ready.
    endpoints: BTreeMap<(Bytes, Bytes), bool>,
    /// Sessions so far.
    pub sessions: usize,
    /// Messages so far.
    pub messages: usize,
}

impl View {
    /// Takes what a manager says.
    ///
    /// # Errors
    /// When that goes back, or says something of what it has not told.
    pub fn take(&mut self, told: &Assignments) -> Result<(), String> {
        self.messages += 1;
        if told.revision < self.revision {
            return Err(format!(
                "it was told of revision {} after {}",
                told.revision, self.revision
            ));
        }
        self.revision = told.revision;
        let before = told.full.then(|| std::mem::take(&mut self.tasks));
        if told.full {
            self.networks.clear();
            self.endpoints.clear();
        }
        for id in &told.tasks_removed {
            self.tasks
                .remove(id)
                .ok_or_else(|| format!("it was to forget task {id:x}, of which it was not told"))?;
            self.forgotten.insert(id.clone());
        }
        for id in &told.networks_removed {
            if !self.networks.remove(id) {
                return Err(format!(
                    "it was to forget network {id:x}, of which it was not told"
                ));
            }
            self.endpoints.retain(|(network, _), _| network != id);
        }
        for gone in &told.endpoints_removed {
            let key = (gone.network.clone(), gone.task.clone());
            if self.endpoints.remove(&key).is_none() {
                return Err(format!(
                    "it was to forget endpoint {:x}, of which it was not told",
                    gone.task
                ));
            }
        }
        self.networks
            .extend(told.networks.iter().map(|network| network.id.clone()));
        for endpoint in &told.endpoints {
            let key = (endpoint.network.clone(), endpoint.task.clone());
            self.endpoints.insert(key, endpoint.ready);
        }
        for task in told
            .tasks
            .iter()
            .filter_map(|assigned| assigned.task.as_ref())
        {
            let old = before.as_ref().unwrap_or(&self.tasks).get(&task.id);
            if old.is_some_and(|old| *old > task.desired) {
                return Err(format!(
                    "task {:x} was to be {old:?}, and now {}",
                    task.id, task.desired
                ));
            }
            if self.forgotten.contains(&task.id) {
                return Err(format!("task {:x} has come back", task.id));
            }
            self.tasks.insert(task.id.clone(), task.desired);
        }
        Ok(())
    }

    /// The tasks that are ready on its networks.
    #[must_use]
    pub fn ready(&self) -> BTreeSet<Bytes> {
        let ready = self.endpoints.iter().filter(|(_, ready)| **ready);
        ready.map(|((_, task), _)| task.clone()).collect()
    }
}

/// The watcher.
pub struct Watcher {
    hello: Hello,
    dialer: Dialer,
    managers: Vec<String>,
    view: Mutex<View>,
}

impl Watcher {
    /// Joins the cluster as a worker at that address.
    ///
    /// # Errors
    /// When it is not let in.
    pub async fn join(token: &JoinToken, managers: Vec<String>, at: Ipv4Addr) -> Result<Arc<Self>> {
        let first = managers.first().context("no manager is given")?;
        let (ca, root) = agents::ca_of(first, token).await?;
        let (hello, material) = agents::join(ca, token, root, NAME.into(), at).await?;
        Ok(Arc::new(Self {
            hello,
            dialer: Dialer::new(Tls::new(&material)?),
            managers,
            view: Mutex::default(),
        }))
    }

    /// What it was told so far.
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches until it is told to stop.
    ///
    /// # Errors
    /// When it is told what it should not be.
    pub async fn run(&self, stop: CancellationToken) -> Result<()> {
        let mut next = 0;
        let mut leader: Option<String> = None;
        loop {
            next += 1;
            let addr = match leader.take() {
                Some(leader) => leader,
                None => self.managers[next % self.managers.len()].clone(),
            };
            let end = tokio::select! {
                end = self.session(&addr) => end?,
                () = stop.cancelled() => return Ok(()),
            };
            leader = end;
            sleep(PAUSE).await;
        }
    }

    /// A session, until it ends; who leads, if it was told.
    async fn session(&self, addr: &str) -> Result<Option<String>> {
        let (tx, rx) = mpsc::channel(64);
        let say = |message| AgentMessage {
            message: Some(message),
        };
        // There is room: it is new.
        let _ = tx.try_send(say(ToManager::Hello(self.hello.clone())));
        let mut client = DispatchClient::new(self.dialer.manager(addr));
        let opened = timeout(OPEN_BOUND, client.session(ReceiverStream::new(rx))).await;
        let mut messages = match opened {
            Ok(Ok(opened)) => opened.into_inner(),
            Ok(Err(status)) => {
                let leader = status.metadata().get("leader");
                return Ok(leader
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned));
            }
            Err(_) => return Ok(None),
        };
        let mut beats = interval(Duration::from_millis(500));
        let (mut sequence, mut batch, mut begun) = (0, 0, false);
        let mut reported: BTreeMap<Bytes, TaskState> = BTreeMap::new();
        loop {
            let message = tokio::select! {
                message = messages.message() => match message {
                    Ok(Some(message)) => message.message,
                    _ => return Ok(None),
                },
                _ = beats.tick() => {
                    sequence += 1;
                    if tx.send(say(ToManager::Heartbeat(Heartbeat { sequence, at: 0 }))).await.is_err() {
                        return Ok(None);
                    }
                    continue;
                }
            };
            let Some(FromManager::Assignments(told)) = message else {
                continue;
            };
            ensure!(
                told.full || begun,
                "the watcher's session with {addr}: its first message is not the full one"
            );
            begun = true;
            let statuses = {
                let mut view = self.view();
                view.sessions += usize::from(told.full);
                view.take(&told)
                    .map_err(|why| anyhow!("the watcher's session with {addr}: {why}"))?;
                statuses(&view, &mut reported)
            };
            if !statuses.is_empty() {
                batch += 1;
                let statuses = StatusBatch {
                    sequence: batch,
                    statuses,
                };
                if tx.send(say(ToManager::Statuses(statuses))).await.is_err() {
                    return Ok(None);
                }
            }
        }
    }
}

/// What it says of its tasks: that each is what it is to be.
fn statuses(view: &View, reported: &mut BTreeMap<Bytes, TaskState>) -> Vec<SetTaskStatus> {
    let running = api::proto::TaskState::from(TaskState::Running) as i32;
    let mut all = Vec::new();
    for (id, desired) in &view.tasks {
        let state = match *desired > running {
            true => TaskState::Shutdown,
            false => TaskState::Running,
        };
        if reported.insert(id.clone(), state) != Some(state) {
            let status = TaskStatus {
                state,
                at: manager::now(),
                ..TaskStatus::default()
            };
            all.push(SetTaskStatus {
                id: id.clone(),
                status: Some((&status).into()),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::proto::{AssignedTask, Endpoint, EndpointKey, Task};

    fn id(byte: u8) -> Bytes {
        Bytes::from(vec![byte])
    }

    fn told(revision: u64, full: bool) -> Assignments {
        Assignments {
            revision,
            full,
            ..Assignments::default()
        }
    }

    fn task(number: u8, desired: TaskState) -> AssignedTask {
        AssignedTask {
            task: Some(Task {
                id: id(number),
                desired: api::proto::TaskState::from(desired) as i32,
                ..Task::default()
            }),
            ..AssignedTask::default()
        }
    }

    fn endpoint(number: u8, ready: bool) -> Endpoint {
        Endpoint {
            network: id(0),
            task: id(number),
            ready,
            ..Endpoint::default()
        }
    }

    #[test]
    fn what_is_told_adds_up() {
        let mut view = View::default();
        let mut first = told(5, true);
        first.tasks.push(task(1, TaskState::Running));
        first.endpoints = vec![endpoint(1, true), endpoint(2, false)];
        view.take(&first).unwrap();
        let mut second = told(7, false);
        second.endpoints.push(endpoint(2, true));
        second.endpoints_removed.push(EndpointKey {
            network: id(0),
            task: id(1),
        });
        second.tasks_removed.push(id(1));
        view.take(&second).unwrap();
        assert_eq!(view.ready(), BTreeSet::from([id(2)]));
        // A resync replaces all.
        view.take(&told(7, true)).unwrap();
        assert!(view.ready().is_empty());
    }

    #[test]
    fn what_goes_back_is_seen() {
        let view = || {
            let mut view = View::default();
            let mut first = told(5, true);
            first.tasks = vec![task(1, TaskState::Shutdown), task(2, TaskState::Running)];
            view.take(&first).unwrap();
            view
        };
        for full in [true, false] {
            assert!(
                view()
                    .take(&told(4, full))
                    .unwrap_err()
                    .contains("revision 4 after 5")
            );
            let mut back = told(6, full);
            back.tasks.push(task(1, TaskState::Running));
            assert!(view().take(&back).unwrap_err().contains("was to be"));
        }
        let mut gone = told(6, false);
        gone.tasks_removed.push(id(2));
        let mut view = view();
        view.take(&gone).unwrap();
        let mut again = told(7, true);
        again.tasks.push(task(2, TaskState::Running));
        assert!(view.take(&again).unwrap_err().contains("come back"));
    }

    #[test]
    fn a_change_that_was_skipped_is_seen_when_it_is_undone() {
        let mut view = View::default();
        view.take(&told(5, true)).unwrap();
        let mut removal = told(6, false);
        removal.endpoints_removed.push(EndpointKey {
            network: id(0),
            task: id(1),
        });
        assert!(view.take(&removal).unwrap_err().contains("not told"));
        let mut removal = told(7, false);
        removal.tasks_removed.push(id(1));
        assert!(view.take(&removal).unwrap_err().contains("not told"));
    }
}
