//! What befalls a world: its machines, its faults and what its users do, all of it from the seed, written down
//! before anything happens. So parts of it can be left out, to see what a failure needs.

use crate::dice::Dice;
use std::collections::BTreeSet;
use std::fmt;

/// A fault's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Messages are lost.
    Loss,
    /// Messages take longer, each as long as it likes: they overtake each other.
    Delay,
    /// Messages come twice.
    Duplicate,
    /// A machine and another don't hear each other.
    Cut,
    /// A machine doesn't hear another, which hears it.
    CutOneWay,
    /// A machine is cut off from all others.
    Isolate,
    /// A machine is heard by nobody, and hears.
    Mute,
    /// A manager is cut off from the other managers, and not from the workers.
    CutOffManager,
    /// A daemon stops and goes on.
    Pause,
    /// A daemon is killed.
    Crash,
    /// A machine loses its power: what was not synced is gone, and so are its containers.
    PowerLoss,
    /// All managers lose theirs.
    PowerLossOfManagers,
    /// A machine's wall clock is wrong.
    Skew,
    /// A disk is slow.
    SlowDisk,
    /// A disk refuses.
    BadDisk,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Loss,
        Self::Delay,
        Self::Duplicate,
        Self::Cut,
        Self::CutOneWay,
        Self::Isolate,
        Self::Mute,
        Self::CutOffManager,
        Self::Pause,
        Self::Crash,
        Self::PowerLoss,
        Self::PowerLossOfManagers,
        Self::Skew,
        Self::SlowDisk,
        Self::BadDisk,
    ];
}

/// Something bad.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// When it begins, ms.
    pub from: u64,
    /// When it is over, ms.
    pub until: u64,
    /// Whom it befalls.
    pub host: usize,
    /// Who else takes part in it.
    pub other: usize,
    /// How bad: percent or ms.
    pub degree: u64,
}

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Deploys a stack, or what has changed of it.
    Deploy,
    /// Gives a service another number of replicas.
    Scale,
    /// Removes a stack.
    Remove,
    /// Drains a node, or pauses it.
    Drain,
    /// Gives a node work again.
    Activate,
    /// Adds a spare machine.
    Join,
    /// Removes a machine that is gone for good.
    RemoveNode,
    /// Reads.
    Read,
}

/// A user at work.
#[derive(Debug, Clone, Copy)]
pub struct Deed {
    /// What.
    pub wish: Wish,
    /// When, ms.
    pub at: u64,
    /// All its details.
    pub dice: u64,
}

/// All that is to happen.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where it comes from.
    pub seed: u64,
    /// Machines with a manager.
    pub managers: usize,
    /// Machines of the cluster, managers among them.
    pub members: usize,
    /// Machines that may join.
    pub spares: usize,
    /// When everything is mended, ms.
    pub healed: u64,
    /// How long every sync takes in addition, ms.
    pub sync_ms: u64,
    /// In order of their beginning.
    pub faults: Vec<Fault>,
    /// In order of their time.
    pub deeds: Vec<Deed>,
}

/// Parts of a script that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Without {
    /// Faults, by their place.
    pub faults: BTreeSet<usize>,
    /// Deeds, by their place.
    pub deeds: BTreeSet<usize>,
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(|n| format!("f{n}"));
        let deeds = self.deeds.iter().map(|n| format!("d{n}"));
        f.write_str(&faults.chain(deeds).collect::<Vec<_>>().join(","))
    }
}

impl std::str::FromStr for Without {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut without = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong =
                || format!("{part:?} is no part of a script: write f0 for a fault, d0 for a deed");
            let (kind, number) = part.split_at_checked(1).ok_or_else(wrong)?;
            let number: usize = number.parse().map_err(|_| wrong())?;
            match kind {
                "f" => without.faults.insert(number),
                "d" => without.deeds.insert(number),
                _ => return Err(wrong()),
            };
        }
        Ok(without)
    }
}

