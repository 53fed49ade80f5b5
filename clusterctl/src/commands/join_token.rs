//! `clusterctl join-token`

use crate::client::Client;
use crate::output;
use anyhow::Result;
use api::proto::GetJoinTokensRequest;

/// Print the command that joins another machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clusterctl join-token worker\n  clusterctl join-token -q manager\n  clusterctl \
                        join-token --rotate worker   # tokens given out before no longer work"
)]
pub struct Args {
    /// What the machine will be
    #[arg(value_enum)]
    role: RoleArg,
    /// Only the token
    #[arg(short, long)]
    quiet: bool,
    /// Make a new token first; the old one no longer joins
    #[arg(long)]
    rotate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RoleArg {
    Worker,
    Manager,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    let request = GetJoinTokensRequest {
        rotate_worker: args.rotate && args.role == RoleArg::Worker,
        rotate_manager: args.rotate && args.role == RoleArg::Manager,
    };
    let tokens = client
        .control()
        .get_join_tokens(request)
        .await?
        .into_inner();
    let (token, role) = match args.role {
        RoleArg::Worker => (tokens.worker, "worker"),
        RoleArg::Manager => (tokens.manager, "manager"),
    };
    if args.quiet {
        return output::line(token);
    }
    output::line(format!(
        "To add a {role}, run on another machine:\n\n    clusterctl join --token {token} {}\n",
        tokens.addr
    ))
}
