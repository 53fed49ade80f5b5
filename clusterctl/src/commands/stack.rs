//! `clusterctl stack ...`

use super::rows::{StackRow, all};
use super::{Each, deploy, service, tasks, wait};
use crate::client::Client;
use crate::output::{self, FormatArg};
use anyhow::{Result, bail};
use api::proto::{ListServicesRequest, ListStacksRequest, ListTasksRequest, RemoveStackRequest};
use std::io::Write;

/// Stacks: deploy, list, tasks, services, remove
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Deploy(deploy::Args),
    /// List the stacks
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        format: FormatArg,
    },
    /// List a stack's tasks
    #[command(after_help = "Example:\n  clusterctl stack ps shop")]
    Ps {
        #[command(flatten)]
        listing: tasks::Listing,
        /// The stack
        #[arg(value_name = "STACK")]
        stack: String,
    },
    /// List a stack's services
    Services {
        #[command(flatten)]
        format: FormatArg,
        /// The stack
        #[arg(value_name = "STACK")]
        stack: String,
    },
    /// Remove stacks: their services, networks, secrets and configs; volumes stay
    #[command(visible_aliases = ["remove", "down"])]
    Rm {
        /// Don't wait until all is gone
        #[arg(short, long)]
        detach: bool,
        /// The stacks
        #[arg(required = true, value_name = "STACK")]
        stacks: Vec<String>,
    },
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Deploy(args) => deploy::run(client, args).await,
        Command::Ls { format } => {
            let reply = client
                .control()
                .list_stacks(ListStacksRequest {})
                .await?
                .into_inner();
            let rows: Vec<StackRow> = all(reply.stacks)?;
            output::list(
                format.format,
                &rows,
                &["NAME", "SERVICES", "NETWORKS"],
                |row| {
                    vec![
                        row.stack.name.clone(),
                        row.services.to_string(),
                        row.networks.to_string(),
                    ]
                },
            )
        }
        Command::Ps { listing, stack } => {
            check_there(client, &stack).await?;
            let request = ListTasksRequest {
                stack: Some(stack),
                ..ListTasksRequest::default()
            };
            listing.show(client, vec![request]).await
        }
        Command::Services { format, stack } => {
            check_there(client, &stack).await?;
            let filter = ListServicesRequest {
                stack: Some(stack),
                ..ListServicesRequest::default()
            };
            service::ls(client, filter, format.format, false).await
        }
        Command::Rm { detach, stacks } => {
            let (mut each, mut removed, mut tasks) = (Each::default(), Vec::new(), Vec::new());
            // All are told to stop before one of them is waited for.
            for stack in stacks {
                let request = RemoveStackRequest {
                    stack: stack.clone(),
                };
                match client.control().remove_stack(request).await {
                    Ok(reply) => {
                        let reply = reply.into_inner();
                        for name in &reply.removed {
                            // With stderr closed there is nobody to tell.
                            drop(writeln!(std::io::stderr().lock(), "removing {name}"));
                        }
                        tasks.extend(reply.tasks);
                        removed.push(stack);
                    }
                    Err(refused) => each.note(Err(refused.into())),
                }
            }
            let waited = match detach {
                true => Ok(()),
                false => wait::gone(client, tasks, &removed).await,
            };
            each.note(waited.and_then(|()| output::lines(&removed)));
            each.end()
        }
    }
}

async fn check_there(client: &Client, stack: &str) -> Result<()> {
    let reply = client
        .control()
        .list_stacks(ListStacksRequest {})
        .await?
        .into_inner();
    let names: Vec<&str> = reply
        .stacks
        .iter()
        .filter_map(|row| row.stack.as_ref())
        .map(|s| s.name.as_str())
        .collect();
    match names.contains(&stack) {
        true => Ok(()),
        false if names.is_empty() => {
            bail!("there is no stack {stack:?}, and no other; deploy one with `clusterctl deploy`")
        }
        false => bail!(
            "there is no stack {stack:?}; there is: {}",
            names.join(", ")
        ),
    }
}
