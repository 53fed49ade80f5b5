//! Every task of this node: one driver each, started, told and joined here.

mod driver;
mod machine;
mod prepare;

use crate::assignments::Desired;
use crate::container::Places;
use crate::status::StatusBook;
use crate::volume::Volumes;
use api::convert;
use api::model::{Task, TaskId, TaskState, TaskTemplate};
use images::Store;
use machine::{Exit, Found};
use overlay::Overlay;
use prepare::Pulls;
use runtime::Runtime;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a driver works with.
pub(crate) struct Tools {
    pub runtime: Runtime,
    pub images: Store,
    pub overlay: Overlay,
    pub volumes: Volumes,
    pub book: Arc<StatusBook>,
    pub pulls: Pulls,
    pub containers: PathBuf,
    /// Milliseconds between the stop signal and the kill.
    pub stop_grace_ms: u64,
}

impl Tools {
    pub fn places(&self, task: TaskId) -> Places {
        Places {
            dir: self.containers.join(task.to_string()),
        }
    }
}

/// A task as its driver knows it.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub task: Task,
    pub template: TaskTemplate,
}

struct Driven {
    desired: watch::Sender<TaskState>,
    service: api::model::ServiceId,
    join: JoinHandle<()>,
}

/// The owner of all drivers.
pub(crate) struct Supervisor {
    tools: Arc<Tools>,
    driven: BTreeMap<TaskId, Driven>,
    /// Ended, told, and still in the assignments: not to be begun again.
    ended: BTreeSet<TaskId>,
    stop: CancellationToken,
}

impl Supervisor {
    pub fn new(tools: Arc<Tools>) -> Self {
        Self {
            tools,
            driven: BTreeMap::new(),
            ended: BTreeSet::new(),
            stop: CancellationToken::new(),
        }
    }

    /// At start: takes over what an earlier daemon left, and removes what nobody wants.
    pub async fn recover(&mut self, desired: &Desired) {
        let mut found: BTreeMap<String, runtime::ContainerState> = BTreeMap::new();
        match self.tools.runtime.list().await {
            Ok(list) => found.extend(list.into_iter().map(|state| (state.id.clone(), state))),
            Err(error) => tracing::error!(%error, "can't list the containers that run"),
        }
        for assigned in tasks(desired) {
            let state = found.remove(&assigned.task.id.to_string());
            let begun = self.tools.places(assigned.task.id).begun().exists();
            let found = match state {
                Some(state) => driver::adopt(&self.tools, &assigned, &state).await,
                None if begun => Found::Lost,
                None => Found::Nothing,
            };
            self.spawn(assigned, found);
        }
        for id in found.into_keys() {
            tracing::warn!(container = %id, "removing a container that no assignment wants");
            driver::remove_unknown(&self.tools, &id).await;
        }
        driver::sweep(&self.tools, |task| self.driven.contains_key(&task)).await;
    }

    /// Makes the drivers match the assignments.
    pub async fn reconcile(&mut self, desired: &Desired) {
        let mut wanted = BTreeSet::new();
        for assigned in tasks(desired) {
            let id = assigned.task.id;
            wanted.insert(id);
            if let Some(driven) = self.driven.get(&id) {
                driven.desired.send_if_modified(|now| {
                    let news = assigned.task.desired > *now;
                    *now = (*now).max(assigned.task.desired);
                    news
                });
            } else if !self.ended.contains(&id) {
                self.spawn(assigned, Found::Nothing);
            }
        }
        for (id, driven) in &self.driven {
            if !wanted.contains(id) {
                // No longer ours: it goes, whatever it was. Its log stays, unless it was to be removed.
                driven.desired.send_if_modified(|now| {
                    let news = *now < TaskState::Shutdown;
                    *now = (*now).max(TaskState::Shutdown);
                    news
                });
            }
        }
        self.ended.retain(|id| wanted.contains(id));
        self.join_finished(&wanted).await;
    }

