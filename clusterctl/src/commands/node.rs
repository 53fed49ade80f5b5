//! `clusterctl node ...`

mod address;

use super::Each;
use super::filter::Filters;
use super::role;
use super::rows::{NodeRow, all};
use super::status::trouble::clock_off;
use super::tasks;
use crate::client::Client;
use crate::names;
use crate::output::{self, Format, FormatArg, JsonArg, short};
use anyhow::{Result, bail};
use api::model::{Availability, NodeState, Role};
use api::proto::{
    self, GetInfoRequest, ListNodesRequest, ListTasksRequest, RemoveNodeRequest, UpdateNodeRequest,
};
use std::collections::BTreeMap;

/// Nodes: list, inspect, update, promote, demote, remove
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the nodes
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  clusterctl node ls --format json"
    )]
    Ls {
        #[command(flatten)]
        format: FormatArg,
        /// Only ids
        #[arg(short, long)]
        quiet: bool,
        /// Only those: id, name, role, availability, state, node.label, engine.label
        #[arg(short, long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
    },
    /// Show all that is known of nodes, as JSON
    #[command(after_help = "Example:\n  clusterctl node inspect node1")]
    Inspect {
        #[command(flatten)]
        json: JsonArg,
        /// Hostnames, ids or beginnings of ids
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// List the tasks of nodes; of this one when none is named
    #[command(
        after_help = "Examples:\n  clusterctl node ps\n  clusterctl node ps -f desired-state=running node1 node2"
    )]
    Ps {
        /// Hostnames, ids or beginnings of ids; `self` is this node
        #[arg(value_name = "NODE", default_value = "self")]
        nodes: Vec<String>,
        #[command(flatten)]
        listing: tasks::Listing,
    },
    /// Change a node's availability, labels or address
    #[command(
        after_help = "A machine whose address changes is followed by itself; --addr is for one that has several, or for \
                      when nobody finds it. Its containers run on.\n\nExamples:\n  clusterctl node update --label-add disk=ssd \
                      node2\n  clusterctl node update --availability drain node2\n  clusterctl node update --addr \
                      192.168.205.12 node2\n  clusterctl node update --manager 192.168.205.10 self"
    )]
    Update(Update),
    /// Make workers managers; done once they vote
    #[command(
        after_help = "Nothing on the node restarts.\n\nExample:\n  clusterctl node promote node2 node3"
    )]
    Promote(role::Args),
    /// Make managers workers
    #[command(
        after_help = "Nothing on the node restarts. Refused when the managers that remain could decide nothing.\n\n\
                      Example:\n  clusterctl node demote node3"
    )]
    Demote(role::Args),
    /// Remove a node that has left or is down
    Rm {
        /// Remove it though it is up, or may still run tasks of exclusive services, which then run twice; make sure
        /// that it is off
        #[arg(short, long)]
        force: bool,
        /// Hostnames, ids or beginnings of ids
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Update {
    /// active takes tasks, pause takes no new ones, drain gives its tasks to others
    #[arg(long, value_enum)]
    availability: Option<AvailabilityArg>,
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE")]
    label_add: Vec<String>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Have it reached at this one of its addresses
    #[arg(long, value_name = "IP")]
    addr: Option<String>,
    /// Tell this very node where a manager is, for when it finds none by itself
    #[arg(long, value_name = "HOST[:PORT]")]
    manager: Option<String>,
    /// Hostname, id or beginning of an id; `self` is this node
    #[arg(value_name = "NODE")]
    node: String,
}

impl Update {
    /// Whether it changes where the node is.
    fn is_of_place(&self) -> bool {
        self.addr.is_some() || self.manager.is_some()
    }

    /// Whether it changes what the node is.
    fn is_of_spec(&self) -> bool {
        self.availability.is_some() || !self.label_add.is_empty() || !self.label_rm.is_empty()
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AvailabilityArg {
    Active,
    Pause,
    Drain,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Ls {
            format,
            quiet,
            filter,
        } => ls(client, format.format, quiet, &filter).await,
        Command::Inspect { nodes, json: _ } => {
            let nodes = named(client, nodes).await?;
            output::json(&fetch(client, nodes).await?)
        }
        Command::Ps { nodes, listing } => {
            let of = |node| ListTasksRequest {
                node: Some(node),
                ..ListTasksRequest::default()
            };
            let nodes = named(client, nodes).await?;
            let requests = nodes.into_iter().map(of).collect();
            listing.show(client, requests).await
        }
        Command::Update(mut update) => {
            update.node = named(client, vec![update.node]).await?.remove(0);
            address::update(client, &update).await?;
            if update.is_of_spec() || !update.is_of_place() {
                return run_update(client, update).await;
            }
            output::line(update.node)
        }
        Command::Promote(mut args) => {
            args.nodes = named(client, args.nodes).await?;
            role::run(client, args, Role::Manager).await
        }
        Command::Demote(mut args) => {
            args.nodes = named(client, args.nodes).await?;
            role::run(client, args, Role::Worker).await
        }
        Command::Rm { force, nodes } => {
            let mut each = Each::default();
            for node in named(client, nodes).await? {
                let request = RemoveNodeRequest {
                    node: node.clone(),
                    force,
                };
                let removed = client.control().remove_node(request).await;
                each.note(removed.map_err(Into::into).and_then(|_| output::line(node)));
            }
            each.end()
        }
    }
}

/// The nodes as they were named; `self` is the one that this clusterd is.
pub async fn named(client: &Client, mut nodes: Vec<String>) -> Result<Vec<String>> {
    if nodes.iter().any(|node| node == "self") {
        let info = client
            .daemon()
            .get_info(GetInfoRequest {})
            .await?
            .into_inner();
        if info.node_id.is_empty() {
            bail!("this machine belongs to no cluster, so it is no node");
        }
        let own = api::convert::node_id(&info.node_id)?.to_string();
        for node in nodes.iter_mut().filter(|node| *node == "self") {
            node.clone_from(&own);
        }
    }
    Ok(nodes)
}

async fn fetch(client: &Client, nodes: Vec<String>) -> Result<Vec<NodeRow>> {
    all(client
        .control()
        .list_nodes(ListNodesRequest { nodes })
        .await?
        .into_inner()
        .nodes)
}

const LS_FILTERS: [&str; 8] = [
    "id",
    "name",
    "role",
    "availability",
    "state",
    "node.label",
    "label",
    "engine.label",
];

async fn ls(client: &Client, format: Format, quiet: bool, filter: &[String]) -> Result<()> {
    let filters = Filters::read(filter, &LS_FILTERS)?;
    let mut rows = fetch(client, vec![]).await?;
    rows.retain(|row| filters.take_node(row));
    rows.sort_by(|a, b| {
        (&a.node.description.hostname, a.node.id).cmp(&(&b.node.description.hostname, b.node.id))
    });
    if quiet {
        return rows.iter().try_for_each(|row| output::line(row.node.id));
    }
    let header = [
        "ID",
        "HOSTNAME",
        "STATUS",
        "AVAILABILITY",
        "MANAGER",
        "ADDRESS",
        "TASKS",
        "VERSION",
    ];
    output::list(format, &rows, &header, |row| {
        let node = &row.node;
        vec![
            short(node.id),
            node.description.hostname.clone(),
            state(row),
            availability(node.spec.availability).into(),
            manager(row).into(),
            node.addr.to_string(),
            row.tasks.to_string(),
            node.description.version.clone(),
        ]
    })
}

/// What it is among the managers, or on its way to be.
fn manager(row: &NodeRow) -> &'static str {
    match (row.node.spec.role, row.node.cert.role) {
        (Role::Worker, Role::Worker) => "",
        (Role::Worker, Role::Manager) => "demoting",
        (Role::Manager, _) if row.leader && row.reachable => "leader",
        (Role::Manager, Role::Worker) => "promoting",
        (Role::Manager, Role::Manager) => match (row.voter, row.reachable) {
            (true, true) => "reachable",
            (true, false) => "unreachable",
            (false, _) => "catching up",
        },
    }
}

fn state(row: &NodeRow) -> String {
    let state = match (row.node.status.state, row.suspect) {
        (NodeState::Unknown, _) => "Unknown",
        (NodeState::Ready, true) => "Suspect",
        (NodeState::Ready, false) => "Ready",
        (NodeState::Down, _) => "Down",
    };
    let twin = row
        .twin
        .as_ref()
        .map(|addr| format!("its identity is also at {addr}"));
    let clock = row
        .clock_ahead_ms
        .map(|ahead| format!("its clock is {}", clock_off(ahead)));
    let troubles: Vec<String> = twin.into_iter().chain(clock).collect();
    if troubles.is_empty() {
        return state.into();
    }
    format!("{state} ({})", troubles.join(", "))
}

fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "Active",
        Availability::Pause => "Pause",
        Availability::Drain => "Drain",
    }
}

async fn run_update(client: &Client, update: Update) -> Result<()> {
    let labels_set: BTreeMap<_, _> = update
        .label_add
        .iter()
        .map(|text| names::label(text))
        .collect::<Result<_>>()?;
    if !update.is_of_spec() {
        bail!("nothing to change: give --availability, --label-add, --label-rm or --addr");
    }
    let availability = update.availability.map(|a| match a {
        AvailabilityArg::Active => proto::Availability::Active,
        AvailabilityArg::Pause => proto::Availability::Pause,
        AvailabilityArg::Drain => proto::Availability::Drain,
    });
    let request = UpdateNodeRequest {
        node: update.node.clone(),
        availability: availability.map(i32::from),
        labels_set,
        labels_removed: update.label_rm,
    };
    client.control().update_node(request).await?;
    output::line(update.node)
}
