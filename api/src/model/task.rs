//! A task: one run of one slot of a service.

use super::{Meta, NetworkId, NodeId, PublishedPort, ServiceId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// One run of one slot of a service. Never run again once ended: a restart is a new task in the slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its identity; also the container's.
    pub id: TaskId,
    /// Revision and times.
    pub meta: Meta,
    /// Whose.
    pub service: ServiceId,
    /// The name of that service, which may be gone before its last task is.
    pub service_name: Arc<str>,
    /// From 1.
    pub slot: u32,
    /// Which version of the service's template it runs; see [`crate::state::State::template`].
    pub template_revision: u64,
    /// Where; absent until a node is found.
    pub node: Option<NodeId>,
    /// What it should be.
    pub desired: TaskState,
    /// Not to be started before this time (a restart's delay).
    pub not_before: Timestamp,
    /// Its addresses, held until it has ended.
    pub addresses: Vec<TaskAddress>,
    /// The ports it holds on its node.
    pub ports: Vec<PublishedPort>,
    /// What it is.
    pub status: TaskStatus,
}

impl Task {
    /// Its name: `shop_redis.1`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.service_name, self.slot)
    }

    /// Whether it runs and is to go on; as its node said last.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status.state == TaskState::Running && self.desired <= TaskState::Running
    }
}

/// An address of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskAddress {
    /// On this network.
    pub network: NetworkId,
    /// Held by nobody else on it.
    pub addr: Ipv4Addr,
}

/// What a task is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Only moves forward.
    pub state: TaskState,
    /// When that state was reached, by the clock of who reported it.
    pub at: Timestamp,
    /// What is going on, or why it can't (the scheduler's refusal, the runtime's error).
    pub message: String,
    /// Its process, while it runs: pid on the node.
    pub pid: Option<u32>,
    /// Its exit code, when it ended by itself: 128 + signal when killed.
    pub exit_code: Option<i32>,
}

/// Where a task is on its way, in Swarm's order and words. A state only moves forward.
///
/// ```text
/// new → pending → assigned → accepted → preparing → ready → starting → running ─┬→ complete
///                                                                               ├→ shutdown
///   rejected: the node can't run it   orphaned: its node is gone for good       └→ failed
/// ```
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Made.
    #[default]
    New,
    /// Waiting for a node.
    Pending,
    /// Has a node.
    Assigned,
    /// The node has seen it.
    Accepted,
    /// Image, volumes and network are being made.
    Preparing,
    /// Could start.
    Ready,
    /// Starting.
    Starting,
    /// Runs.
    Running,
    /// Ended by itself with exit code 0.
    Complete,
    /// Ended because it was asked to.
    Shutdown,
    /// Ended by itself with another code, or could not start.
    Failed,
    /// The node refused it.
    Rejected,
    /// To be removed from the state once its node has let go. Only ever a desired state.
    Remove,
    /// Its node is gone.
    Orphaned,
}

impl TaskState {
    /// Whether the task has ended, whatever way.
    #[must_use]
    pub fn is_ended(self) -> bool {
        self > Self::Running
    }

    /// In Swarm's order.
    pub const ALL: [Self; 14] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Remove,
        Self::Orphaned,
    ];

    /// As in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}
