//! `clusterctl cluster ...`

use crate::client::Client;
use crate::output::{self, Format, FormatArg};
use anyhow::{Context, Result, bail};
use api::model::{ClusterSpec, Meta};
use api::proto::{ClusterInfo, InspectClusterRequest, UpdateClusterRequest};
use serde::Serialize;

/// The cluster's settings: show, change
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the cluster's settings
    #[command(
        after_help = "Examples:\n  clusterctl cluster inspect\n  clusterctl cluster inspect --format json"
    )]
    Inspect {
        #[command(flatten)]
        format: FormatArg,
    },
    /// Change the cluster's settings; every node takes them at once
    #[command(
        after_help = "Examples:\n  clusterctl cluster update --heartbeat 1s --dead-after 3s\n  clusterctl cluster update \
                            --task-history 5\n  clusterctl cluster update --autolock=true   # prints the unlock key"
    )]
    Update {
        #[command(flatten)]
        pace: PaceArgs,
        /// Whether `exec` may be called on a worker
        #[arg(long, value_name = "true|false")]
        worker_exec: Option<bool>,
        /// Whether managers are locked when they start, until `clusterctl unlock` is given the unlock key
        #[arg(long, value_name = "true|false")]
        autolock: Option<bool>,
    },
}

/// Heartbeats and history, at `init` and later.
#[derive(Debug, Clone, clap::Args)]
pub struct PaceArgs {
    /// How often each node says that it is there [a new cluster's: 1s]
    #[arg(long, value_name = "TIME", value_parser = crate::time::millis)]
    pub heartbeat: Option<u32>,
    /// A node not heard of for this long is down, and its tasks are replaced [a new cluster's: 3s]
    #[arg(long, value_name = "TIME", value_parser = crate::time::millis)]
    pub dead_after: Option<u32>,
    /// Ended tasks kept of each slot; more while restarts are counted by them [a new cluster's: 5]
    #[arg(long, value_name = "COUNT")]
    pub task_history: Option<u32>,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    meta: Meta,
    spec: ClusterSpec,
    autolock: bool,
}

impl TryFrom<ClusterInfo> for Shown {
    type Error = anyhow::Error;

    fn try_from(info: ClusterInfo) -> Result<Self> {
        let missing = "clusterd sent a cluster without its settings";
        Ok(Self {
            id: api::convert::cluster_id(&info.id)?.to_string(),
            meta: info.meta.context(missing)?.into(),
            spec: info.spec.context(missing)?.try_into()?,
            autolock: info.autolock,
        })
    }
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Inspect { format } => {
            let info = client
                .control()
                .inspect_cluster(InspectClusterRequest {})
                .await?
                .into_inner();
            let shown = Shown::try_from(info)?;
            match format.format {
                Format::Json => output::json(&shown),
                Format::Table => print(&shown),
            }
        }
        Command::Update {
            pace,
            worker_exec,
            autolock,
        } => {
            let request = UpdateClusterRequest {
                heartbeat_ms: pace.heartbeat,
                dead_after_ms: pace.dead_after,
                task_history: pace.task_history,
                worker_exec,
                autolock,
            };
            if request == UpdateClusterRequest::default() {
                bail!(
                    "nothing to change: give --heartbeat, --dead-after, --task-history, --worker-exec or --autolock"
                );
            }
            let reply = client.control().update_cluster(request).await?;
            output::line("Cluster updated.")?;
            match reply.into_inner().unlock_key.as_str() {
                "" => Ok(()),
                key => output::line(format!("\n{}", super::unlock_key::advice(key))),
            }
        }
    }
}

fn print(shown: &Shown) -> Result<()> {
    let spec = &shown.spec;
    for (name, value) in [
        ("Cluster", shown.id.clone()),
        ("Heartbeat", format!("every {} ms", spec.heartbeat_ms)),
        ("Node down", format!("after {} ms", spec.dead_after_ms)),
        ("Task history", format!("{} per slot", spec.task_history)),
        (
            "Address pool",
            format!("{} by /{}", spec.address_pool, spec.subnet_prefix),
        ),
        ("Worker exec", spec.worker_exec.to_string()),
        ("Autolock", shown.autolock.to_string()),
    ] {
        output::line(format!("{:<14}{value}", format!("{name}:")))?;
    }
    Ok(())
}
