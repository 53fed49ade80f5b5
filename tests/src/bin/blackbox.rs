//! Disturbs a cluster in a lab, and judges what its clients saw.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Parser;
use cluster_tests::blackbox::{Run, judge_file, plan::Plan};

/// Disturb a cluster of three managers and two workers in a lab, and check that its answers are those of one machine
#[derive(Parser)]
#[command(
    after_help = "Partitions, kill -9, SIGSTOP and wrong clocks come from the seed; a run that fails names it, and \
                  keeps its history and the daemons' logs.\n\nExamples:\n  blackbox\n  blackbox --seconds 300 --seed 7\n  \
                  blackbox --seed 7 --plan\n  blackbox --judge target/blackbox/seed-7/history.jsonl"
)]
struct Cli {
    /// How long it is disturbed
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What the faults are made from [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Only print the faults
    #[arg(long)]
    plan: bool,
    /// Only judge a history that was kept
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "plan"])]
    judge: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blackbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if let Some(path) = &cli.judge {
        let calls = judge_file(path)?;
        println!("{calls} calls: linearizable, nothing lost");
        return Ok(());
    }
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let run = Run {
        seed: cli.seed.unwrap_or(clock.as_secs() % 1_000_000),
        length: Duration::from_secs(cli.seconds),
    };
    if cli.plan {
        print!("{}", Plan::new(run.seed, run.length));
        return Ok(());
    }
    let report = run.run(&|step| println!("{step}"))?;
    println!(
        "{report}\nseed {}: linearizable, nothing lost, all as it should be",
        run.seed
    );
    Ok(())
}
