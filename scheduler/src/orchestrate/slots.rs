//! A service's tasks by slot.

use super::{Plan, is_live};
use api::model::{NodeId, ServiceId, Task, TaskState};
use api::state::{Op, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tasks of one slot, newest first; those that are to be removed are not among them.
pub(super) type Slot = Vec<Arc<Task>>;

/// All slots in use.
pub(super) struct Slots {
    slots: BTreeMap<u32, Slot>,
}

impl Slots {
    pub fn of(state: &State, service: ServiceId) -> Self {
        let mut slots: BTreeMap<u32, Slot> = BTreeMap::new();
        for task in state
            .tasks_of_service(service)
            .filter(|t| t.desired < TaskState::Remove)
        {
            slots.entry(task.slot).or_default().push(task.clone());
        }
        for slot in slots.values_mut() {
            // Of two made in one moment, the live one is the newer.
            slot.sort_by_key(|t| std::cmp::Reverse((t.meta.created_at, is_live(t), t.id)));
        }
        Self { slots }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.slots.iter().map(|(number, slot)| (*number, slot))
    }

    /// The lowest numbers that are free, as many as are missing.
    pub fn missing(&self, replicas: u32) -> impl Iterator<Item = u32> {
        let have = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let short = replicas.saturating_sub(have);
        (1..=u32::MAX)
            .filter(|n| !self.slots.contains_key(n))
            .take(usize::try_from(short).unwrap_or(usize::MAX))
    }

    /// Takes slots away until no more are left than replicas: first those that don't run, then from the
    /// nodes that have most of them, the highest number first.
    pub fn shrink_to(&mut self, replicas: u32, plan: &mut Plan) {
        let keep = usize::try_from(replicas).unwrap_or(usize::MAX);
        if self.slots.len() <= keep {
            return;
        }
        let mut on_node: BTreeMap<NodeId, usize> = BTreeMap::new();
        for task in self.slots.values().filter_map(|s| running(s)) {
            if let Some(node) = task.node {
                *on_node.entry(node).or_default() += 1;
            }
        }
        while self.slots.len() > keep {
            let worst = self.slots.iter().max_by_key(|(number, slot)| {
                let task = running(slot);
                let crowd = task
                    .and_then(|t| t.node)
                    .and_then(|n| on_node.get(&n))
                    .copied()
                    .unwrap_or(0);
                (
                    task.is_none(),
                    !slot.iter().any(|t| is_live(t)),
                    crowd,
                    **number,
                )
            });
            let Some(number) = worst.map(|(number, _)| *number) else {
                return;
            };
            let Some(slot) = self.slots.remove(&number) else {
                return;
            };
            if let Some(count) = running(&slot)
                .and_then(|t| t.node)
                .and_then(|n| on_node.get_mut(&n))
            {
                *count -= 1;
            }
            for task in slot {
                plan.ops.push(Op::SetTaskDesired {
                    id: task.id,
                    desired: TaskState::Remove,
                });
                super::reap::if_over(&task, plan);
            }
        }
    }
}

fn running(slot: &Slot) -> Option<&Arc<Task>> {
    slot.iter()
        .find(|t| is_live(t) && t.status.state == TaskState::Running)
}
