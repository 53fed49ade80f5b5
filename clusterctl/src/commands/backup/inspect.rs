//! `clusterctl backup inspect`

use crate::output::{self, Format, FormatArg};
use crate::time;
use anyhow::{Context, Result};
use api::backup::Envelope;
use serde::Serialize;
use std::path::PathBuf;

/// Show what a backup says of itself, and whether the file is whole
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs neither the passphrase nor a clusterd. Whether somebody has forged it shows only `restore`, with \
                  the passphrase.\n\nExample:\n  clusterctl backup inspect /root/cluster.backup"
)]
pub struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
struct Backup {
    cluster: String,
    revision: u64,
    created_at: String,
    made_by: String,
    version: String,
    bytes: u64,
    managers: u32,
    nodes: u32,
    networks: u32,
    services: u32,
    stacks: u32,
    tasks: u32,
}

pub fn run(args: &Args) -> Result<()> {
    let path = args.file.display();
    let file = std::fs::read(&args.file).with_context(|| format!("can't read {path}"))?;
    let header = Envelope::read(&file)
        .with_context(|| format!("{path} can't be used"))?
        .header;
    let counts = header.counts.unwrap_or_default();
    let backup = Backup {
        cluster: api::convert::cluster_id(&header.cluster_id)?.to_string(),
        revision: header.revision,
        created_at: time::show(header.created_at),
        made_by: header.made_by,
        version: header.version,
        bytes: file.len() as u64,
        managers: counts.managers,
        nodes: counts.nodes,
        networks: counts.networks,
        services: counts.services,
        stacks: counts.stacks,
        tasks: counts.tasks,
    };
    if args.format.format == Format::Json {
        return output::json(&backup);
    }
    for (name, value) in [
        ("Cluster:", backup.cluster),
        ("Revision:", backup.revision.to_string()),
        (
            "Made:",
            format!("{} on {}", backup.created_at, backup.made_by),
        ),
        ("Version:", backup.version),
        ("Size:", output::bytes(backup.bytes)),
        (
            "Nodes:",
            format!("{}, {} of them managers", backup.nodes, backup.managers),
        ),
        ("Networks:", backup.networks.to_string()),
        ("Services:", backup.services.to_string()),
        ("Stacks:", backup.stacks.to_string()),
        ("Tasks:", backup.tasks.to_string()),
    ] {
        output::line(format!("{name:<11}{value}"))?;
    }
    output::line("\nThe file is whole.")
}
