//! Every task of this node: one driver each, started, told and joined here.

mod alone;
mod driver;
mod machine;
mod prepare;
mod start;

use crate::assignments::Desired;
use crate::container::Places;
use crate::contents::Contents;
use crate::disk::Disk;
use crate::keeper::Keeper;
use crate::status::StatusBook;
use crate::volume::Volumes;
use api::convert;
use api::model::{Task, TaskId, TaskState, TaskTemplate};
use images::Store;
pub use machine::{Action, End, Exit, Found, Input, Machine};
use overlay::Overlay;
use prepare::Pulls;
use runtime::Runtime;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a driver works with.
pub(crate) struct Tools {
    pub disk: Disk,
    pub runtime: Runtime,
    pub images: Store,
    pub overlay: Overlay,
    pub volumes: Volumes,
    pub book: Arc<StatusBook>,
    pub keeper: Arc<Keeper>,
    pub pulls: Pulls,
    pub contents: Contents,
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
    /// Containers that no assignment kept on disk wants. What is on disk may be old or lost, so they run on
    /// until the managers have said all they want.
    unclaimed: BTreeMap<TaskId, runtime::ContainerState>,
    /// The managers have said all they want.
    settled: bool,
    /// What was started again without them.
    alone: Alone,
    stop: CancellationToken,
}

impl Supervisor {
    pub fn new(tools: Arc<Tools>) -> Self {
        Self {
            tools,
            driven: BTreeMap::new(),
            ended: BTreeSet::new(),
            unclaimed: BTreeMap::new(),
            settled: false,
            alone: Alone::default(),
            stop: CancellationToken::new(),
        }
    }

    /// At start: takes over what an earlier daemon left and the kept assignments want. What they don't want is
    /// left alone until [`Self::settle`].
    pub async fn recover(&mut self, kept: &Desired) {
        match self.tools.runtime.list().await {
            Ok(list) => {
                for state in list {
                    match task_id_of(&state.id) {
                        Some(task) => drop(self.unclaimed.insert(task, state)),
                        // A container of ours is named by its task: this one is nobody's.
                        None => driver::remove_unknown(&self.tools, &state.id).await,
                    }
                }
            }
            Err(error) => tracing::error!(%error, "can't list the containers that run"),
        }
        self.claim(kept).await;
        for task in self.unclaimed.keys() {
            tracing::warn!(%task, "no kept assignment wants this container; it runs on until the managers have been asked");
        }
    }

    /// Whether what nobody wants may be removed.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Once the managers have said all they want: takes over what they want, and removes what nobody does.
    pub async fn settle(&mut self, desired: &Desired) {
        self.claim(desired).await;
        for (task, _) in std::mem::take(&mut self.unclaimed) {
            if desired.tasks.contains_key(&wire_id(task)) {
                // Wanted, by words that this version can't read.
                tracing::error!(%task, "its assignment can't be read: its container runs on, unattended");
                continue;
            }
            tracing::warn!(%task, "removing a container that no assignment wants");
            driver::remove_unknown(&self.tools, &task.to_string()).await;
        }
        self.settled = true;
        self.sweep(desired).await;
    }

    /// Removes what is left of tasks that are neither driven, nor wanted, nor named by what is kept on disk: for the
    /// next daemon they would be new.
    pub async fn sweep(&self, desired: &Desired) {
        driver::sweep(&self.tools, |task| {
            self.driven.contains_key(&task)
                || desired.tasks.contains_key(&wire_id(task))
                || self.tools.disk.names(task)
        })
        .await;
    }

    /// Drives what the assignments want and is not driven yet, from where it is found.
    async fn claim(&mut self, desired: &Desired) {
        for assigned in tasks(desired) {
            let id = assigned.task.id;
            if self.driven.contains_key(&id) || self.ended.contains(&id) {
                continue;
            }
            let found = match self.unclaimed.remove(&id) {
                Some(state) => driver::adopt(&self.tools, &assigned, &state).await,
                None => driver::find(&self.tools, id),
            };
            self.spawn(assigned, found);
        }
    }

    /// Makes the drivers match the assignments.
    pub async fn reconcile(&mut self, desired: &Desired) {
        // By their ids: what can't be read is wanted all the same.
        let mut wanted: BTreeSet<TaskId> = desired
            .tasks
            .keys()
            .filter_map(|id| convert::task_id(id).ok())
            .collect();
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
        for id in self.ended.extract_if(.., |id| !wanted.contains(id)) {
            driver::let_go(&self.tools, id);
        }
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
                driver::let_go(&self.tools, id);
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

    /// While no manager can be reached: starts again what has ended and none of them knows of, as its policy says.
    /// Not what must never run twice: they may have heard after all.
    pub fn restart_alone(&mut self, desired: &Desired, now: Instant) {
        if self.ended.is_empty() {
            return;
        }
        let ended = &self.ended;
        self.alone
            .retain(|task| ended.contains(task) || self.driven.contains_key(task));
        for assigned in tasks(desired) {
            let id = assigned.task.id;
            let terms = assigned.template.disconnect;
            if !self.ended.contains(&id)
                || assigned.task.desired > TaskState::Running
                || terms.exclusive
                || !terms
                    .lease_ms()
                    .is_none_or(|ms| self.tools.keeper.has_left(ms))
            {
                continue;
            }
            let Some(end) = self.tools.book.untold(id) else {
                continue;
            };
            let policy = &assigned.template.restart;
            if !self.alone.is_due(id, policy, end.state, now) {
                continue;
            }
            let count = self.alone.restarted(id, now);
            let why = if end.message.is_empty() {
                end.state.as_str().to_owned()
            } else {
                end.message
            };
            let note = format!(
                "started again by its node, {count} times so far, while no manager could be reached; before: {why}"
            );
            tracing::info!(task = %assigned.task.name(), %id, "{note}");
            self.ended.remove(&id);
            self.spawn(assigned, Found::Again(note));
        }
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
        for task in self.unclaimed.keys() {
            driver::remove_unknown(&self.tools, &task.to_string()).await;
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

pub use alone::{ALONE_AFTER, Alone};
pub(crate) use driver::images_in_use;
