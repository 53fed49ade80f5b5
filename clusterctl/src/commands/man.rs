//! `clusterctl man`

use crate::cli::Cli;
use crate::output;
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::path::PathBuf;

/// Write the man pages into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clusterctl man /usr/local/share/man/man1")]
pub struct Args {
    /// The folder, made if it is not there
    dir: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("can't make {}", args.dir.display()))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .with_context(|| format!("can't write man pages into {}", args.dir.display()))?;
    output::line(format!("man pages written into {}", args.dir.display()))
}
