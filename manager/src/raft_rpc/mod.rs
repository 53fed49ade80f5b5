//! openraft's network over gRPC: [`Network`] calls, [`RaftService`] answers; and how a manager comes in and
//! goes out.

mod client;
mod members;
mod pipeline;
mod reach;
mod server;

pub(crate) use client::Network;
pub(crate) use members::{hand_over, join_raft, leave_raft};
pub(crate) use server::RaftService;

use api::proto::HealthReply;
use bytes::Bytes;
use raft_store::Handle;

/// How this manager's store does.
pub(crate) fn health(handle: &Handle, instance: &Bytes) -> HealthReply {
    let health = handle.health();
    HealthReply {
        applied: health.applied,
        snapshot: health.snapshot.unwrap_or(0),
        snapshot_at: health.snapshot_at_ms.unwrap_or(0),
        syncs: health.sync.count,
        sync_p50_us: health.sync.p50_us,
        sync_p99_us: health.sync.p99_us,
        sync_max_us: health.sync.max_us,
        instance: instance.clone(),
    }
}
