//! Tasks in columns: `service ps`, `stack ps`, `node ps`.

use super::Each;
use super::filter::Filters;
use super::node::named;
use super::rows::{TaskRow, all};
use crate::client::Client;
use crate::output::{self, Format, FormatArg, short};
use crate::time::ago;
use anyhow::Result;
use api::proto::ListTasksRequest;
use std::collections::BTreeMap;

/// Fetches tasks, the wanted ones of each slot first.
///
/// # Errors
/// What clusterd refused.
pub async fn fetch(client: &Client, request: ListTasksRequest) -> Result<Vec<TaskRow>> {
    let reply = client.control().list_tasks(request).await?.into_inner();
    let mut rows: Vec<TaskRow> = all(reply.tasks)?;
    sort(&mut rows);
    Ok(rows)
}

/// How tasks are listed.
#[derive(Debug, clap::Args)]
pub struct Listing {
    /// Only those: id, name, desired-state, state; of services and stacks also node
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    format: FormatArg,
}

impl Listing {
    /// Asks for the tasks of each, and prints them all, each once. What one request is refused for holds up no other.
    ///
    /// # Errors
    /// The refusals, or that stdout can't be written.
    pub async fn show(&self, client: &Client, requests: Vec<ListTasksRequest>) -> Result<()> {
        let of_nodes = requests.iter().all(|request| request.node.is_some());
        let keys: &[&str] = match of_nodes {
            true => &["id", "name", "desired-state", "state"],
            false => &["id", "name", "node", "desired-state", "state"],
        };
        let mut filters = Filters::read(&self.filter, keys)?;
        filters.check_task_states()?;
        let nodes = named(client, filters.take("node")).await?;
        let (mut rows, mut each, mut fine) = (BTreeMap::new(), Each::default(), false);
        for request in on_nodes(requests, &nodes) {
            match fetch(client, request).await {
                Ok(more) => {
                    fine = true;
                    rows.extend(more.into_iter().map(|row| (row.task.id, row)));
                }
                // The others would find nobody either.
                Err(error) if is_unavailable(&error) => return Err(error),
                Err(error) => each.note(Err(error)),
            }
        }
        if !fine {
            return each.end();
        }
        let mut rows: Vec<TaskRow> = rows.into_values().collect();
        rows.retain(|row| filters.take_task(row));
        sort(&mut rows);
        if self.quiet {
            let mut ids = rows.iter();
            ids.try_for_each(|row| output::line(row.task.id))?;
        } else {
            print(self.format.format, &rows, self.no_trunc)?;
        }
        each.end()
    }
}

/// Each request for each of the nodes; as they are where none is named.
fn on_nodes(requests: Vec<ListTasksRequest>, nodes: &[String]) -> Vec<ListTasksRequest> {
    if nodes.is_empty() {
        return requests;
    }
    let of_one = |request: ListTasksRequest| {
        nodes.iter().map(move |node| ListTasksRequest {
            node: Some(node.clone()),
            ..request.clone()
        })
    };
    requests.into_iter().flat_map(of_one).collect()
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<tonic::Status>();
    status.is_some_and(|status| status.code() == tonic::Code::Unavailable)
}

/// Slot by slot, the newest first.
fn sort(rows: &mut [TaskRow]) {
    rows.sort_by(|a, b| {
        let key = |r: &TaskRow| {
            (
                r.task.service_name.clone(),
                r.task.slot,
                std::cmp::Reverse(r.task.meta.created_at),
            )
        };
        key(a).cmp(&key(b)).then(a.task.id.cmp(&b.task.id))
    });
}

fn print(format: Format, rows: &[TaskRow], full: bool) -> Result<()> {
    let now = jiff::Timestamp::now();
    let mut previous: Option<(String, u32)> = None;
    let marked: Vec<(bool, &TaskRow)> = rows
        .iter()
        .map(|row| {
            let slot = (row.task.service_name.to_string(), row.task.slot);
            let older = previous.as_ref() == Some(&slot);
            previous = Some(slot);
            (older, row)
        })
        .collect();
    if format == Format::Json {
        return output::json(&rows);
    }
    let header = [
        "ID", "NAME", "IMAGE", "NODE", "DESIRED", "CURRENT", "ERROR", "PORTS",
    ];
    let lines: Vec<Line> = marked
        .iter()
        .map(|(older, row)| line(*older, row, full, now))
        .collect();
    output::list(Format::Table, &lines, &header, |line| line.0.to_vec())
}

/// Characters shown of an older task's trouble.
const OLDER_WIDTH: usize = 40;

#[derive(serde::Serialize)]
struct Line([String; 8]);

fn line(older: bool, row: &TaskRow, full: bool, now: jiff::Timestamp) -> Line {
    let task = &row.task;
    let id = if full {
        task.id.to_string()
    } else {
        short(task.id)
    };
    let name = if older {
        format!(" \\_ {}", row.name)
    } else {
        row.name.clone()
    };
    let state = format!(
        "{} {}",
        task.status.state.as_str(),
        ago(task.status.at.0, now)
    );
    let ports = output::join(task.ports.iter().map(|p| {
        let (published, target, protocol) = (p.published, p.target, p.protocol.as_str());
        format!("*:{published}->{target}/{protocol}")
    }));
    let node = match (&row.hostname, task.node) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => format!("{} (removed)", short(id)),
        (None, None) => String::new(),
    };
    Line([
        id,
        name,
        row.image.clone(),
        node,
        task.desired.as_str().into(),
        state,
        if older && !full {
            cut(problem(task))
        } else {
            problem(task)
        },
        if task.status.state.is_ended() {
            String::new()
        } else {
            ports
        },
    ])
}

/// An older task's trouble mostly is the newest's: its beginning will do.
fn cut(text: String) -> String {
    match text.char_indices().nth(OLDER_WIDTH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Why a task is not what it should be, as one cell.
pub fn problem(task: &api::model::Task) -> String {
    use api::model::TaskState::{Complete, Running, Shutdown};
    match (task.status.state, task.status.exit_code) {
        (Running | Complete | Shutdown, _) => String::new(),
        (_, Some(code)) if task.status.message.is_empty() => format!("exit code {code}"),
        _ => task.status.message.clone(),
    }
}
