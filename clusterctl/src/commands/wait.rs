//! Waiting for the cluster to be what was asked for, with progress.

use super::rows::{NodeRow, ServiceRow, TaskRow, all};
use super::tasks::{fetch, problem};
use crate::client::Client;
use crate::failure::Interrupted;
use crate::progress::Progress;
use anyhow::{Result, bail};
use api::model::{NodeState, RestartCondition, RestartPolicy, TaskId, TaskState};
use api::proto::{ListNodesRequest, ListServicesRequest, ListStacksRequest, ListTasksRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(100);
/// How long removed tasks may take to end.
const GONE_BOUND: Duration = Duration::from_secs(120);
/// How much longer tasks have to have run on when some have failed meanwhile.
const AFTER_TROUBLE: u32 = 5;

/// Ctrl-C while waiting: what was asked for goes on.
fn interrupted(what: &str) -> anyhow::Error {
    Interrupted(format!("interrupted; {what} goes on by itself")).into()
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    /// How long.
    pub bound: Duration,
    /// How long the same tasks have to have run on.
    pub steady: Duration,
    /// Whether the tasks that are too many have to have ended, too.
    pub exact: bool,
    /// What takes it back, for a person.
    pub cure: &'a str,
}

/// Waits until services run as many tasks as they should.
///
/// # Errors
/// At the bound: which services are short, and why.
pub async fn services_running(
    client: &Client,
    filter: &ListServicesRequest,
    wait: Wait<'_>,
) -> Result<()> {
    let Wait {
        bound,
        exact,
        mut steady,
        cure,
    } = wait;
    let end = Instant::now() + bound;
    let mut settled: Option<(Instant, BTreeSet<TaskId>)> = None;
    let mut progress = Progress::start();
    let mut last_note: BTreeMap<String, String> = BTreeMap::new();
    let mut has_failed = false;
    loop {
        let reply = client
            .control()
            .list_services(filter.clone())
            .await?
            .into_inner();
        let services: Vec<ServiceRow> = all(reply.services)?;
        let mut said: Vec<String> = services
            .iter()
            .map(|s| format!("{} {}/{}", s.service.spec.name, s.running, s.wanted))
            .collect();
        // Not only enough, but of the version asked for: while old tasks are replaced one by one, enough run.
        let (mut waiting, mut still) = (Vec::new(), Vec::new());
        for (service, said) in services.iter().zip(&mut said) {
            let request = ListTasksRequest {
                service: Some(service.service.id.to_string()),
                ..ListTasksRequest::default()
            };
            if exact
                || service.running < service.wanted
                || service.service.meta.created_at != service.service.meta.updated_at
            {
                // Troubles of earlier versions are history.
                let all = fetch(client, request).await?;
                if exact {
                    let stopping = stopping(client, &all, service.wanted).await?;
                    if !stopping.is_empty() {
                        said.push_str(&format!(", {} stopping", stopping.len()));
                        waiting.push(service.service.spec.name.clone());
                        still = stopping;
                    }
                }
                let (tasks, earlier): (Vec<TaskRow>, Vec<TaskRow>) = all
                    .into_iter()
                    .partition(|t| t.task.template_revision == service.service.template_revision);
                let old = earlier.iter().any(|t| !t.task.status.state.is_ended());
                if old || service.running < service.wanted {
                    has_failed |= note_problems(&tasks, &progress, &mut last_note);
                    let (done, failed) =
                        ended_for_good(&service.service.spec.template.restart, &tasks);
                    if let Some(task) = failed {
                        progress.finish();
                        bail!("{}", given_up(task));
                    }
                    if old || service.running + done < service.wanted {
                        waiting.push(service.service.spec.name.clone());
                    }
                }
            }
        }
        waiting.dedup();
        progress.say(&said.join("   "));
        if has_failed {
            // One that fails a moment after each of its starts has run for a moment, too.
            steady = steady.max(wait.steady * AFTER_TROUBLE);
        }
        if waiting.is_empty() {
            let running = if steady.is_zero() {
                BTreeSet::new()
            } else {
                running_tasks(client, &services).await?
            };
            let since = match settled {
                Some((since, before)) if before == running => since,
                _ => Instant::now(),
            };
            if since.elapsed() >= steady {
                progress.finish();
                return Ok(());
            }
            settled = Some((since, running));
        } else {
            settled = None;
        }
        if Instant::now() >= end {
            progress.finish();
            let mut reasons: Vec<String> = last_note
                .iter()
                .map(|(name, why)| format!("{name}: {why}"))
                .collect();
            reasons.extend(still);
            if waiting.is_empty() && !has_failed {
                return Ok(());
            }
            if waiting.is_empty() {
                // They run just now, and have not for long.
                let of_tasks = last_note.keys().filter_map(|name| name.rsplit_once('.'));
                waiting.extend(of_tasks.map(|(service, _)| service.to_owned()));
                waiting.dedup();
            }
            let example = waiting.first().map_or("SERVICE", String::as_str);
            bail!(
                "not all is as it should be after {} s: {}{}{}; the cluster goes on trying: `clusterctl service ps {example}` shows the \
                 tasks, `clusterctl service logs {example}` what they said, {cure}",
                bound.as_secs(),
                waiting.join(", "),
                if reasons.is_empty() { "" } else { " — " },
                reasons.join("; "),
            );
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            _ = tokio::signal::ctrl_c() => return Err(interrupted("what was asked for")),
        }
    }
}

/// Which tasks run: a service whose tasks end and begin again has enough of them now and then, too.
async fn running_tasks(client: &Client, services: &[ServiceRow]) -> Result<BTreeSet<TaskId>> {
    let mut running = BTreeSet::new();
    for service in services {
        let service = Some(service.service.id.to_string());
        let request = ListTasksRequest {
            service,
            running_only: true,
            ..ListTasksRequest::default()
        };
        let tasks = fetch(client, request).await?;
        running.extend(
            tasks
                .iter()
                .filter(|t| t.task.status.state == TaskState::Running)
                .map(|t| t.task.id),
        );
    }
    Ok(running)
}

/// The newest task of each slot; those before it are history. `tasks` are in the order of [`fetch`].
fn newest(tasks: &[TaskRow]) -> Vec<&TaskRow> {
    let mut newest: Vec<&TaskRow> = Vec::new();
    for row in tasks {
        if newest.last().is_none_or(|last| last.name != row.name) {
            newest.push(row);
        }
    }
    newest
}

/// Of one version of a service: how many slots have ended well and stay so, and a task that has failed and is not
/// followed by another.
fn ended_for_good<'a>(policy: &RestartPolicy, tasks: &'a [TaskRow]) -> (u32, Option<&'a TaskRow>) {
    let ended = |state| {
        matches!(
            state,
            TaskState::Failed | TaskState::Rejected | TaskState::Complete
        )
    };
    let (mut done, mut failed) = (0, None);
    for last in newest(tasks) {
        let state = last.task.status.state;
        let is_well = state == TaskState::Complete;
        let again = match policy.condition {
            RestartCondition::None => false,
            RestartCondition::OnFailure => !is_well,
            RestartCondition::Any => true,
        };
        // With a window older attempts don't count, which ones only the managers know.
        let used_up = policy.window_ms.is_none()
            && policy.max_attempts.is_some_and(|most| {
                let of_slot = tasks.iter().filter(|row| row.name == last.name);
                let ends = of_slot.filter(|row| ended(row.task.status.state)).count();
                ends > usize::try_from(most).unwrap_or(usize::MAX)
            });
        if !ended(state) || (again && !used_up) {
            continue;
        }
        if is_well {
            done += 1;
        } else {
            failed = failed.or(Some(last));
        }
    }
    (done, failed)
}

