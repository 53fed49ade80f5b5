//! As many slots as replicas.
//!
//! A slot is a number that has a task which is not to be removed: what is waiting for its restart, or has
//! finished as it should, keeps its number too.

use super::Wanted;
use crate::survey::{Group, Host, Slot, is_live};
use api::model::{TaskState, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// How well a slot does; the worst goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    /// No node.
    Pending,
    /// Failed, ending, or on a node that it has to leave.
    Failing,
    Starting,
    Running,
}

/// What decides which slot goes.
struct Candidate {
    health: Health,
    /// When its task was made; and its number.
    newness: (Timestamp, u32),
    site: Option<u32>,
}

impl Candidate {
    fn of(slot: &Slot<'_, '_>) -> Self {
        let live = slot.tasks.iter().find(|e| is_live(e.task));
        let health = match live.map(|e| (e.host, e.task.status.state)) {
            Some((None, _)) => Health::Pending,
            None | Some((Some(Host::Lost | Host::Drained), _)) => Health::Failing,
            Some((_, state)) if state < TaskState::Running => Health::Starting,
            Some(_) => Health::Running,
        };
        let made = live
            .or(slot.tasks.first())
            .map_or(Timestamp::default(), |e| e.task.meta.created_at);
        Self {
            health,
            newness: (made, slot.number),
            site: live.and_then(|e| e.site),
        }
    }
}

/// The slots that go when there are more than replicas: those that don't run, then from the nodes that run most
/// of them; the newest first.
pub(super) fn too_many(group: &Group<'_, '_>, replicas: u32) -> BTreeSet<u32> {
    let used = group.slots().filter(|slot| !slot.tasks.is_empty()).count();
    let excess = used.saturating_sub(usize::try_from(replicas).unwrap_or(usize::MAX));
    if excess == 0 {
        return BTreeSet::new();
    }
    let mut idle = Vec::new();
    let mut running: BTreeMap<Option<u32>, Vec<_>> = BTreeMap::new();
    for candidate in group
        .slots()
        .filter(|slot| !slot.tasks.is_empty())
        .map(|slot| Candidate::of(&slot))
    {
        match candidate.health {
            Health::Running => running
                .entry(candidate.site)
                .or_default()
                .push(candidate.newness),
            health => idle.push((health, Reverse(candidate.newness))),
        }
    }
    idle.sort_unstable();
    let mut chosen: BTreeSet<u32> = idle
        .into_iter()
        .take(excess)
        .map(|(_, Reverse((_, number)))| number)
        .collect();
    // On top the node that runs most; among equals the one whose newest is the newest.
    let mut crowds: BinaryHeap<_> = running
        .into_values()
        .map(|mut tasks| {
            tasks.sort_unstable();
            (tasks.len(), tasks.last().copied(), tasks)
        })
        .collect();
    while chosen.len() < excess {
        let Some((_, _, mut tasks)) = crowds.pop() else {
            break;
        };
        chosen.extend(tasks.pop().map(|(_, number)| number));
        if let Some(newest) = tasks.last().copied() {
            crowds.push((tasks.len(), Some(newest), tasks));
        }
    }
    chosen
}

/// New tasks for the lowest free numbers, as many as there are too few slots. A number whose former task is
/// still on its way out counts, but waits.
pub(super) fn missing<'a>(group: &Group<'_, 'a>, replicas: u32) -> Vec<Wanted<'a>> {
    let mut used = BTreeSet::new();
    let mut leaving = BTreeSet::new();
    for slot in group.slots() {
        if !slot.tasks.is_empty() {
            used.insert(slot.number);
        } else if slot.removed.iter().any(|e| e.is_held()) {
            leaving.insert(slot.number);
        }
    }
    let short = usize::try_from(replicas)
        .unwrap_or(usize::MAX)
        .saturating_sub(used.len());
    (1..=u32::MAX)
        .filter(|number| !used.contains(number))
        .take(short)
        .filter(|number| !leaving.contains(number))
        .map(|slot| Wanted {
            slot,
            pending: None,
            displaced: false,
            before: Vec::new(),
            after: Timestamp::default(),
        })
        .collect()
}
