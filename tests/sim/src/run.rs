//! One seed, or many.

use crate::book::Broken;
use crate::bug;
use crate::script::{Script, Without};
use crate::world::World;
use std::collections::BTreeMap;

/// Events after which a world is taken to go round in circles.
const STEPS_MAX: u64 = 600_000;

/// What became of a seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// What may not be, if anything.
    pub broken: Option<Broken>,
    /// Events.
    pub steps: u64,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs a seed's world to its end.
#[must_use]
pub fn seed(seed: u64, without: &Without, loud: bool) -> Outcome {
    let mut world = World::new(Script::new(seed), without.clone());
    world.book.loud = loud;
    while !world.is_over() {
        if !world.step() {
            break;
        }
        if world.book.steps > STEPS_MAX {
            world
                .book
                .broken("everything converges", "it never comes to rest".into());
        }
    }
    Outcome {
        seed,
        broken: world.book.broken.clone(),
        steps: world.book.steps,
        counts: std::mem::take(&mut world.book.counts),
    }
}

/// The first seed from `first` on, of so many, that sees a bug; with what it saw.
#[must_use]
pub fn hunt(bug: bug::Bug, first: u64, most: u64) -> Option<Outcome> {
    bug::set(Some(bug));
    let caught = (first..first + most)
        .map(|number| seed(number, &Without::default(), false))
        .find(|outcome| outcome.broken.is_some());
    bug::set(None);
    caught
}

/// Leaves out of a failing seed what it does not need to fail in the same way.
#[must_use]
pub fn shrink(failed: &Outcome, most: usize) -> Without {
    let script = Script::new(failed.seed);
    let name = failed.broken.as_ref().map(|broken| &broken.invariant);
    let fails = |without: &Without| {
        let outcome = seed(failed.seed, without, false);
        outcome.broken.as_ref().map(|broken| &broken.invariant) == name
    };
    let mut tries = 0;
    let mut least = Without::default();
    let mut attempt = |least: &mut Without, faults: &[usize], deeds: &[usize]| {
        let mut less = least.clone();
        less.faults.extend(faults);
        less.deeds.extend(deeds);
        if less == *least || tries >= most {
            return;
        }
        tries += 1;
        if fails(&less) {
            *least = less;
        }
    };
    // Whole kinds first, then one by one, the latest first.
    for kind in crate::script::Kind::ALL {
        let of_kind = script
            .faults
            .iter()
            .enumerate()
            .filter(|(_, f)| f.kind == kind);
        let of_kind: Vec<usize> = of_kind.map(|(place, _)| place).collect();
        attempt(&mut least, &of_kind, &[]);
    }
    let half: Vec<usize> = (script.deeds.len() / 2..script.deeds.len()).collect();
    attempt(&mut least, &[], &half);
    for place in (0..script.faults.len()).rev() {
        attempt(&mut least, &[place], &[]);
    }
    for place in (0..script.deeds.len()).rev() {
        attempt(&mut least, &[], &[place]);
    }
    least
}
