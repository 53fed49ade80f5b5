//! How far one manager goes: figures as JSON lines.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use api::model::JoinToken;
use clap::Parser;
use cluster_tests::scale::{agents, tasks};

/// Measure how far one manager goes: JSON lines
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  scale tasks\n  scale tasks --nodes 100 --services 10 --replicas 100"
)]
enum Cli {
    /// Place tasks on nodes that are only written down, and commit it
    Tasks {
        /// Nodes that take tasks
        #[arg(long, default_value_t = 10_000)]
        nodes: u32,
        /// Services
        #[arg(long, default_value_t = 1_000)]
        services: u32,
        /// Tasks of each service
        #[arg(long, default_value_t = 1_000)]
        replicas: u32,
        /// A folder on the disk to measure with, made and removed [default: below target/]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Join a cluster as many agents, each with a session of its own, until interrupted: prints the number of
    /// open sessions whenever it has changed
    Agents {
        /// How many
        #[arg(long, default_value_t = 2_000)]
        count: u32,
        /// To join as workers
        #[arg(long)]
        token: JoinToken,
        /// host:port of a manager; several
        #[arg(required = true)]
        managers: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    // As clusterd's.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let figures = match cli {
        Cli::Tasks {
            nodes,
            services,
            replicas,
            dir,
        } => {
            let dir = folder(dir)?;
            let size = tasks::Size {
                nodes,
                services,
                replicas,
            };
            runtime.block_on(tasks::measure(dir.path(), size))?
        }
        Cli::Agents {
            count,
            token,
            managers,
        } => {
            // Who can't be told any more has ended, and so does this.
            let told = |open| {
                if writeln!(std::io::stdout(), "{open}").is_err() {
                    std::process::exit(0);
                }
            };
            return runtime.block_on(agents::run(&token, &managers, count, told));
        }
    };
    figures.iter().try_for_each(|figure| figure.print())
}

/// A folder beside the program, which is on a disk; a temporary one may be memory.
fn folder(wished: Option<PathBuf>) -> Result<tempfile::TempDir> {
    let parent = match wished {
        Some(dir) => dir,
        None => std::env::current_exe()?
            .parent()
            .context("the program is in no folder")?
            .to_owned(),
    };
    tempfile::Builder::new()
        .prefix("scale-")
        .tempdir_in(&parent)
        .with_context(|| format!("cannot make a folder in {}", parent.display()))
}
