//! `clusterctl network ...`

use super::Each;
use super::rows::{NetworkRow, all};
use crate::client::Client;
use crate::names;
use crate::output::{self, Format, FormatArg, JsonArg, short};
use anyhow::Result;
use api::model::{Labels, NetworkSpec};
use api::proto::{CreateNetworkRequest, ListNetworksRequest, RemoveNetworkRequest};
use ipnet::Ipv4Net;

/// Overlay networks: list, create, inspect, remove
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the networks
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        format: FormatArg,
    },
    /// Make a network that spans all nodes
    #[command(
        after_help = "Examples:\n  clusterctl network create -d overlay demo\n  clusterctl network create --subnet \
                            10.7.0.0/22 --internal back"
    )]
    Create(Create),
    /// Show all that is known of networks, as JSON
    Inspect {
        #[command(flatten)]
        json: JsonArg,
        /// Names, ids or beginnings of ids
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
    /// Remove networks that nothing uses
    #[command(visible_alias = "remove")]
    Rm {
        /// Names, ids or beginnings of ids
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Only overlay is there
    #[arg(short, long, default_value = "overlay", value_parser = ["overlay"])]
    driver: String,
    /// Its addresses; chosen from the cluster's pool if not given
    #[arg(long, value_name = "CIDR")]
    subnet: Option<Ipv4Net>,
    /// No way out to the world
    #[arg(long)]
    internal: bool,
    /// Changes nothing, every network can be joined; known so that Swarm's commands work
    #[arg(long)]
    attachable: bool,
    /// A free label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Ls { format } => ls(client, format.format).await,
        Command::Create(create) => run_create(client, create).await,
        Command::Inspect { networks, json: _ } => output::json(&fetch(client, networks).await?),
        Command::Rm { networks } => {
            let mut each = Each::default();
            for network in networks {
                let request = RemoveNetworkRequest {
                    network: network.clone(),
                };
                let removed = client.control().remove_network(request).await;
                each.note(
                    removed
                        .map_err(Into::into)
                        .and_then(|_| output::line(network)),
                );
            }
            each.end()
        }
    }
}

async fn fetch(client: &Client, networks: Vec<String>) -> Result<Vec<NetworkRow>> {
    all(client
        .control()
        .list_networks(ListNetworksRequest { networks })
        .await?
        .into_inner()
        .networks)
}

async fn ls(client: &Client, format: Format) -> Result<()> {
    let mut rows = fetch(client, vec![]).await?;
    rows.sort_by(|a, b| a.network.spec.name.cmp(&b.network.spec.name));
    let header = [
        "ID",
        "NAME",
        "DRIVER",
        "SUBNET",
        "VNI",
        "ADDRESSES",
        "SERVICES",
    ];
    output::list(format, &rows, &header, |row| {
        let network = &row.network;
        vec![
            short(network.id),
            network.spec.name.clone(),
            "overlay".into(),
            network.subnet.to_string(),
            network.vni.to_string(),
            row.addresses.to_string(),
            output::join(&row.services),
        ]
    })
}

async fn run_create(client: &Client, create: Create) -> Result<()> {
    let labels: Labels = create
        .label
        .iter()
        .map(|text| names::label(text))
        .collect::<Result<_>>()?;
    let spec = NetworkSpec {
        name: create.name,
        stack: None,
        labels,
        subnet: create.subnet.map(|net| net.trunc()),
        internal: create.internal,
        attachable: create.attachable,
    };
    let made = client
        .control()
        .create_network(CreateNetworkRequest {
            spec: Some((&spec).into()),
        })
        .await?
        .into_inner();
    output::line(api::convert::network_id(&made.id)?)
}
