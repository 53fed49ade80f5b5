//! `clusterctl service ...`

use super::rows::{ServiceRow, all};
use super::{Each, logs, tasks, wait};
use crate::client::Client;
use crate::output::{self, Format, FormatArg, JsonArg, short};
use anyhow::{Context, Result};
use api::proto::{
    ListServicesRequest, ListTasksRequest, RemoveServiceRequest, ScaleServiceRequest,
};
use std::time::Duration;

/// Services: list, inspect, tasks, logs, scale, remove
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the services
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        format: FormatArg,
        /// Only ids
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show all that is known of services, as JSON
    Inspect {
        #[command(flatten)]
        json: JsonArg,
        /// Names, ids or beginnings of ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// List the tasks of services, and why one does not run
    #[command(
        after_help = "Examples:\n  clusterctl service ps shop_web\n  clusterctl service ps -f desired-state=running \
                      shop_web shop_redis"
    )]
    Ps {
        #[command(flatten)]
        listing: tasks::Listing,
        /// Names, ids or beginnings of ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    Logs(logs::Args),
    /// Change how many tasks services have
    #[command(after_help = "Example:\n  clusterctl service scale shop_web=3 shop_redis=1")]
    Scale {
        /// Don't wait until all tasks run, and those that are too many have ended
        #[arg(short, long)]
        detach: bool,
        /// How long to wait for that
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        timeout: u64,
        /// Services and how many tasks each is to have
        #[arg(required = true, value_name = "SERVICE=REPLICAS", value_parser = parse_scale)]
        services: Vec<(String, u32)>,
    },
    /// Remove services and their tasks
    #[command(visible_alias = "remove")]
    Rm {
        /// Don't wait until their tasks are gone
        #[arg(short, long)]
        detach: bool,
        /// Names, ids or beginnings of ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
}

fn parse_scale(text: &str) -> Result<(String, u32)> {
    let (name, count) = text
        .rsplit_once('=')
        .filter(|(name, _)| !name.is_empty())
        .context("write it SERVICE=REPLICAS, such as shop_web=3")?;
    let count = count
        .parse()
        .with_context(|| format!("{count:?} is no number of tasks"))?;
    Ok((name.to_owned(), count))
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Ls { format, quiet } => {
            ls(client, ListServicesRequest::default(), format.format, quiet).await
        }
        Command::Inspect { services, json: _ } => output::json(
            &fetch(
                client,
                ListServicesRequest {
                    services,
                    stack: None,
                },
            )
            .await?,
        ),
        Command::Ps { listing, services } => {
            let of = |service| ListTasksRequest {
                service: Some(service),
                ..ListTasksRequest::default()
            };
            let requests = services.into_iter().map(of).collect();
            listing.show(client, requests).await
        }
        Command::Logs(args) => logs::run(client, args).await,
        Command::Scale {
            detach,
            timeout,
            services,
        } => {
            let names: Vec<String> = services.iter().map(|(name, _)| name.clone()).collect();
            // All of them are there, or none is scaled.
            fetch(
                client,
                ListServicesRequest {
                    services: names.clone(),
                    stack: None,
                },
            )
            .await?;
            for (service, replicas) in services {
                client
                    .control()
                    .scale_service(ScaleServiceRequest {
                        service: service.clone(),
                        replicas,
                    })
                    .await?;
                output::line(format!("{service} scaled to {replicas}"))?;
            }
            if !detach {
                let filter = ListServicesRequest {
                    services: names,
                    stack: None,
                };
                let wait = wait::Wait {
                    bound: Duration::from_secs(timeout),
                    steady: Duration::ZERO,
                    exact: true,
                    cure: "another `clusterctl service scale` takes it back",
                };
                wait::services_running(client, &filter, wait).await?;
            }
            Ok(())
        }
        Command::Rm { detach, services } => {
            let (mut each, mut removed, mut tasks) = (Each::default(), Vec::new(), Vec::new());
            // All are told to stop before one of them is waited for.
            for service in services {
                let request = RemoveServiceRequest {
                    service: service.clone(),
                };
                match client.control().remove_service(request).await {
                    Ok(reply) => {
                        tasks.extend(reply.into_inner().tasks);
                        removed.push(service);
                    }
                    Err(refused) => each.note(Err(refused.into())),
                }
            }
            let waited = match detach {
                true => Ok(()),
                false => wait::gone(client, tasks, &[]).await,
            };
            each.note(waited.and_then(|()| output::lines(&removed)));
            each.end()
        }
    }
}

async fn fetch(client: &Client, filter: ListServicesRequest) -> Result<Vec<ServiceRow>> {
    all(client
        .control()
        .list_services(filter)
        .await?
        .into_inner()
        .services)
}

/// Lists services.
///
/// # Errors
/// What clusterd refused.
pub async fn ls(
    client: &Client,
    filter: ListServicesRequest,
    format: Format,
    quiet: bool,
) -> Result<()> {
    let mut rows = fetch(client, filter).await?;
    rows.sort_by(|a, b| a.service.spec.name.cmp(&b.service.spec.name));
    if quiet {
        return rows.iter().try_for_each(|row| output::line(row.service.id));
    }
    output::list(
        format,
        &rows,
        &[
            "ID", "NAME", "MODE", "REPLICAS", "IMAGE", "NETWORKS", "PORTS",
        ],
        |row| {
            vec![
                short(row.service.id),
                row.service.spec.name.clone(),
                row.mode().into(),
                format!("{}/{}", row.running, row.wanted),
                row.service.spec.template.container.image.clone(),
                output::join(&row.networks),
                row.ports(),
            ]
        },
    )
}

#[cfg(test)]
mod tests {
    use super::parse_scale;

    #[test]
    fn scale_takes_a_name_and_a_number() {
        assert_eq!(parse_scale("shop_web=3").unwrap(), ("shop_web".into(), 3));
        for wrong in [
            "shop_web",
            "=3",
            "shop_web=",
            "shop_web=-1",
            "shop_web=many",
        ] {
            assert!(parse_scale(wrong).is_err(), "{wrong}");
        }
    }
}
