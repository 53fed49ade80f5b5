//! A new version of a service: its tasks are replaced one at a time, each stopped before its successor starts,
//! and the next only when that runs. So a version that can't run or can't be placed takes one task down, and
//! no more.

use api::model::TaskId;

#[derive(Debug, Default)]
pub(crate) struct Rollout {
    /// A slot is between two tasks, or its task does not run yet.
    busy: bool,
    /// The first that runs an older version.
    outdated: Option<TaskId>,
}

/// What placing a service's tasks came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Placed {
    /// Some found a node.
    pub any: bool,
    /// Some whose predecessors were stopped for a new version found none.
    pub stuck: bool,
}

impl Rollout {
    pub fn wait(&mut self) {
        self.busy = true;
    }

    pub fn outdated(&mut self, task: TaskId) {
        self.outdated.get_or_insert(task);
    }

    /// The task that is stopped now.
    pub fn next(self, placed: Placed) -> Option<TaskId> {
        self.outdated
            .filter(|_| !self.busy && !placed.any && !placed.stuck)
    }
}