fn given_up(row: &TaskRow) -> String {
    let (name, service) = (&row.name, &row.task.service_name);
    let why = problem(&row.task);
    format!(
        "{name} has {} and is not started again, as its restart_policy says: {why}; what it said is in \
         `clusterctl service logs {service}`; change the file and deploy again, or take the stack back with \
         `clusterctl stack rm`",
        row.task.status.state.as_str()
    )
}

/// The tasks of a service that are more than it wants and have yet to end, for a person. What is on a node that is
/// down ends when that is back, and nobody waits for it.
async fn stopping(client: &Client, tasks: &[TaskRow], wanted: u32) -> Result<Vec<String>> {
    let live = tasks.iter().filter(|row| !row.task.status.state.is_ended());
    let mut live: Vec<&TaskRow> = live.collect();
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    if live.len() > wanted {
        let request = ListNodesRequest { nodes: vec![] };
        let reply = client.control().list_nodes(request).await?.into_inner();
        let nodes: Vec<NodeRow> = all(reply.nodes)?;
        let down = |row: &TaskRow| {
            let on_it = |node: &&NodeRow| Some(node.node.id) == row.task.node;
            let node = nodes.iter().find(on_it);
            node.is_some_and(|node| node.node.status.state == NodeState::Down)
        };
        live.retain(|row| !down(row));
    }
    if live.len() <= wanted {
        return Ok(Vec::new());
    }
    let count = live.len() - wanted;
    // Those that were told to first.
    live.sort_by_key(|row| std::cmp::Reverse(row.task.desired));
    let told = live.into_iter().take(count).map(|row| {
        let node = row.hostname.as_deref().unwrap_or("no node");
        format!("{} on {node} has yet to stop", row.name)
    });
    Ok(told.collect())
}

