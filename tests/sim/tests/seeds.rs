//! A slice of the seeds, on every test run; `make sim SEEDS=n` runs as many as one likes.

use sim::run::{self, Outcome};
use sim::script::Without;

const SEEDS: u64 = 100;
const THREADS: u64 = 2;

#[test]
fn every_invariant_holds_in_every_world() {
    let failed: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|first| {
                scope.spawn(move || {
                    (1 + first..=SEEDS)
                        .step_by(usize::try_from(THREADS).unwrap_or(1))
                        .map(|seed| run::seed(seed, &Without::default(), false))
                        .filter(|outcome| outcome.broken.is_some())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect()
    });
    for outcome in &failed {
        println!("make sim SEED={}: {:?}", outcome.seed, outcome.broken);
    }
    assert!(failed.is_empty(), "{} of {SEEDS} seeds fail", failed.len());
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let runs = || {
        let outcome = run::seed(7, &Without::default(), false);
        (outcome.steps, outcome.counts, outcome.broken)
    };
    assert_eq!(runs(), runs());
}

#[test]
fn what_a_failure_prints_is_read_again() {
    let text = "f0,f3,d12";
    let without: Without = text.parse().unwrap();
    assert_eq!(without.to_string(), text);
    assert!("x1".parse::<Without>().is_err() && "f".parse::<Without>().is_err());
}
