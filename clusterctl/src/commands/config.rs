//! `clusterctl config ...`

use super::blob;
use crate::client::Client;
use crate::output;
use anyhow::Result;
use api::model::BlobKind;
use api::proto::ReadConfigRequest;

/// Configs: create, list, inspect, update, remove
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a config, a file for containers to read
    #[command(
        after_help = "Examples:\n  clusterctl config create site.conf ./site.conf\n  envsubst < site.tmpl | clusterctl config create site.conf -"
    )]
    Create(blob::Create),
    /// List the configs
    #[command(visible_alias = "list")]
    Ls(blob::Ls),
    /// Show all that is known of configs, their content too, as JSON
    Inspect(blob::Inspect),
    /// Change a config's labels
    #[command(after_help = "Example:\n  clusterctl config update --label-add tier=db site.conf")]
    Update(blob::Update),
    /// Remove configs that nothing uses
    #[command(visible_alias = "remove")]
    Rm(blob::Names),
}

const KIND: BlobKind = BlobKind::Config;

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Create(create) => blob::create(client, KIND, create).await,
        Command::Ls(args) => blob::ls(client, KIND, args).await,
        Command::Inspect(args) => inspect(client, args.names.names).await,
        Command::Update(update) => blob::update(client, KIND, update).await,
        Command::Rm(args) => blob::rm(client, KIND, args.names).await,
    }
}

async fn inspect(client: &Client, names: Vec<String>) -> Result<()> {
    let mut rows = blob::fetch(client, KIND, names).await?;
    for row in &mut rows {
        let request = ReadConfigRequest {
            name: row.id.to_string(),
        };
        let data = client.control().read_config(request).await?.into_inner();
        row.data = Some(String::from_utf8_lossy(&data.value).into_owned());
    }
    output::json(&rows)
}
