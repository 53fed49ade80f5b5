//! `clusterctl backup schedule`

use super::ls;
use crate::client::Client;
use crate::output::{Format, FormatArg};
use crate::passphrase::PassphraseArgs;
use crate::{output, time};
use anyhow::{Result, bail};
use api::proto::{BackupPlan, ListBackupsRequest, SetBackupScheduleRequest};
use serde::Serialize;

/// Have backups made by themselves, on the manager that leads
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The passphrase itself is not kept: the managers keep the key that it makes. A backup is made at once, and \
                  then after every interval; it is restored into a scratch store before it counts. Each manager keeps its \
                  newest ones and removes only files that it made by the schedule. `clusterctl status` says when one could \
                  not be made.\n\nWithout options it shows the schedule.\n\nExamples:\n  clusterctl backup schedule --every \
                  6h --keep 14 --passphrase-file /root/pass\n  clusterctl backup schedule\n  clusterctl backup schedule --off"
)]
pub struct Args {
    /// How long from one backup to the next: 30m, 6h, 24h
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// How many of its own a manager keeps [default: 14]
    #[arg(long, value_name = "COUNT", requires = "every")]
    keep: Option<u32>,
    /// The folder, on each manager [default: /var/lib/clusterd/backups]
    #[arg(long, value_name = "DIR", requires = "every")]
    dir: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Make no more; the files stay
    #[arg(long, conflicts_with_all = ["every", "keep", "dir", "passphrase_file"])]
    off: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// How many a manager keeps where nothing is said.
const KEEP: u32 = 14;
/// Where they go where nothing is said.
const DIR: &str = "/var/lib/clusterd/backups";

/// The schedule, for programs.
#[derive(Serialize)]
struct Shown {
    every_ms: u64,
    keep: u32,
    dir: String,
    next_at: String,
}

async fn show(client: &Client, format: Format) -> Result<()> {
    let request = ListBackupsRequest {};
    let plan = client.control().list_backups(request).await?.into_inner();
    let shown = plan.plan.map(|plan| Shown {
        every_ms: plan.every_ms,
        keep: plan.keep,
        dir: plan.dir,
        next_at: time::show(plan.next_at),
    });
    match (format, shown) {
        (Format::Json, shown) => output::json(&shown),
        (Format::Table, None) => output::line(
            "No backups are made by themselves; `clusterctl backup schedule --every 6h` has them made.",
        ),
        (Format::Table, Some(plan)) => output::line(format!(
            "Every:   {}\nKeep:    {}\nFolder:  {}\nNext:    {}",
            time::shown_length(plan.every_ms),
            plan.keep,
            plan.dir,
            plan.next_at
        )),
    }
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    if args.every.is_none() && !args.off {
        if args.passphrase.passphrase_file.is_some() {
            bail!("a passphrase is for a schedule: say how often, such as --every 6h");
        }
        return show(client, args.format.format).await;
    }
    let Some(every) = args.every.filter(|_| !args.off) else {
        let request = SetBackupScheduleRequest::default();
        client.control().set_backup_schedule(request).await?;
        return output::line("No more backups are made by themselves. The files stay.");
    };
    let plan = BackupPlan {
        every_ms: time::length_ms(&every)?,
        keep: args.keep.unwrap_or(KEEP),
        dir: args.dir.unwrap_or_else(|| DIR.into()),
        next_at: 0,
    };
    let request = SetBackupScheduleRequest {
        plan: Some(plan),
        passphrase: args.passphrase.read(true)?.to_string(),
    };
    let made = client
        .control()
        .set_backup_schedule(request)
        .await?
        .into_inner();
    let Some(plan) = made.plan else {
        bail!("the schedule was changed meanwhile; look with `clusterctl backup ls`");
    };
    output::line(format!(
        "A backup is made every {} into {} of the manager that leads; each manager keeps its newest {}. `clusterctl backup \
         ls` shows them.",
        every, plan.dir, plan.keep
    ))
}

/// `clusterctl backup ls`
pub async fn list(client: &Client, format: FormatArg) -> Result<()> {
    let backups = client
        .control()
        .list_backups(ListBackupsRequest {})
        .await?
        .into_inner();
    ls::print(&backups, format.format)
}
