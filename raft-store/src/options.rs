//! How a store is opened.

use crate::compact;
use crate::error::OpenError;
use api::model::NodeId;
use openraft::{Config, SnapshotPolicy};
use seal::DataKey;
use std::ops::Range;
use std::path::PathBuf;

/// Entries in one message.
const BATCH: u64 = 256;
/// How long a snapshot may take on its way, ms.
const SNAPSHOT_MS: u64 = 120_000;

/// Settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder.
    pub dir: PathBuf,
    /// What it is sealed with.
    pub key: DataKey,
    /// Which node this is.
    pub node: NodeId,
    /// Where others reach it, `host:port`.
    pub addr: String,
    /// The leader says so often that it is there, ms.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing stands for election when the lease it gave the leader is over, which is the end of
    /// this, and it is its turn (`turns.rs`); without a leader known, after so long, drawn anew each time. ms.
    pub election_ms: Range<u64>,
    /// Entries between two snapshots; at least 1.
    pub snapshot_every: u64,
    /// Bytes of entries that a snapshot is worth; more when the state is larger.
    pub snapshot_bytes: u64,
    /// Whether it may stand for election from the start; see [`crate::Handle::stand`].
    pub stands: bool,
}

impl Options {
    /// Bytes of entries that a snapshot is worth, unless one chooses.
    pub const SNAPSHOT_BYTES: u64 = compact::FLOOR;

    pub(crate) fn config(&self) -> Result<Config, OpenError> {
        if self.snapshot_every == 0 {
            return Err(OpenError::Settings("snapshots every 0 entries".into()));
        }
        let config = Config {
            cluster_name: "clusterd".into(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_ms.start,
            election_timeout_max: self.election_ms.end,
            enable_pre_vote: Some(true),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            // Back to the snapshot before the last, in case the last is damaged, and a fifth for followers
            // that are a little behind.
            max_in_snapshot_log_to_keep: self.snapshot_every + self.snapshot_every / 5,
            max_payload_entries: BATCH,
            install_snapshot_timeout: SNAPSHOT_MS,
            enable_elect: self.stands,
            // A leader that starts again would lead on in its old term without an entry of its own, and not know which
            // of those it had acknowledged are committed: a read could miss them.
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        config
            .validate()
            .map_err(|e| OpenError::Settings(e.to_string()))
    }
}
