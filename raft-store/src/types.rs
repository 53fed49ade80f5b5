//! openraft's types, ours filled in.

use api::model::NodeId;
use api::state::ApplyError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is proposed: an encoded [`api::state::Transaction`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(pub Bytes);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction of {} bytes", self.0.len())
    }
}

/// What came of it: the revision, or why the state refused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome(pub Result<u64, ApplyError>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(revision) => write!(f, "revision {revision}"),
            Err(error) => error.fmt(f),
        }
    }
}

/// A manager as the membership knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which node.
    pub node_id: NodeId,
    /// Where, `host:port`.
    pub addr: String,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            node_id: NodeId(0),
            addr: String::new(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.node_id, self.addr)
    }
}

openraft::declare_raft_types!(
    /// openraft's type configuration.
    pub TypeConfig: D = Proposal, R = Outcome, Node = Peer
);

/// The consensus itself.
pub type Raft = openraft::Raft<TypeConfig, crate::machine::Machine>;

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