    /// Joins the drivers that are done.
    pub async fn join_finished(&mut self, wanted: &BTreeSet<TaskId>) {
        let done: Vec<TaskId> = self
            .driven
            .iter()
            .filter(|(_, d)| d.join.is_finished())
            .map(|(id, _)| *id)
            .collect();
        for id in done {
            let Some(driven) = self.driven.remove(&id) else {
                continue;
            };
            if let Err(error) = driven.join.await {
                tracing::error!(task = %id, %error, "a task's driver failed");
            }
            if wanted.contains(&id) {
                self.ended.insert(id);
            } else {
                self.tools.book.forget(id);
            }
            let removed = *driven.desired.borrow() == TaskState::Remove;
            let last = !self
                .driven
                .values()
                .any(|other| other.service == driven.service);
            if removed && last {
                driver::forget_service_logs(&self.tools, driven.service).await;
            }
        }
    }

    /// Whether a task has its driver still: it may be ending in peace, wanted no more.
    pub fn drives(&self, task: TaskId) -> bool {
        self.driven.contains_key(&task)
    }

    /// Whether a driver may have ended since the last look.
    pub fn has_finished(&self) -> bool {
        self.driven.values().any(|d| d.join.is_finished())
    }

    fn spawn(&mut self, assigned: Assigned, found: Found) {
        let (desired, changes) = watch::channel(assigned.task.desired);
        let (id, service) = (assigned.task.id, assigned.task.service);
        let join = tokio::spawn(driver::drive(
            self.tools.clone(),
            assigned,
            found,
            changes,
            self.stop.clone(),
        ));
        self.driven.insert(
            id,
            Driven {
                desired,
                service,
                join,
            },
        );
    }

    /// Lets go: containers run on, drivers are joined.
    pub async fn shutdown(self) {
        self.stop.cancel();
        for (id, driven) in self.driven {
            if let Err(error) = driven.join.await {
                tracing::error!(task = %id, %error, "a task's driver failed");
            }
        }
    }

    /// Stops and removes every task: this node leaves its cluster. Says what could not be removed.
    pub async fn remove_all(mut self) -> Vec<String> {
        let mut problems = Vec::new();
        for driven in self.driven.values() {
            driven.desired.send_replace(TaskState::Remove);
        }
        for (id, driven) in std::mem::take(&mut self.driven) {
            let mut join = driven.join;
            let bound = std::time::Duration::from_millis(self.tools.stop_grace_ms + 20_000);
            if tokio::time::timeout(bound, &mut join).await.is_err() {
                problems.push(format!(
                    "task {id} has not ended within {} s",
                    bound.as_secs()
                ));
                join.abort();
            }
        }
        driver::sweep(&self.tools, |_| false).await;
        problems
    }
}

/// The tasks of the assignments; what can't be read is told and passed over.
fn tasks(desired: &Desired) -> Vec<Assigned> {
    desired
        .tasks
        .values()
        .filter_map(|assigned| {
            let read = (|| {
                let task = assigned.task.clone()?;
                let template = assigned.template.clone()?;
                Some((Task::try_from(task), TaskTemplate::try_from(template)))
            })();
            match read {
                Some((Ok(task), Ok(template))) => Some(Assigned { task, template }),
                Some((Err(error), _) | (_, Err(error))) => {
                    tracing::error!(%error, "an assigned task can't be read; is this clusterd older than the managers'?");
                    None
                }
                None => {
                    tracing::error!("an assigned task came without its task or its template");
                    None
                }
            }
        })
        .collect()
}

/// A task id from a folder's or a container's name.
pub(crate) fn task_id_of(name: &str) -> Option<TaskId> {
    name.parse().ok()
}

/// A container's end in the machine's words.
fn exit_of(status: &runtime::ExitStatus) -> Exit {
    let message = if status.oom_killed {
        "out of memory: it used more than its limit".to_owned()
    } else {
        status.message.clone().unwrap_or_default()
    };
    Exit {
        code: status.code,
        message,
    }
}

/// The id's bytes on the wire.
pub(crate) fn wire_id(task: TaskId) -> bytes::Bytes {
    convert::id_bytes(task.0)
}

pub(crate) use driver::{images_in_use, sweep};
