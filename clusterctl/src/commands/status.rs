//! `clusterctl status`

mod shortage;
mod shown;
pub mod trouble;

use crate::client::Client;
use crate::output::{self, Format, FormatArg, short};
use crate::time::ago;
use anyhow::Result;
use api::proto::{ClusterStatus, DaemonInfo, GetInfoRequest, GetStatusRequest};
use shown::{Manager, Shown};
use tonic::Code;

/// Show the cluster's health: quorum, managers and their disks, who leads, nodes, tasks
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clusterctl status\n  clusterctl status --stale   # what this manager knows, without a \
                  majority\n  clusterctl status --format json | jq .quorum\n\nWithout a leader it shows what the local \
                  manager knows, says what to do, and its exit code is 1."
)]
pub struct Args {
    #[command(flatten)]
    format: FormatArg,
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
    if info.locked {
        this_node(&info, ", locked")?;
        anyhow::bail!(
            "this manager is locked: run `clusterctl unlock` on it; containers run on, and what is started anew here waits"
        );
    }
    let answered = client.control().get_status(GetStatusRequest {}).await;
    match answered {
        Ok(status) => show(info, status.into_inner(), args.format.format),
        Err(status) => {
            // A worker knows nothing of the others by itself.
            let is_lost = status.code() == Code::Unavailable && info.role == "manager";
            let known = match is_lost && !client.is_stale() {
                true => {
                    let mut control = client.stale().control();
                    control.get_status(GetStatusRequest {}).await.ok()
                }
                false => None,
            };
            match known {
                Some(known) => {
                    show(info, known.into_inner(), args.format.format)?;
                    output::line("")?;
                }
                None if matches!(args.format.format, Format::Table) => this_node(&info, "")?,
                None => {}
            }
            Err(status.into())
        }
    }
}

/// What is known without the others.
fn this_node(info: &DaemonInfo, state: &str) -> Result<()> {
    output::line(format!(
        "This node:  {} ({}), {} at {}{state}, version {}",
        info.hostname,
        api::convert::node_id(&info.node_id)?,
        info.role,
        info.advertise_addr,
        info.version
    ))
}

fn show(info: DaemonInfo, cluster: ClusterStatus, format: Format) -> Result<()> {
    let shown = Shown::new(info, cluster)?;
    match format {
        Format::Json => output::json(&shown),
        Format::Table => print(&shown),
    }
}

fn print(status: &Shown) -> Result<()> {
    let known = if status.stale { ", as last known" } else { "" };
    let lines = [
        ("Cluster", status.cluster.clone()),
        (
            "This node",
            format!(
                "{} ({}), {} at {}, version {}",
                status.hostname,
                short(&status.node),
                status.role,
                status.addr,
                status.version
            ),
        ),
        (
            "Leader",
            status.leader.clone().unwrap_or_else(|| "none".into()),
        ),
        ("Quorum", status.quorum.to_string()),
        ("Revision", status.revision.to_string()),
        (
            "Nodes",
            format!("{} of {} ready{known}", status.nodes_ready, status.nodes),
        ),
        ("Services", status.services.to_string()),
        (
            "Tasks",
            format!(
                "{} of {} running{known}",
                status.tasks_running, status.tasks_wanted
            ),
        ),
        (
            "Backup",
            status
                .last_backup
                .clone()
                .unwrap_or_else(|| "none; see `clusterctl backup`".into()),
        ),
    ];
    if status.stale {
        output::line(format!(
            "As {} has it, which may be old:\n",
            status.answered_by
        ))?;
    }
    for (name, value) in lines {
        output::line(format!("{:<12}{value}", format!("{name}:")))?;
    }
    output::line("")?;
    let now = jiff::Timestamp::now();
    let header = [
        "MANAGER",
        "ID",
        "ADDRESS",
        "STATE",
        "VOTES",
        "BEHIND",
        "DISK P50/P99",
        "SNAPSHOT",
    ];
    output::list(Format::Table, &status.managers, &header, |m| row(m, now))?;
    for warning in &status.warnings {
        output::line(format!("\nWarning: {warning}"))?;
    }
    Ok(())
}

fn row(m: &Manager, now: jiff::Timestamp) -> Vec<String> {
    // One that led, and is gone, leads no more.
    let state = match (m.leader, m.reachable) {
        (_, false) => "unreachable",
        (true, true) => "leader",
        (false, true) => "reachable",
    };
    let (disk, snapshot) = match &m.health {
        None => ("unknown".into(), "unknown".into()),
        Some(health) => (
            match health.syncs {
                0 => "idle".into(),
                _ => format!("{}/{}", ms(health.sync_p50_us), ms(health.sync_p99_us)),
            },
            match health.snapshot {
                0 => "none yet".into(),
                index => format!("{index}, {}", ago(health.snapshot_at, now)),
            },
        ),
    };
    vec![
        m.hostname.clone(),
        short(&m.id),
        m.addr.clone(),
        state.into(),
        if m.voter { "yes" } else { "not yet" }.into(),
        if m.reachable {
            m.lag.to_string()
        } else {
            "unknown".into()
        },
        disk,
        snapshot,
    ]
}

/// Microseconds, as people read a disk's times.
fn ms(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{} ms", us / 1_000),
    }
}
