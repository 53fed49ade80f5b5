//! What a cluster remembers of having been brought back.

use super::NodeId;
use std::collections::BTreeSet;

/// Part of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Managers that were given up, when the cluster went on without them or was restored. Ids are never used
    /// again, so this is true for ever: whatever such a node says, it speaks of a cluster that is no more.
    pub fenced: BTreeSet<NodeId>,
}
