//! `clusterctl secret ...`

use super::blob;
use crate::client::Client;
use crate::output;
use anyhow::Result;
use api::model::BlobKind;

/// Secrets: create, list, inspect, update, remove
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a secret, which only the containers that use it can read
    #[command(
        after_help = "Examples:\n  clusterctl secret create password ./password.txt\n  openssl rand -hex 20 | clusterctl secret create token -"
    )]
    Create(blob::Create),
    /// List the secrets
    #[command(visible_alias = "list")]
    Ls(blob::Ls),
    /// Show all that is known of secrets but their content, as JSON
    Inspect(blob::Inspect),
    /// Change a secret's labels
    #[command(after_help = "Example:\n  clusterctl secret update --label-add tier=db password")]
    Update(blob::Update),
    /// Remove secrets that nothing uses
    #[command(visible_alias = "remove")]
    Rm(blob::Names),
}

const KIND: BlobKind = BlobKind::Secret;

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Create(create) => blob::create(client, KIND, create).await,
        Command::Ls(args) => blob::ls(client, KIND, args).await,
        Command::Inspect(args) => output::json(&blob::fetch(client, KIND, args.names.names).await?),
        Command::Update(update) => blob::update(client, KIND, update).await,
        Command::Rm(args) => blob::rm(client, KIND, args.names).await,
    }
}