/// Says the trouble of each slot's newest task, once as long as it is the same but for the task's id. Whether any of
/// it is that one has failed.
fn note_problems(
    tasks: &[TaskRow],
    progress: &Progress,
    last: &mut BTreeMap<String, String>,
) -> bool {
    let mut has_failed = false;
    for row in newest(tasks) {
        let state = row.task.status.state;
        let trouble = matches!(
            state,
            TaskState::Pending | TaskState::Rejected | TaskState::Failed
        );
        has_failed |= trouble && state != TaskState::Pending;
        let id = row.task.id;
        let why = problem(&row.task)
            .replace(&format!("task {id}: "), "")
            .replace(&format!("container {id}: "), "");
        if !trouble || why.is_empty() || last.get(&row.name) == Some(&why) {
            continue;
        }
        let place = match &row.hostname {
            Some(node) => format!("{} on {node}", row.name),
            None => row.name.clone(),
        };
        progress.note(&format!("{place} {}: {why}", state.as_str()));
        if last.is_empty() {
            progress.note("(waiting on; Ctrl-C ends the wait and nothing else)");
        }
        last.insert(row.name.clone(), why);
    }
    has_failed
}

/// Waits until tasks are gone from the cluster, and with them the records of stacks that are named.
///
/// # Errors
/// At the bound: what is still there.
pub async fn gone(client: &Client, tasks: Vec<bytes::Bytes>, stacks: &[String]) -> Result<()> {
    let end = Instant::now() + GONE_BOUND;
    let mut progress = Progress::start();
    loop {
        let left = match tasks.is_empty() {
            true => Vec::new(),
            false => {
                fetch(
                    client,
                    ListTasksRequest {
                        ids: tasks.clone(),
                        ..ListTasksRequest::default()
                    },
                )
                .await?
            }
        };
        let record = match stacks {
            [] => false,
            _ => {
                let reply = client
                    .control()
                    .list_stacks(ListStacksRequest {})
                    .await?
                    .into_inner();
                reply
                    .stacks
                    .iter()
                    .filter_map(|row| row.stack.as_ref())
                    .any(|s| stacks.contains(&s.name))
            }
        };
        if left.is_empty() && !record {
            progress.finish();
            return Ok(());
        }
        // Those that ended before are only let go of.
        let running = left.iter().filter(|r| !r.task.status.state.is_ended());
        match running.count() {
            0 if !left.is_empty() => progress.say("letting go of ended tasks"),
            0 => progress.say("removing networks"),
            1 => progress.say("stopping: 1 task left"),
            count => progress.say(&format!("stopping: {count} tasks left")),
        }
        if Instant::now() >= end {
            let names: Vec<String> = left
                .iter()
                .map(|r| {
                    format!(
                        "{} on {}",
                        r.name,
                        r.hostname.as_deref().unwrap_or("no node")
                    )
                })
                .collect();
            bail!(
                "after {} s this is still there: {}",
                GONE_BOUND.as_secs(),
                names.join(", ")
            );
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            _ = tokio::signal::ctrl_c() => return Err(interrupted("the removal")),
        }
    }
}
