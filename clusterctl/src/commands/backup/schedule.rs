//! `clusterctl backup schedule`

use super::ls;
use crate::client::Client;
use crate::output::FormatArg;
use crate::passphrase::PassphraseArgs;
use crate::{output, time};
use anyhow::{Result, bail};
use api::proto::{BackupPlan, ListBackupsRequest, SetBackupScheduleRequest};

/// Have backups made by themselves, on the manager that leads
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The passphrase itself is not kept: the managers keep the key that it makes. A backup is made at once, and \
                  then after every interval; it is restored into a scratch store before it counts. Each manager keeps its \
                  newest ones and removes only files that it made by the schedule. `clusterctl status` says when one could \
                  not be made.\n\nWithout options it shows the schedule.\n\nExamples:\n  clusterctl backup schedule --every \
                  6h --keep 14 --passphrase-file /root/pass\n  clusterctl backup schedule --off"
)]
pub struct Args {
    /// How long from one backup to the next: 30m, 6h, 24h
    #[arg(long, value_name = "TIME", required_unless_present = "off")]
    every: Option<String>,
    /// How many of its own a manager keeps
    #[arg(long, value_name = "COUNT", default_value_t = 14)]
    keep: u32,
    /// The folder, on each manager
    #[arg(long, value_name = "DIR", default_value = "/var/lib/clusterd/backups")]
    dir: String,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Make no more; the files stay
    #[arg(long, conflicts_with_all = ["every", "keep", "dir", "passphrase_file"])]
    off: bool,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    let Some(every) = args.every.filter(|_| !args.off) else {
        let request = SetBackupScheduleRequest::default();
        client.control().set_backup_schedule(request).await?;
        return output::line("No more backups are made by themselves. The files stay.");
    };
    let plan = BackupPlan {
        every_ms: time::length_ms(&every)?,
        keep: args.keep,
        dir: args.dir,
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
