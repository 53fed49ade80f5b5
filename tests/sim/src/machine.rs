//! What of a machine outlives its daemon: containers, and what the agent keeps on disk.

use agent::decisions::{BootMs, End, Exit, Terms};
use api::convert;
use api::model::{TaskId, Timestamp};
use api::proto::Assignments;
use std::collections::BTreeMap;

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its process.
    pub pid: u32,
    /// By the machine's clock.
    pub since: Timestamp,
    /// How long it may run without the node's lease being renewed.
    pub terms: Option<Terms>,
    /// When its shim asked it to end, since the lease was over.
    pub stopped: Option<BootMs>,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// A machine.
#[derive(Debug, Default)]
pub struct Machine {
    /// By the task.
    pub containers: BTreeMap<TaskId, Container>,
    /// Tasks that were begun, with their ends.
    pub begun: BTreeMap<TaskId, Option<End>>,
    /// The assignments on disk.
    pub kept: Assignments,
    /// Since when the node's lease runs, where the shims read it.
    pub renewed: Option<BootMs>,
    /// Processes so far.
    pub pids: u32,
}

impl Machine {
    /// Whether the next daemon finds this task in the assignments on disk.
    #[must_use]
    pub fn names(&self, task: TaskId) -> bool {
        let ids = self.kept.tasks.iter().filter_map(|t| t.task.as_ref());
        ids.filter_map(|t| convert::task_id(&t.id).ok())
            .any(|id| id == task)
    }

    /// The power is gone.
    pub fn lose_power(&mut self) {
        self.renewed = None;
        self.containers
            .retain(|_, container| container.exit.is_some());
    }
}
