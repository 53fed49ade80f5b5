//! `clusterctl join-token`

use crate::client::Client;
use crate::output::{self, Format, FormatArg};
use anyhow::Result;
use api::proto::GetJoinTokensRequest;
use serde::Serialize;

/// Print the command that joins another machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clusterctl join-token worker\n  clusterctl join-token -q manager\n  clusterctl \
                        join-token --rotate worker   # tokens given out before no longer work\n  clusterctl join-token \
                        worker --format json | jq -r .command"
)]
pub struct Args {
    /// What the machine will be
    #[arg(value_enum)]
    role: RoleArg,
    /// Only the token
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Make a new token first; the old one no longer joins
    #[arg(long)]
    rotate: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// As JSON prints it.
#[derive(Serialize)]
struct Shown<'a> {
    role: &'a str,
    token: &'a str,
    /// A manager that it can be given to.
    addr: &'a str,
    command: String,
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
    let addr = &tokens.addr;
    let command = format!("clusterctl join --token {token} {addr}");
    if args.format.format == Format::Json {
        let shown = Shown {
            role,
            token: &token,
            addr,
            command,
        };
        return output::json(&shown);
    }
    output::line(format!(
        "To add a {role}, run on another machine:\n\n    {command}\n"
    ))
}
