//! The shell around the node's lease: writes it where the containers' shims read it, and tells drivers that wait for it.

use crate::lease::Lease;
use runtime::Runtime;
use runtime::lease::{Terms, boot_ms};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a task waits for a lease to begin in: a session and its first heartbeats.
const WAIT: Duration = Duration::from_secs(30);

/// The keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    lease: Mutex<Lease>,
    runtime: Runtime,
    renewed: watch::Sender<Option<u64>>,
}

impl Keeper {
    /// Goes on with the lease of an earlier daemon of this boot.
    pub fn new(runtime: Runtime) -> Self {
        let before = runtime.lease_renewed();
        Self {
            lease: Mutex::new(Lease::resumed(before)),
            renewed: watch::channel(before).0,
            runtime,
        }
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        // A panic while it was held leaves a lease that is whole.
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A heartbeat is sent now: its sequence. Without a clock it renews nothing.
    pub fn beat(&self) -> u64 {
        boot_ms().map_or(0, |now| self.lease().beat(now))
    }

    /// A heartbeat is acknowledged.
    pub fn acknowledged(&self, sequence: u64) {
        let Some(renewed) = self.lease().acknowledged(sequence) else {
            return;
        };
        if let Err(error) = self.runtime.renew_lease(renewed) {
            tracing::error!(%error, "can't note the node's lease; containers that live by it will be stopped");
        }
        self.renewed.send_replace(Some(renewed));
    }

    /// A session is over.
    pub fn session_ended(&self) {
        self.lease().session_ended();
    }

    /// Whether a lease of so many milliseconds is not over.
    pub fn has_left(&self, lease_ms: u64) -> bool {
        let terms = Terms {
            lease_ms,
            grace_ms: 0,
        };
        boot_ms().is_ok_and(|now| terms.hold(*self.renewed.borrow(), now))
    }

    /// Waits until a container may begin on these terms.
    ///
    /// # Errors
    /// When no manager acknowledges a heartbeat in time.
    pub async fn holds(&self, terms: &Terms) -> Result<(), String> {
        let mut renewed = self.renewed.subscribe();
        let held = renewed.wait_for(|renewed| boot_ms().is_ok_and(|now| terms.hold(*renewed, now)));
        match timeout(WAIT, held).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!(
                "it runs only while a manager is heard, and none was within {} s",
                WAIT.as_secs()
            )),
        }
    }
}
