//! Runs seeds, or one of them: see `sim --help`.

use anyhow::{Result, bail};
use clap::Parser;
use sim::bug::Bug;
use sim::run::{self, Outcome};
use sim::script::{Script, Without};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Runs the cluster's decisions in seeded worlds, and says which seeds break what.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this one, told step by step
    #[arg(long)]
    seed: Option<u64>,
    /// Parts of its script to leave out, as a failure prints them: f0,d3
    #[arg(long, default_value = "", value_parser = parse_without)]
    without: Without,
    /// Bring one historic bug after the other back, and say which seed sees it first
    #[arg(long)]
    bugs: bool,
    /// Don't tell it step by step
    #[arg(long)]
    quiet: bool,
}

fn parse_without(text: &str) -> Result<Without, String> {
    text.parse()
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.seed {
        Some(seed) => one(seed, &args),
        None if args.bugs => bugs(&args),
        None => many(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, args: &Args) -> Result<()> {
    let outcome = run::seed(seed, &args.without, !args.quiet);
    show(seed, &args.without);
    println!("{} steps", outcome.steps);
    match outcome.broken {
        Some(broken) => bail!(
            "seed {seed}: {:?} does not hold at {} ms: {}",
            broken.invariant,
            broken.at,
            broken.what
        ),
        None => Ok(()),
    }
}

fn bugs(args: &Args) -> Result<()> {
    let mut missed = 0;
    for bug in Bug::all() {
        match run::hunt(bug, args.from, args.seeds) {
            Some(outcome) => {
                let seeds = outcome.seed - args.from + 1;
                let seen = outcome
                    .broken
                    .map_or(String::new(), |broken| broken.invariant);
                println!("{bug:?}: seen by seed {seeds} ({seen})");
            }
            None => {
                missed += 1;
                println!("{bug:?}: not seen by {} seeds", args.seeds);
            }
        }
    }
    if missed > 0 {
        bail!("{missed} bugs are not seen");
    }
    Ok(())
}

fn show(seed: u64, without: &Without) {
    let script = Script::new(seed);
    println!(
        "{} managers, {} nodes, {} spare; all is mended at {} ms",
        script.managers, script.members, script.spares, script.healed
    );
    for (place, fault) in script.faults.iter().enumerate() {
        if !without.faults.contains(&place) {
            println!(
                "f{place}: {:?} of host {} (and {}, {}) from {} to {} ms",
                fault.kind, fault.host, fault.other, fault.degree, fault.from, fault.until
            );
        }
    }
    for (place, deed) in script.deeds.iter().enumerate() {
        if !without.deeds.contains(&place) {
            println!("d{place}: {:?} at {} ms", deed.wish, deed.at);
        }
    }
}

fn many(args: &Args) -> Result<()> {
    let next = AtomicU64::new(args.from);
    let end = args.from + args.seeds;
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut own = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            return own;
                        }
                        own.push(run::seed(seed, &Without::default(), false));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_default())
            .collect()
    });
    outcomes.sort_by_key(|outcome| outcome.seed);
    let took = began.elapsed().as_secs_f64();
    let steps: u64 = outcomes.iter().map(|outcome| outcome.steps).sum();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for outcome in &outcomes {
        for (what, count) in &outcome.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    for (what, count) in &counts {
        println!("{count:>10}  {what}");
    }
    println!(
        "{} seeds, {steps} steps in {took:.1} s: {:.0} seeds a minute",
        outcomes.len(),
        outcomes.len() as f64 * 60.0 / took
    );
    let failed: Vec<&Outcome> = outcomes.iter().filter(|o| o.broken.is_some()).collect();
    let mut kinds: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for outcome in &failed {
        if let Some(broken) = &outcome.broken {
            kinds
                .entry(&broken.invariant)
                .or_insert((outcome.seed, 0))
                .1 += 1;
        }
    }
    for (invariant, (seed, count)) in &kinds {
        println!("{count} seeds break {invariant:?}, the first is {seed}");
    }
    for outcome in failed.iter().take(3) {
        let Some(broken) = &outcome.broken else {
            continue;
        };
        println!(
            "seed {}: {:?} does not hold at {} ms: {}",
            outcome.seed, broken.invariant, broken.at, broken.what
        );
        let without = run::shrink(outcome, 60);
        println!("    make sim SEED={} WITHOUT={without}", outcome.seed);
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("{} of {} seeds fail", failed.len(), outcomes.len())
    }
}