impl Script {
    /// The script of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let managers = match dice.below(10) {
            0 | 1 => 1,
            9 => 5,
            _ => 3,
        };
        let members = managers + dice.place(4).max(usize::from(managers == 1));
        let spares = dice.place(3);
        // Long enough for a lease to be over, its grace too, and for what is done then.
        let long = dice.chance(20);
        let healed = if long {
            dice.between(40_000, 60_000)
        } else {
            dice.between(15_000, 45_000)
        };
        let mut faults: Vec<Fault> = (0..dice.below(9))
            .map(|_| fault(&mut dice, managers, members, healed))
            .collect();
        // What has just been assigned when it begins.
        let mut before = None;
        if long {
            let cut = long_cut(&mut dice, managers, members, healed);
            faults.push(cut);
            before = Some(cut.from - dice.between(50, 2_000));
            // Nodes that look for another manager meanwhile come to the one that is cut off.
            if dice.chance(50) {
                faults.push(crash_beside(&mut dice, managers, &cut));
            }
        }
        faults.sort_by_key(|fault| (fault.from, fault.until));
        let count = dice.between(4, 24);
        let mut deeds: Vec<Deed> = (0..count)
            .map(|n| Deed {
                wish: if n == 0 {
                    Wish::Deploy
                } else {
                    wish(&mut dice)
                },
                at: if n == 0 {
                    2_500
                } else {
                    dice.between(2_500, healed)
                },
                dice: dice.any(),
            })
            .collect();
        deeds.extend(before.map(|at| Deed {
            wish: Wish::Deploy,
            at,
            dice: dice.any(),
        }));
        deeds.sort_by_key(|deed| deed.at);
        let slow = dice.chance(30);
        let sync_ms = if slow { dice.between(20, 150) } else { 0 };
        Self {
            sync_ms,
            seed,
            managers,
            members,
            spares,
            healed,
            faults,
            deeds,
        }
    }

    /// Whether a fault is left in.
    #[must_use]
    pub fn has_fault(&self, without: &Without, place: usize) -> bool {
        place < self.faults.len() && !without.faults.contains(&place)
    }
}

fn wish(dice: &mut Dice) -> Wish {
    match dice.below(20) {
        0..=6 => Wish::Deploy,
        7..=10 => Wish::Scale,
        11..=12 => Wish::Remove,
        13 => Wish::Drain,
        14 => Wish::Activate,
        15 => Wish::Join,
        16 => Wish::RemoveNode,
        _ => Wish::Read,
    }
}

/// A manager is cut off from the others for long, but not from the nodes, or a machine from all.
fn long_cut(dice: &mut Dice, managers: usize, members: usize, healed: u64) -> Fault {
    let from = dice.between(5_000, healed - 30_000);
    let (kind, among) = if dice.chance(50) {
        (Kind::CutOffManager, managers)
    } else {
        (Kind::Isolate, members)
    };
    Fault {
        kind,
        from,
        until: from + dice.between(20_000, 30_000),
        host: dice.place(among),
        other: 0,
        degree: 0,
    }
}

/// Another manager's daemon is killed while one is cut off.
fn crash_beside(dice: &mut Dice, managers: usize, cut: &Fault) -> Fault {
    let from = dice.between(cut.from + 2_000, cut.until - 3_000);
    Fault {
        kind: Kind::Crash,
        from,
        until: from + dice.between(200, 2_000),
        host: (cut.host + 1 + dice.place(managers - 1)) % managers,
        other: 0,
        degree: 0,
    }
}

fn fault(dice: &mut Dice, managers: usize, members: usize, healed: u64) -> Fault {
    let kind = Kind::ALL[dice.place(Kind::ALL.len())];
    let from = dice.between(1_000, healed);
    // Blips, and what lasts.
    let lasts = match dice.below(3) {
        0 => dice.between(50, 2_000),
        1 => dice.between(1_500, 6_000),
        _ => dice.between(4_000, 25_000),
    };
    let only_managers = dice.chance(50) || kind == Kind::CutOffManager;
    let host = dice.place(if only_managers { managers } else { members });
    let other = (host + 1 + dice.place(members.saturating_sub(1))) % members;
    let degree = match kind {
        Kind::Loss => dice.between(2, 30),
        Kind::Duplicate => dice.between(2, 40),
        Kind::Delay => dice.between(20, 400),
        Kind::Skew => dice.between(100, 3_600_000),
        Kind::SlowDisk => dice.between(50, 400),
        _ => dice.below(100),
    };
    Fault {
        kind,
        from,
        until: (from + lasts).min(healed),
        host,
        other,
        degree,
    }
}
