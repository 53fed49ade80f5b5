//! `clusterctl node promote` and `clusterctl node demote`

use super::Each;
use super::rows::{NodeRow, all};
use crate::client::Client;
use crate::failure::Interrupted;
use crate::output;
use crate::progress::Progress;
use anyhow::{Result, bail};
use api::convert;
use api::model::{NodeState, Role};
use api::proto::{self, ListNodesRequest, SetNodeRoleRequest};
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(150);
/// How long a node is waited for.
const BOUND: Duration = Duration::from_secs(60);

/// What both take.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Don't wait until it is done
    #[arg(short, long)]
    detach: bool,
    /// Hostnames, ids or beginnings of ids; `self` is this machine
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
}

pub async fn run(client: &Client, args: Args, role: Role) -> Result<()> {
    // All of them are there, or none changes.
    let nodes = args.nodes.clone();
    client
        .control()
        .list_nodes(ListNodesRequest { nodes })
        .await?;
    let mut each = Each::default();
    for node in &args.nodes {
        each.note(one(client, node, role, args.detach).await);
    }
    each.end()
}

async fn one(client: &Client, node: &str, role: Role, detach: bool) -> Result<()> {
    let request = SetNodeRoleRequest {
        node: node.to_owned(),
        role: proto::Role::from(role).into(),
    };
    let reply = client.control().set_node_role(request).await?.into_inner();
    if !detach {
        let id = convert::node_id(&reply.node_id)?.to_string();
        wait(client, node, id, role).await?;
    }
    output::line(node)
}

/// What is still to be done, for a person; none when all is.
fn missing(row: &NodeRow, role: Role) -> Option<&'static str> {
    let holds = row.node.cert.role == role;
    let step = match role {
        Role::Manager if !holds => "it gets a manager's certificate",
        Role::Manager if !row.manager => "the managers take it in",
        Role::Manager if !row.voter => "it copies the cluster's state",
        Role::Worker if row.manager => "the managers let it go",
        Role::Worker if !holds => "it gets a worker's certificate",
        _ => return None,
    };
    Some(step)
}

async fn wait(client: &Client, name: &str, id: String, role: Role) -> Result<()> {
    let end = Instant::now() + BOUND;
    let mut progress = Progress::start();
    loop {
        let rows: Vec<NodeRow> = all(client
            .control()
            .list_nodes(ListNodesRequest { nodes: vec![] })
            .await?
            .into_inner()
            .nodes)?;
        let Some(row) = rows.iter().find(|row| row.node.id.to_string() == id) else {
            bail!("node {name} was removed meanwhile");
        };
        let Some(step) = missing(row, role) else {
            progress.finish();
            if rows.iter().filter(|row| row.voter).count() == 2 {
                progress.note(
                    "The cluster has two managers now: the loss of either stops all changes. Add a third, or demote one.",
                );
            }
            return Ok(());
        };
        if row.node.spec.role != role {
            bail!(
                "somebody wants node {name} to be a {} meanwhile",
                row.node.spec.role.as_str()
            );
        }
        let down = row.node.status.state != NodeState::Ready;
        let also = if down {
            ", once it is back (Ctrl-C ends the wait and nothing else)"
        } else {
            ""
        };
        progress.say(&format!("{name}: {step}{also}"));
        if Instant::now() >= end {
            progress.finish();
            let cure = match (down, role) {
                (true, Role::Manager) => format!(
                    "it is down: it goes on by itself once clusterd runs there again; `clusterctl node demote {name}` takes it back"
                ),
                (true, Role::Worker) => format!(
                    "it is down: it goes on by itself once clusterd runs there again; if it is gone for good, `clusterctl node rm --force {name}`"
                ),
                (false, _) => "it goes on by itself, `clusterctl node ls` shows how far it is, and its clusterd's log says what stands in the way".into(),
            };
            bail!(
                "node {name} is no {} yet after {} s: {step}; {cure}",
                role.as_str(),
                BOUND.as_secs()
            );
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            _ = tokio::signal::ctrl_c() => {
                return Err(Interrupted(format!("interrupted; node {name} goes on by itself")).into());
            }
        }
    }
}
