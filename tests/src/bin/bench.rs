//! `make bench`: this project and Docker Swarm, measured in one run.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use cluster_tests::{
    bench::{
        System,
        figure::{Figure, ratios, table},
        measure,
        ours::Ours,
        scale,
        swarm::Swarm,
    },
    places,
};

/// Measure this project and a Docker Swarm side by side: JSON lines, then a table
#[derive(Parser)]
#[command(
    after_help = "Rows: deploy-overlay-30 deploy-overlay-100 remove-100 memory throughput name-resolves\n\
    worker-loss writes leader-loss scale-tasks scale-agents.\n\
The beginning of a name will do.\n\nExamples:\n  bench\n  bench deploy remove\n  bench --system ours throughput"
)]
struct Cli {
    /// Which rows [default: all]
    rows: Vec<String>,
    /// Only this system
    #[arg(long, value_enum)]
    system: Option<Which>,
    /// Where clusterd, clusterctl and lab are [default: beside bench]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// How often the whole is run, the systems taking turns
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Ours,
    Swarm,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let rows = measure::wanted(&cli.rows)?;
    let bin_dir = match &cli.bin_dir {
        Some(dir) => dir
            .canonicalize()
            .with_context(|| format!("cannot use --bin-dir {}", dir.display()))?,
        None => places::bin_dir()?,
    };
    let mut figures: Vec<Figure> = Vec::new();
    let mut problems = Vec::new();
    let both = rows.iter().any(|row| measure::ROWS.contains(row));
    for _ in 0..cli.rounds.max(1) {
        for which in [Which::Ours, Which::Swarm] {
            if !both || cli.system.is_some_and(|only| only != which) {
                continue;
            }
            let mut keep = |figure: Option<Figure>| -> Result<()> {
                if let Some(figure) = figure {
                    figure.print()?;
                    figures.push(figure);
                }
                Ok(())
            };
            let system: Result<Box<dyn System>> = match which {
                Which::Ours => Ours::up(bin_dir.clone()).map(|s| Box::new(s) as Box<dyn System>),
                Which::Swarm => Swarm::up(bin_dir.clone()).map(|s| Box::new(s) as Box<dyn System>),
            };
            // What one of them can't do must not cost the figures of the other.
            let name = if which == Which::Ours {
                "ours"
            } else {
                "swarm"
            };
            let done = system.and_then(|system| {
                measure::measure(system.as_ref(), &rows, &mut keep).with_context(|| {
                    let tails = system
                        .lab()
                        .nodes()
                        .map(|n| format!("{}: {}", n.name(), n.log_tail(10)));
                    format!("logs end with:\n{}", tails.collect::<Vec<_>>().join("\n"))
                })
            });
            problems.extend(done.err().map(|e| format!("{name}: {e:#}")));
        }
    }
    if cli.system != Some(Which::Swarm) {
        for row in rows.iter().filter(|row| scale::ROWS.contains(row)) {
            let measured = match *row {
                "scale-tasks" => scale::tasks(&bin_dir),
                _ => scale::agents(&bin_dir),
            };
            match measured {
                Ok(found) => {
                    found.iter().try_for_each(Figure::print)?;
                    figures.extend(found);
                }
                Err(error) => problems.push(format!("{row}: {error:#}")),
            }
        }
    }
    let figures = merge(&figures);
    for ratio in ratios(&figures) {
        println!("{}", serde_json::to_string(&ratio)?);
    }
    eprintln!("\n{}", table(&figures));
    if problems.is_empty() {
        Ok(())
    } else {
        bail!("{}", problems.join("\n"))
    }
}

/// The figures of all rounds, by row and system.
fn merge(figures: &[Figure]) -> Vec<Figure> {
    let mut merged: Vec<Figure> = Vec::new();
    for figure in figures {
        match merged
            .iter_mut()
            .find(|m| m.row == figure.row && m.system == figure.system)
        {
            Some(known) => {
                let runs: Vec<f64> = known.runs.iter().chain(&figure.runs).copied().collect();
                *known = Figure::of(&figure.row, &figure.system, figure.unit, &runs)
                    .unwrap_or(figure.clone());
            }
            None => merged.push(figure.clone()),
        }
    }
    merged
}
