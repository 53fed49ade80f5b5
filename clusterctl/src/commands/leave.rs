//! `clusterctl leave`

use crate::client::Client;
use crate::output;
use crate::progress::Progress;
use anyhow::{Result, bail};
use api::proto::LeaveRequest;

/// Take this machine out of its cluster: its containers, networks and identity go
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Volumes and images stay.\n\nExamples:\n  clusterctl leave\n  clusterctl leave --force   # the last \
                        manager: the cluster's state is lost"
)]
pub struct Args {
    /// Leave even if the cluster is lost by it, or can't be told
    #[arg(short, long)]
    force: bool,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    let mut progress = Progress::start();
    progress.say("leaving the cluster");
    let left = client
        .daemon()
        .leave(LeaveRequest { force: args.force })
        .await?
        .into_inner();
    progress.finish();
    if !left.advice.is_empty() {
        progress.note(&left.advice);
    }
    if left.problems.is_empty() {
        return output::line("This machine has left its cluster.");
    }
    bail!(
        "this machine has left its cluster, but this is still there: {}",
        left.problems.join("; ")
    )
}
