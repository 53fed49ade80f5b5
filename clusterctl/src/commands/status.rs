//! `clusterctl status`

use crate::client::Client;
use crate::output::{self, Format, FormatArg, short};
use anyhow::Result;
use api::proto::{GetInfoRequest, GetStatusRequest};
use serde::Serialize;

/// Show the cluster's health: managers, who leads, nodes, tasks
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clusterctl status\n  clusterctl status --format json | jq .leader"
)]
pub struct Args {
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
struct Status {
    cluster: String,
    node: String,
    hostname: String,
    role: String,
    addr: String,
    version: String,
    leader: Option<String>,
    revision: u64,
    managers: Vec<Manager>,
    nodes: u32,
    nodes_ready: u32,
    services: u32,
    tasks_running: u32,
    tasks_wanted: u32,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Manager {
    id: String,
    hostname: String,
    addr: String,
    leader: bool,
    voter: bool,
    reachable: bool,
    lag: u64,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    let info = client
        .daemon()
        .get_info(GetInfoRequest {})
        .await?
        .into_inner();
    if info.cluster_id.is_empty() {
        for warning in &info.warnings {
            output::line(format!("Warning: {warning}"))?;
        }
        anyhow::bail!(
            "this machine belongs to no cluster; make one with `clusterctl init` or join one with `clusterctl join`"
        );
    }
    let cluster = client
        .control()
        .get_status(GetStatusRequest {})
        .await?
        .into_inner();
    let managers = cluster
        .managers
        .iter()
        .map(|m| {
            Ok(Manager {
                id: api::convert::node_id(&m.node_id)?.to_string(),
                hostname: m.hostname.clone(),
                addr: m.addr.clone(),
                leader: m.leader,
                voter: m.voter,
                reachable: m.reachable,
                lag: m.lag,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let status = Status {
        cluster: api::convert::cluster_id(&cluster.cluster_id)?.to_string(),
        node: api::convert::node_id(&info.node_id)?.to_string(),
        hostname: info.hostname,
        role: info.role,
        addr: info.advertise_addr,
        version: info.version,
        leader: managers
            .iter()
            .find(|m| m.leader)
            .map(|m| m.hostname.clone()),
        revision: cluster.revision,
        warnings: warnings(info.warnings, &managers),
        managers,
        nodes: cluster.nodes,
        nodes_ready: cluster.nodes_ready,
        services: cluster.services,
        tasks_running: cluster.tasks_running,
        tasks_wanted: cluster.tasks_wanted,
    };
    match args.format.format {
        Format::Json => output::json(&status),
        Format::Table => print(&status),
    }
}

/// What the user should know beside the figures.
fn warnings(mut warnings: Vec<String>, managers: &[Manager]) -> Vec<String> {
    let voters = managers.iter().filter(|m| m.voter).count();
    let reachable = managers.iter().filter(|m| m.voter && m.reachable).count();
    if voters == 2 {
        warnings.push(
            "with two managers the loss of either stops all changes; add a third with `clusterctl join-token manager`"
                .into(),
        );
    }
    for manager in managers.iter().filter(|m| !m.reachable) {
        warnings.push(format!(
            "manager {} ({}) can't be reached",
            manager.hostname, manager.addr
        ));
    }
    let quorum = voters / 2 + 1;
    if voters > 2 && reachable == quorum {
        warnings.push("the loss of one more manager stops all changes".into());
    }
    warnings
}

fn print(status: &Status) -> Result<()> {
    output::line(format!("Cluster:    {}", status.cluster))?;
    output::line(format!(
        "This node:  {} ({}), {} at {}, version {}",
        status.hostname,
        short(&status.node),
        status.role,
        status.addr,
        status.version
    ))?;
    output::line(format!(
        "Leader:     {}",
        status.leader.as_deref().unwrap_or("none")
    ))?;
    output::line(format!("Revision:   {}", status.revision))?;
    output::line(format!(
        "Nodes:      {} of {} ready",
        status.nodes_ready, status.nodes
    ))?;
    output::line(format!("Services:   {}", status.services))?;
    output::line(format!(
        "Tasks:      {} of {} running",
        status.tasks_running, status.tasks_wanted
    ))?;
    output::line("")?;
    output::list(
        Format::Table,
        &status.managers,
        &["MANAGER", "ID", "ADDRESS", "STATE", "VOTES", "BEHIND"],
        |m| {
            let state = match (m.leader, m.reachable) {
                (true, _) => "leader",
                (false, true) => "reachable",
                (false, false) => "unreachable",
            };
            let votes = if m.voter { "yes" } else { "not yet" };
            vec![
                m.hostname.clone(),
                short(&m.id),
                m.addr.clone(),
                state.into(),
                votes.into(),
                m.lag.to_string(),
            ]
        },
    )?;
    for warning in &status.warnings {
        output::line(format!("\nWarning: {warning}"))?;
    }
    Ok(())
}
