//! What is done to the cluster, and when: a pure function of the seed.
//!
//! Three lanes, each of which does one thing at a time: the network is cut in some way, daemons are killed or stopped,
//! wall clocks are set. So faults of different kinds meet. Between two faults of a lane there is some quiet, without
//! which nothing would ever be acknowledged.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::dice::Dice;

/// The managers are node1 to node3; the workers come after them.
pub const MANAGERS: usize = 3;
/// All nodes.
pub const NODES: usize = 5;

/// Something that is done. Nodes are numbers, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Action {
    /// These hear nothing of those, by pairs: who is deaf, to whom.
    Cut(Vec<(usize, usize)>),
    /// Everybody hears everybody.
    Mend,
    /// clusterd is killed, as by a crash.
    Kill(Vec<usize>),
    /// And started.
    Start(Vec<usize>),
    /// clusterd is stopped in the middle of whatever it does.
    Pause(Vec<usize>),
    /// And goes on.
    Resume(Vec<usize>),
    /// The wall clock is wrong by so many seconds.
    Clock(usize, i64),
}

/// Which lane a step is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Lane {
    /// Partitions.
    Network,
    /// Kills and stops.
    Processes,
    /// Clocks.
    Clocks,
}

/// An action and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// After the beginning, milliseconds.
    pub at_ms: u64,
    /// Where.
    pub lane: Lane,
    /// What.
    pub action: Action,
}

/// All of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What it was made from.
    pub seed: u64,
    /// How long it goes on, milliseconds.
    pub length_ms: u64,
    /// In the order of their times.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64, length: Duration) -> Self {
        let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let mut steps = Vec::new();
        lane(
            &mut steps,
            Lane::Network,
            length_ms,
            Dice::new(seed, 1),
            |dice| (Action::Cut(cut(dice)), Action::Mend),
        );
        lane(
            &mut steps,
            Lane::Processes,
            length_ms,
            Dice::new(seed, 2),
            |dice| {
                let who = victims(dice);
                match dice.percent(60) {
                    true => (Action::Kill(who.clone()), Action::Start(who)),
                    false => (Action::Pause(who.clone()), Action::Resume(who)),
                }
            },
        );
        lane(
            &mut steps,
            Lane::Clocks,
            length_ms,
            Dice::new(seed, 3),
            |dice| {
                let who = 1 + dice.below(NODES);
                (Action::Clock(who, offset(dice)), Action::Clock(who, 0))
            },
        );
        steps.sort_by_key(|step| (step.at_ms, step.lane));
        Self {
            seed,
            length_ms,
            steps,
        }
    }

    /// The steps of a lane.
    pub fn lane(&self, lane: Lane) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.lane == lane)
    }
}

/// Fills one lane: quiet, a fault, quiet, a fault. What has begun ends, at the end at the latest.
fn lane(
    steps: &mut Vec<Step>,
    lane: Lane,
    length_ms: u64,
    mut dice: Dice,
    mut fault: impl FnMut(&mut Dice) -> (Action, Action),
) {
    let mut at_ms = dice.between(500, 2_500);
    while at_ms < length_ms {
        let (begin, end) = fault(&mut dice);
        let lasts = dice.between(500, 6_000);
        let until = (at_ms + lasts).min(length_ms);
        for (at_ms, action) in [(at_ms, begin), (until, end)] {
            steps.push(Step {
                at_ms,
                lane,
                action,
            });
        }
        at_ms = until + dice.between(1_000, 5_000);
    }
}

/// Who hears nothing of whom.
fn cut(dice: &mut Dice) -> Vec<(usize, usize)> {
    let all: Vec<usize> = (1..=NODES).collect();
    let both = |some: &[usize]| -> Vec<(usize, usize)> {
        let (here, there): (Vec<usize>, Vec<usize>) =
            all.iter().partition(|node| some.contains(node));
        let pairs = |a: &[usize], b: &[usize]| -> Vec<(usize, usize)> {
            a.iter()
                .flat_map(|x| b.iter().map(move |y| (*x, *y)))
                .collect()
        };
        [pairs(&here, &there), pairs(&there, &here)].concat()
    };
    let manager = 1 + dice.below(MANAGERS);
    let other = 1 + (manager + dice.below(MANAGERS - 1)) % MANAGERS;
    match dice.below(6) {
        // One alone: a minority of the managers, or a worker.
        0 => both(&[1 + dice.below(NODES)]),
        // A manager and a worker on one side.
        1 => both(&[manager, MANAGERS + 1 + dice.below(NODES - MANAGERS)]),
        // Two managers don't hear each other, and all else do.
        2 => vec![(manager, other), (other, manager)],
        // One hears what another says, who does not hear it.
        3 => vec![(manager, other)],
        // One hears nobody, and is heard by all.
        4 => all
            .iter()
            .filter(|n| **n != manager)
            .map(|n| (manager, *n))
            .collect(),
        // All hear everybody but for one, who hears all.
        _ => all
            .iter()
            .filter(|n| **n != manager)
            .map(|n| (*n, manager))
            .collect(),
    }
}

