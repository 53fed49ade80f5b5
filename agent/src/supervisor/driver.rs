//! The shell around one task's machine: does what the machine asks for, tells it what came of it.

use super::machine::{Action, End, Exit, Found, Input, Machine};
use super::prepare::{self, Prepared};
use super::start::{Start, start};
use super::{Assigned, Tools, exit_of, task_id_of};
use crate::clock::now;
use crate::{memory, netview};
use api::model::{ServiceId, TaskId, TaskState, Timestamp};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Drives a task to its end, or until the daemon stops; the container then runs on.
pub(crate) async fn drive(
    tools: Arc<Tools>,
    assigned: Assigned,
    found: Found,
    mut desired: watch::Receiver<TaskState>,
    stop: CancellationToken,
) {
    let wanted = *desired.borrow_and_update();
    let alone = matches!(found, Found::Again(_));
    let (machine, actions) = Machine::begin(wanted, assigned.task.not_before, found, now());
    let mut shell = Shell {
        tools,
        assigned: Arc::new(assigned),
        machine,
        prepared: None,
        work: JoinSet::new(),
        cancel_prepare: CancellationToken::new(),
        desired: desired.clone(),
        alone,
    };
    shell.perform(actions);
    while !shell.machine.is_done() {
        let input = tokio::select! {
            // A sender that is gone changes nothing any more.
            Ok(()) = desired.changed() => Input::Desired(*desired.borrow_and_update()),
            () = stop.cancelled() => break,
            Some(done) = shell.work.join_next() => match done {
                Ok(Done::Input(input)) => input,
                Ok(Done::Prepared(prepared)) => {
                    shell.prepared = Some(*prepared);
                    Input::Prepared
                }
                Ok(Done::Nothing) => continue,
                Err(error) => {
                    tracing::error!(task = %shell.assigned.task.id, %error, "a step failed");
                    Input::Refused(format!("clusterd failed: {error}"))
                }
            },
        };
        if let Input::Refused(why) = &input
            && shell.machine.is_preparing()
        {
            let refused = why.clone();
            let (tools, id) = (&shell.tools, shell.assigned.task.id);
            keep_end(tools, id, &End::Refused { refused });
        }
        // What a step came to may follow from a word that is not taken yet: that one first.
        if desired.has_changed().is_ok_and(|is_news| is_news) {
            let word = Input::Desired(*desired.borrow_and_update());
            let actions = shell.machine.on(word, now());
            shell.perform(actions);
        }
        let actions = shell.machine.on(input, now());
        shell.perform(actions);
    }
    // Steps under way are left to end by themselves only where they must: a stop is a signal already sent,
    // a preparation is cleaned up or taken over by the next daemon.
    shell.work.abort_all();
    while shell.work.join_next().await.is_some() {}
}

pub(super) enum Done {
    Input(Input),
    Prepared(Box<Prepared>),
    Nothing,
}

struct Shell {
    tools: Arc<Tools>,
    assigned: Arc<Assigned>,
    machine: Machine,
    prepared: Option<Prepared>,
    work: JoinSet<Done>,
    cancel_prepare: CancellationToken,
    desired: watch::Receiver<TaskState>,
    /// Its node starts it again, without managers.
    alone: bool,
}

