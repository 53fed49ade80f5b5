//! This manager's keys follow the cluster's setting: wrapped with the unlock key, where managers are locked.
//!
//! It looks at what is, so one that was down meanwhile does it when it has caught up, and one that can't write tries
//! again.

use api::state::State;
use raft_store::Handle;
use seal::Keys;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two tries at what the disk has refused.
const RETRY: Duration = Duration::from_secs(2);

/// Does it once.
pub(crate) async fn follow(handle: &Handle, keys: &Arc<Keys>) -> io::Result<()> {
    let lock = |state: &State| state.cluster().map(|cluster| cluster.lock.clone());
    let Some(lock) = handle.read(lock) else {
        return Ok(());
    };
    let keys = keys.clone();
    let work = move || {
        let has_written = keys.follow(lock.version, lock.key.as_ref().map(|key| key.bytes()))?;
        if has_written {
            tracing::info!(
                locks = lock.key.is_some(),
                "this manager's keys are wrapped anew"
            );
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// Does it from now on.
pub(crate) async fn follow_always(handle: Handle, keys: Arc<Keys>, stop: CancellationToken) {
    let mut changes = handle.cluster_changes();
    let mut failed = false;
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(RETRY), if failed => {}
            () = stop.cancelled() => return,
        }
        let done = follow(&handle, &keys).await;
        failed = done.is_err();
        if let Err(error) = done {
            tracing::error!(%error, "this manager is not locked as the cluster's settings want it; trying again");
        }
    }
}
