//! The simulator sees: each historic bug, brought back, is caught.

use sim::bug::Bug;
use sim::run;
use std::sync::Mutex;

/// Seeds that a bug may take.
const SEEDS: u64 = 1_000;

#[test]
fn every_historic_bug_is_caught() {
    let todo = Mutex::new(Bug::all());
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(bug) = todo.lock().unwrap().pop() else {
                        return;
                    };
                    match run::hunt(bug, 1, SEEDS) {
                        Some(outcome) => {
                            println!("{bug:?}: {} seeds: {:?}", outcome.seed, outcome.broken);
                        }
                        None => missed.lock().unwrap().push(bug),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not caught by {SEEDS} seeds: {missed:?}");
}