impl Shell {
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            let (tools, assigned) = (self.tools.clone(), self.assigned.clone());
            let id = assigned.task.id;
            match action {
                Action::Report(status) => {
                    tracing::info!(task = %assigned.task.name(), id = %id, state = status.state.as_str(), message = %status.message);
                    tools.book.report(id, status);
                }
                Action::Prepare => {
                    let cancel = self.cancel_prepare.clone();
                    self.work.spawn(async move {
                        match prepare::prepare(&tools, &assigned, &cancel).await {
                            Ok(prepared) => Done::Prepared(Box::new(prepared)),
                            Err(error) => Done::Input(Input::Refused(error.to_string())),
                        }
                    });
                }
                Action::CancelPrepare => self.cancel_prepare.cancel(),
                Action::Delay(ms) => {
                    self.work.spawn(async move {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        Done::Input(Input::DelayOver)
                    });
                }
                Action::Start => match self.prepared.take() {
                    Some(prepared) => {
                        let decided = Start {
                            tools,
                            assigned,
                            desired: self.desired.clone(),
                            alone: self.alone,
                        };
                        self.work.spawn(start(decided, prepared));
                    }
                    None => tracing::error!(task = %id, "asked to start what was not prepared"),
                },
                Action::Watch => {
                    self.work.spawn(async move {
                        let exit = match tools.runtime.wait(&id.to_string()).await {
                            Ok(status) => exit_of(&status),
                            Err(error) => Exit {
                                code: 128,
                                message: error.to_string(),
                            },
                        };
                        keep_end(&tools, id, &End::Exited(exit.clone()));
                        Done::Input(Input::Exited(exit))
                    });
                }
                Action::Stop => {
                    self.work.spawn(async move {
                        let grace = Duration::from_millis(tools.stop_grace_ms);
                        if let Err(error) = tools.runtime.stop(&id.to_string(), None, grace).await {
                            tracing::warn!(task = %id, %error, "can't stop the container");
                        }
                        Done::Nothing
                    });
                }
                Action::Clean(after_ms) => {
                    self.prepared = None;
                    self.work.spawn(async move {
                        tokio::time::sleep(Duration::from_millis(after_ms)).await;
                        Done::Input(Input::Cleaned(clean(&tools, id).await))
                    });
                }
            }
        }
    }
}

/// Kept until the managers have let the task go: its container's record is removed before its end is told, and a
/// daemon that starts in between must not take it for lost. Half written it is worth nothing, but the
/// container's record is there still. What was refused has no other record, and has been replaced perhaps by the time
/// that a new daemon sees it.
pub(super) fn keep_end(tools: &Tools, task: TaskId, end: &End) {
    let places = tools.places(task);
    let path = places.begun();
    let kept = std::fs::create_dir_all(&places.dir)
        .and_then(|()| serde_json::to_vec(end).map_err(std::io::Error::from))
        .and_then(|text| std::fs::write(&path, text));
    if let Err(error) = kept {
        tracing::warn!(%task, path = %path.display(), %error, "can't keep how it ended; a restart now would call it lost, or begin it again");
    }
}

/// What there is of a task without a container.
pub(crate) fn find(tools: &Tools, task: TaskId) -> Found {
    match std::fs::read(tools.places(task).begun()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::Nothing,
        // Empty until its container has ended.
        Err(_) => Found::Lost,
        Ok(text) => serde_json::from_slice(&text).map_or(Found::Lost, |end: End| end.into()),
    }
}

/// Removes everything of a task but its log; goes on past errors and says all.
async fn clean(tools: &Arc<Tools>, task: TaskId) -> Result<(), String> {
    let id = task.to_string();
    let mut problems = Vec::new();
    if let Err(error) = tools.runtime.delete(&id).await {
        problems.push(error.to_string());
    }
    match overlay::TaskId::new(&id) {
        Ok(id) => {
            if let Err(error) = tools.overlay.detach(&id).await {
                problems.push(error.to_string());
            }
        }
        Err(error) => problems.push(error.to_string()),
    }
    let places = tools.places(task);
    let removed = tokio::task::spawn_blocking(move || {
        let mut problems = Vec::new();
        if let Err(error) = memory::remove(&places.secrets()) {
            problems.push(format!(
                "can't remove {}: {error}",
                places.secrets().display()
            ));
        }
        if places.root().exists()
            && let Err(error) = images::unmount_rootfs(&places.root())
        {
            problems.push(error.full());
        }
        if problems.is_empty() {
            for part in [
                places.root(),
                places.dir.join("etc"),
                places.dir.join("volumes"),
            ] {
                match std::fs::remove_dir_all(&part) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        problems.push(format!("can't remove {}: {error}", part.display()));
                    }
                    _ => {}
                }
            }
        }
        if problems.is_empty() {
            // The image may go now. It was there only if the task got that far.
            let _ = std::fs::remove_file(places.image());
            if !places.log().exists() && !places.begun().exists() {
                // Never started: there is nothing to read later.
                let _ = std::fs::remove_dir_all(&places.dir);
            }
        }
        problems
    })
    .await;
    match removed {
        Ok(more) => problems.extend(more),
        Err(error) => problems.push(error.to_string()),
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("; "))
    }
}

