//! `clusterctl join`

use crate::client::Client;
use crate::output;
use crate::progress::Progress;
use anyhow::{Context, Result};
use api::model::JoinToken;
use api::proto::JoinRequest;

/// Make this machine part of a cluster
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The token says whether it joins as a worker or as a manager; `clusterctl join-token` on a \
                        manager prints the whole command.\n\nExample:\n  clusterctl join --token CLSTR-1-... \
                        192.168.205.10"
)]
pub struct Args {
    /// The join token
    #[arg(
        long,
        value_name = "TOKEN",
        env = "CLUSTERCTL_JOIN_TOKEN",
        hide_env_values = true
    )]
    token: String,
    /// The address other nodes reach this machine at; needed when it has several
    #[arg(long, value_name = "IP")]
    advertise_addr: Option<String>,
    /// A manager: HOST or HOST:PORT (2377 if none is given)
    #[arg(value_name = "HOST")]
    manager: String,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    let token: JoinToken = args.token.parse()?;
    let request = JoinRequest {
        token: token.to_string(),
        manager: args.manager,
        advertise_addr: args.advertise_addr.unwrap_or_default(),
    };
    let mut progress = Progress::start();
    let mut stream = client.daemon().join(request).await?.into_inner();
    while let Some(step) = stream.message().await? {
        if let Some(done) = step.done {
            progress.finish();
            let node = api::convert::node_id(&done.node_id)?;
            if !step.message.is_empty() {
                progress.note(&step.message);
            }
            return output::line(format!(
                "This machine joined the cluster as a {} (node {node}).",
                done.role
            ));
        }
        progress.say(&step.message);
    }
    Err(anyhow::anyhow!(
        "clusterd ended the call before the join was done"
    ))
    .context("can't join")
}
