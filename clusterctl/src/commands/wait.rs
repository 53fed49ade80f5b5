//! Waiting for the cluster to be what was asked for, with progress.

use super::rows::{ServiceRow, TaskRow, all};
use super::tasks::{fetch, problem};
use crate::client::Client;
use crate::failure::Interrupted;
use crate::progress::Progress;
use anyhow::{Result, bail};
use api::model::{TaskId, TaskState};
use api::proto::{ListServicesRequest, ListStacksRequest, ListTasksRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(100);

/// Ctrl-C while waiting: what was asked for goes on.
fn interrupted(what: &str) -> anyhow::Error {
    Interrupted(format!("interrupted; {what} goes on by itself")).into()
}

/// Waits until services run as many tasks as they should, and the same tasks have run on for `steady`.
///
/// # Errors
/// At the bound: which services are short, and why.
pub async fn services_running(
    client: &Client,
    filter: &ListServicesRequest,
    bound: Duration,
    steady: Duration,
) -> Result<()> {
    let end = Instant::now() + bound;
    let mut settled: Option<(Instant, BTreeSet<TaskId>)> = None;
    let mut progress = Progress::start();
    let mut last_note: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let reply = client
            .control()
            .list_services(filter.clone())
            .await?
            .into_inner();
        let services: Vec<ServiceRow> = all(reply.services)?;
        let short: Vec<&ServiceRow> = services.iter().filter(|s| s.running < s.wanted).collect();
        let said = services
            .iter()
            .map(|s| format!("{} {}/{}", s.service.spec.name, s.running, s.wanted))
            .collect::<Vec<_>>()
            .join("   ");
        progress.say(&said);
        // Not only enough, but of the version asked for: while old tasks are replaced one by one, enough run.
        let mut waiting = Vec::new();
        for service in &services {
            let request = ListTasksRequest {
                service: Some(service.service.id.to_string()),
                ..ListTasksRequest::default()
            };
            if service.running < service.wanted
                || service.service.meta.created_at != service.service.meta.updated_at
            {
                // Troubles of earlier versions are history.
                let (tasks, earlier): (Vec<TaskRow>, Vec<TaskRow>) = fetch(client, request)
                    .await?
                    .into_iter()
                    .partition(|t| t.task.template_revision == service.service.template_revision);
                let old = earlier.iter().any(|t| !t.task.status.state.is_ended());
                if old || service.running < service.wanted {
                    waiting.push(service.service.spec.name.clone());
                    note_problems(&tasks, &progress, &mut last_note);
                }
            }
        }
        if short.is_empty() && waiting.is_empty() {
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
            let reasons: Vec<String> = last_note
                .iter()
                .map(|(name, why)| format!("{name}: {why}"))
                .collect();
            bail!(
                "not all tasks run after {} s: {}{}{}; the cluster goes on trying, `clusterctl service ps` shows the tasks",
                bound.as_secs(),
                waiting.join(", "),
                if reasons.is_empty() { "" } else { " — " },
                reasons.join("; ")
            );
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            _ = tokio::signal::ctrl_c() => return Err(interrupted("the deployment")),
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

/// Says each task's trouble once.
fn note_problems(tasks: &[TaskRow], progress: &Progress, last: &mut BTreeMap<String, String>) {
    for row in tasks {
        let state = row.task.status.state;
        let trouble = matches!(
            state,
            TaskState::Pending | TaskState::Rejected | TaskState::Failed
        );
        let why = problem(&row.task);
        if !trouble || why.is_empty() || last.get(&row.name) == Some(&why) {
            continue;
        }
        progress.note(&format!("{} {}: {why}", row.name, state.as_str()));
        last.insert(row.name.clone(), why);
    }
}

/// Waits until tasks are gone from the cluster, and with them a stack's record, if one is named.
///
/// # Errors
/// At the bound: what is still there.
pub async fn gone(
    client: &Client,
    tasks: Vec<bytes::Bytes>,
    stack: Option<&str>,
    bound: Duration,
) -> Result<()> {
    let end = Instant::now() + bound;
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
        let record = match stack {
            None => false,
            Some(name) => {
                let reply = client
                    .control()
                    .list_stacks(ListStacksRequest {})
                    .await?
                    .into_inner();
                reply
                    .stacks
                    .iter()
                    .filter_map(|row| row.stack.as_ref())
                    .any(|s| s.name == name)
            }
        };
        if left.is_empty() && !record {
            progress.finish();
            return Ok(());
        }
        match left.len() {
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
                bound.as_secs(),
                names.join(", ")
            );
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            _ = tokio::signal::ctrl_c() => return Err(interrupted("the removal")),
        }
    }
}