/// Takes over a container that an earlier daemon started.
pub(crate) async fn adopt(
    tools: &Arc<Tools>,
    assigned: &Assigned,
    state: &runtime::ContainerState,
) -> Found {
    if let Some(exit) = &state.exit {
        let exit = exit_of(exit);
        keep_end(tools, assigned.task.id, &End::Exited(exit.clone()));
        return Found::Exited(exit);
    }
    let adopted = async {
        let held = tools.runtime.held_fds(&state.id).await?;
        tools
            .overlay
            .adopt(netview::task_net(&assigned.task)?, held)
            .await?;
        anyhow::Ok(())
    };
    if let Err(error) = adopted.await {
        // It runs; its names may not. The overlay's reconciler repairs what it can.
        tracing::error!(task = %assigned.task.id, "can't take over the network: {error:#}");
    }
    match state.pid.and_then(|pid| u32::try_from(pid).ok()) {
        Some(pid) => Found::Running {
            pid,
            since: Timestamp(state.started_at_ms.unwrap_or_default()),
        },
        None => Found::Lost,
    }
}

/// Removes a container that no assignment wants.
pub(crate) async fn remove_unknown(tools: &Arc<Tools>, id: &str) {
    let outcome = match task_id_of(id) {
        Some(task) => clean(tools, task).await,
        None => tools
            .runtime
            .delete(id)
            .await
            .map_err(|error| error.to_string()),
    };
    if let Err(problems) = outcome {
        tracing::error!(container = id, %problems, "not all of it could be removed");
    }
}

/// Logs of ended tasks are kept so long.
const LOG_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// ... and so many of each service.
const LOGS_PER_SERVICE: usize = 20;

/// The reaper of the tasks' folders: mounts left by a crash go, logs of the ended are bounded in age and
/// number.
pub(crate) async fn sweep(tools: &Arc<Tools>, alive: impl Fn(TaskId) -> bool) {
    let mut by_service: std::collections::BTreeMap<String, Vec<(SystemTime, std::path::PathBuf)>> =
        Default::default();
    for (task, places) in folders(tools) {
        if alive(task) {
            continue;
        }
        let parts = [places.root(), places.dir.join("volumes"), places.secrets()];
        if parts.iter().any(|part| part.exists())
            && let Err(problems) = clean(tools, task).await
        {
            tracing::warn!(%task, %problems, "leftovers could not be removed");
            continue;
        }
        let age = std::fs::metadata(places.log()).and_then(|m| m.modified());
        match age {
            Ok(modified) if modified.elapsed().unwrap_or_default() < LOG_AGE => {
                let service =
                    std::fs::read_to_string(places.dir.join("service")).unwrap_or_default();
                by_service
                    .entry(service)
                    .or_default()
                    .push((modified, places.dir));
            }
            _ => remove_dir(&places.dir),
        }
    }
    for logs in by_service.values_mut() {
        logs.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
        for (_, dir) in logs.iter().skip(LOGS_PER_SERVICE) {
            remove_dir(dir);
        }
    }
}

/// The managers have let a task go: of one that never wrote a word nothing is left. [`sweep`] does the same later,
/// where the disk refused.
pub(crate) fn let_go(tools: &Tools, task: TaskId) {
    let places = tools.places(task);
    let is_used = places.log().exists() || places.root().exists();
    if places.dir.exists() && !is_used && !tools.disk.names(task) {
        remove_dir(&places.dir);
    }
}

/// A service's last task here was removed for good: so are the logs of the earlier ones.
pub(crate) async fn forget_service_logs(tools: &Arc<Tools>, service: ServiceId) {
    for (task, places) in folders(tools) {
        let of = std::fs::read_to_string(places.dir.join("service")).unwrap_or_default();
        if of != service.to_string() || places.root().exists() {
            continue;
        }
        if tools.disk.names(task) {
            remove_dir(&places.dir.join("log"));
        } else {
            remove_dir(&places.dir);
        }
    }
}

/// The images that tasks of this node use.
pub(crate) fn images_in_use(tools: &Arc<Tools>) -> Vec<images::ImageId> {
    folders(tools)
        .into_iter()
        .filter_map(|(_, places)| {
            std::fs::read_to_string(places.image())
                .ok()?
                .trim()
                .parse()
                .ok()
        })
        .collect()
}

fn remove_dir(dir: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "can't remove");
    }
}

fn folders(tools: &Arc<Tools>) -> Vec<(TaskId, crate::container::Places)> {
    let Ok(entries) = std::fs::read_dir(&tools.containers) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| task_id_of(entry.ok()?.file_name().to_str()?))
        .map(|task| (task, tools.places(task)))
        .collect()
}
