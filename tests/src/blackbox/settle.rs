//! After everything is mended: what was acknowledged is there, all managers have the same, and the cluster is as it
//! should be. Waited for by condition.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use api::proto::{
    ListNodesRequest, ListTasksRequest, NodeState, ScaleServiceRequest, TaskRow, TaskState,
    control_client::ControlClient,
};
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, transport::Channel};

use super::{
    calls,
    clients::{Client, Shared},
    history::{Answer, Ask, Value},
    plan::{MANAGERS, NODES},
    stack::{self, Stack},
    watch::Watcher,
};

/// How long each of these may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Who reads in the end, for the history.
const READER: u32 = 1_000;
/// Writes that each manager has to take after all was mended.
const WRITES: usize = 3;

/// Waits until `look` succeeds; its last error is told.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("{what}: not within {} s", LIMIT.as_secs())));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn bounded<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T> {
    let answer = timeout(calls::BOUND, call).await.context("no answer")?;
    Ok(answer
        .map_err(|status| anyhow!("{}", status.message()))?
        .into_inner())
}

/// Until every manager has acknowledged some more writes of the clients, which go on.
pub async fn writes_go_on(shared: &Shared) -> Result<()> {
    let from = shared.history.now_ns();
    until("every manager takes writes again", async || {
        for node in 1..=MANAGERS {
            let entries = shared.history.entries();
            let done = entries.iter().filter(|entry| {
                entry.asked_ns >= from && entry.through == node && entry.answer == Answer::Done
            });
            let done = done.count();
            ensure!(done >= WRITES, "node{node} has taken {done}");
        }
        Ok(())
    })
    .await
}

/// Reads every register, as of now; then every manager's own copy of it, which comes to be the same.
pub async fn registers(shared: &Shared) -> Result<()> {
    let client = Client {
        number: READER,
        shared,
    };
    let mut doors: Vec<_> = shared
        .sockets
        .iter()
        .map(|path| calls::door(path.clone()))
        .collect();
    let mut last: BTreeMap<String, Option<Value>> = BTreeMap::new();
    for (key, number) in shared.keys.all().iter().zip(0..) {
        let at = number % MANAGERS;
        let held = until(&format!("{} is read", key.name), async || {
            match client.call(&mut doors[at], 1 + at, key, Ask::Read).await {
                Some(Answer::Holds(held)) => Ok(held),
                other => Err(anyhow!("{other:?}")),
            }
        })
        .await?;
        last.insert(key.name.clone(), held);
        for (door, node) in doors.iter_mut().zip(1..=MANAGERS) {
            let what = format!("node{node} has {} as all others have it", key.name);
            until(&what, async || {
                match client.call(door, node, key, Ask::StaleRead).await {
                    Some(Answer::Holds(stale)) if stale == held => Ok(()),
                    other => Err(anyhow!("{other:?} instead of {held:?}")),
                }
            })
            .await?;
        }
    }
    Ok(())
}

/// Every node is ready, and every task of the stack runs, once and where it is said to; the watcher knows of all.
pub async fn cluster(shared: &Shared, stack: &Stack, watcher: &Watcher) -> Result<()> {
    let path = shared.sockets.first().context("no node")?;
    let mut door = calls::door(path.clone());
    until("all nodes are ready", async || nodes(&mut door).await).await?;
    for (service, replicas) in [
        (stack::SHOP, stack::SHOP_TASKS),
        (stack::WATCHED, stack::WATCHED_TASKS),
    ] {
        until(&format!("{service} is scaled"), async || {
            let request = ScaleServiceRequest {
                service: service.into(),
                replicas,
            };
            bounded(door.scale_service(request)).await
        })
        .await?;
    }
    until("all tasks run, and no others", async || {
        tasks(&mut door, stack, watcher).await
    })
    .await
}

async fn nodes(door: &mut ControlClient<Channel>) -> Result<()> {
    let rows = bounded(door.list_nodes(ListNodesRequest::default()))
        .await?
        .nodes;
    let ready = i32::from(NodeState::Ready);
    let mut wrong = Vec::new();
    for row in &rows {
        let node = row.node.as_ref().context("no node")?;
        let state = node.status.as_ref().map_or(0, |status| status.state);
        if state != ready || !row.reachable {
            let name = node.description.as_ref().map(|d| d.hostname.clone());
            wrong.push(format!("{}: state {state}", name.unwrap_or_default()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join(", "));
    // The watcher is one, too.
    ensure!(rows.len() == NODES + 1, "there are {} nodes", rows.len());
    let voters = rows.iter().filter(|row| row.voter).count();
    ensure!(voters == MANAGERS, "{voters} managers vote");
    Ok(())
}

async fn tasks(door: &mut ControlClient<Channel>, stack: &Stack, watcher: &Watcher) -> Result<()> {
    let request = ListTasksRequest {
        stack: Some(stack::NAME.into()),
        running_only: true,
        ..ListTasksRequest::default()
    };
    let rows = bounded(door.list_tasks(request)).await?.tasks;
    let running = i32::from(TaskState::Running);
    let status = |row: &TaskRow| row.task.as_ref()?.status.clone();
    for row in &rows {
        let status = status(row).context("a task without status")?;
        ensure!(
            status.state == running,
            "{} is {}: {}",
            row.name,
            status.state,
            status.message
        );
    }
    let wanted = usize::try_from(stack::SHOP_TASKS + stack::WATCHED_TASKS)?;
    ensure!(rows.len() == wanted, "{} tasks, not {wanted}", rows.len());
    let mut told: Vec<u32> = rows
        .iter()
        .filter_map(status)
        .filter_map(|status| status.pid)
        .collect();
    // The watcher's have none.
    told.retain(|pid| *pid != 0);
    told.sort_unstable();
    let there = processes(&stack.command().join(" "))?;
    ensure!(there == told, "processes {there:?} run, and not {told:?}");
    let ids: Vec<Bytes> = rows
        .iter()
        .filter_map(|row| Some(row.task.as_ref()?.id.clone()))
        .collect();
    let ready = watcher.view().ready();
    ensure!(
        ready == ids.iter().cloned().collect(),
        "the watcher was told of {ready:x?}, and {ids:x?} run"
    );
    Ok(())
}

/// The processes of this machine that were started with these words.
fn processes(words: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.trim_end() == words {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}
