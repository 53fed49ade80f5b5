//! What a cluster remembers of having been brought back, and what it keeps for the next time.

use super::{BackupFailure, BackupNote, BackupSchedule, NodeId};
use std::collections::BTreeSet;

/// Part of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Managers that were given up, when the cluster went on without them or was restored. Ids are never used
    /// again, so this is true for ever: whatever such a node says, it speaks of a cluster that is no more.
    pub fenced: BTreeSet<NodeId>,
    /// Backups that are made by themselves.
    pub schedule: Option<BackupSchedule>,
    /// Those that were, the oldest first.
    pub made: Vec<BackupNote>,
    /// Why the last was not, if it was not.
    pub failure: Option<BackupFailure>,
    /// The last that somebody made by hand.
    pub by_hand: Option<BackupNote>,
}