/// Whose clusterd is killed or stopped: mostly one, sometimes a majority of the managers, or all of them.
fn victims(dice: &mut Dice) -> Vec<usize> {
    let mut some = match dice.below(10) {
        0 => (1..=MANAGERS).collect(),
        1 | 2 => {
            let spared = 1 + dice.below(MANAGERS);
            (1..=MANAGERS).filter(|node| *node != spared).collect()
        }
        3 => vec![MANAGERS + 1 + dice.below(NODES - MANAGERS)],
        4 => vec![
            1 + dice.below(MANAGERS),
            MANAGERS + 1 + dice.below(NODES - MANAGERS),
        ],
        _ => vec![1 + dice.below(MANAGERS)],
    };
    some.sort_unstable();
    some
}

/// Seconds: minutes to hours, ahead or behind.
fn offset(dice: &mut Dice) -> i64 {
    let minutes = *dice.one(&[1, 7, 40, 65, 180, 600]);
    let sign = if dice.percent(50) { 1 } else { -1 };
    sign * minutes * 60
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |nodes: &[usize]| {
            let names: Vec<String> = nodes.iter().map(|n| format!("node{n}")).collect();
            names.join(", ")
        };
        match self {
            Self::Cut(pairs) => {
                let mut told = Vec::new();
                for deaf in 1..=NODES {
                    let to: Vec<usize> =
                        pairs.iter().filter(|p| p.0 == deaf).map(|p| p.1).collect();
                    if !to.is_empty() {
                        told.push(format!("node{deaf} hears nothing of {}", names(&to)));
                    }
                }
                f.write_str(&told.join("; "))
            }
            Self::Mend => f.write_str("the network is whole"),
            Self::Kill(nodes) => write!(f, "kill -9 on {}", names(nodes)),
            Self::Start(nodes) => write!(f, "start on {}", names(nodes)),
            Self::Pause(nodes) => write!(f, "SIGSTOP on {}", names(nodes)),
            Self::Resume(nodes) => write!(f, "SIGCONT on {}", names(nodes)),
            Self::Clock(node, 0) => write!(f, "the clock of node{node} is right"),
            Self::Clock(node, seconds) => {
                let (minutes, way) = (
                    seconds.abs() / 60,
                    if *seconds > 0 { "ahead" } else { "behind" },
                );
                write!(f, "the clock of node{node} is {minutes} min {way}")
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} s:", self.seed, self.length_ms / 1_000)?;
        for step in &self.steps {
            let seconds = Duration::from_millis(step.at_ms).as_secs_f64();
            writeln!(f, "{seconds:8.1} s  {}", step.action)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_is_one_plan_and_another_seed_another() {
        assert_eq!(Plan::new(7, MINUTE), Plan::new(7, MINUTE));
        assert_ne!(Plan::new(7, MINUTE).steps, Plan::new(8, MINUTE).steps);
    }

    #[test]
    fn whatever_begins_ends_and_every_kind_happens() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let plan = Plan::new(seed, MINUTE);
            assert!(plan.steps.is_sorted_by_key(|step| step.at_ms));
            for lane in [Lane::Network, Lane::Processes, Lane::Clocks] {
                let steps: Vec<_> = plan.lane(lane).collect();
                for pair in steps.chunks(2) {
                    let [begin, end] = pair else {
                        panic!("seed {seed}: what begins last has no end")
                    };
                    assert!(begin.at_ms < end.at_ms && end.at_ms <= plan.length_ms);
                    let matches = match (&begin.action, &end.action) {
                        (Action::Cut(pairs), Action::Mend) => !pairs.is_empty(),
                        (Action::Kill(a), Action::Start(b)) => a == b,
                        (Action::Pause(a), Action::Resume(b)) => a == b,
                        (Action::Clock(a, off), Action::Clock(b, 0)) => a == b && *off != 0,
                        _ => false,
                    };
                    assert!(matches, "seed {seed}: {pair:?}");
                    seen.insert(match &begin.action {
                        Action::Cut(pairs) => {
                            let both = pairs.iter().all(|(a, b)| pairs.contains(&(*b, *a)));
                            format!("cut of {} pairs, both ways: {both}", pairs.len())
                        }
                        Action::Kill(nodes) => format!("kill {}", nodes.len()),
                        Action::Pause(nodes) => format!("pause {}", nodes.len()),
                        other => format!(
                            "clock {}",
                            matches!(other, Action::Clock(_, off) if *off > 0)
                        ),
                    });
                }
            }
        }
        for kind in [
            "cut of 1 pairs, both ways: false",
            "cut of 2 pairs, both ways: true",
            "cut of 4 pairs, both ways: false",
            "cut of 8 pairs, both ways: true",
            "cut of 12 pairs, both ways: true",
            "kill 1",
            "kill 2",
            "kill 3",
            "pause 1",
            "pause 3",
            "clock true",
            "clock false",
        ] {
            assert!(seen.contains(kind), "{kind} never happens: {seen:?}");
        }
    }
}
