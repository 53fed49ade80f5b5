//! The shell around the node's lease: writes it where the containers' shims read it, and tells drivers that wait for it.

use crate::footing::Footing;
use crate::lease::{BootMs, Lease};
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
    footing: watch::Sender<Footing>,
}

impl Keeper {
    /// Goes on with the lease of an earlier daemon of this boot.
    pub fn new(runtime: Runtime) -> Self {
        let before = runtime.lease_renewed();
        Self {
            lease: Mutex::new(Lease::resumed(before)),
            footing: watch::channel(Footing::new(before)).0,
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
        self.footing.send_modify(|footing| footing.renewed(renewed));
    }

    /// A session is over.
    pub fn session_ended(&self) {
        self.lease().session_ended();
        self.footing.send_modify(Footing::session_ended);
    }

    /// The session's number.
    pub fn session(&self) -> u64 {
        self.footing.borrow().session()
    }

    /// All that the managers want, as they have said it in this session, has been acted on.
    pub fn acted_on(&self, session: u64) {
        self.footing
            .send_modify(|footing| footing.acted_on(session));
    }

    /// Whether a lease of so many milliseconds is not over.
    pub fn has_left(&self, lease_ms: u64) -> bool {
        let terms = Terms {
            lease_ms,
            grace_ms: 0,
        };
        boot_ms().is_ok_and(|now| terms.hold(self.footing.borrow().lease(), now))
    }

    /// Waits until a container may begin on these terms: before when ([`boot_ms`]). See [`Footing::begin_before`].
    ///
    /// # Errors
    /// When no manager acknowledges a heartbeat in time, or what they want could not be acted on.
    pub async fn holds(&self, terms: &Terms, alone: bool) -> Result<BootMs, String> {
        let mut footing = self.footing.subscribe();
        let held = async {
            loop {
                let now = boot_ms().ok();
                let found = *footing.borrow_and_update();
                if let Some(before) = now.and_then(|now| found.begin_before(terms, alone, now)) {
                    return before;
                }
                // The keeper, which sends them, is there as long as this.
                if footing.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        if let Ok(before) = timeout(WAIT, held).await {
            return Ok(before);
        }
        let seconds = WAIT.as_secs();
        let now = *self.footing.borrow();
        let is_heard = boot_ms().is_ok_and(|at| terms.hold(now.lease(), at));
        Err(if is_heard && !now.is_current() {
            format!(
                "it runs only once this node has done what a manager wants, which took more than {seconds} s"
            )
        } else {
            format!("it runs only while a manager is heard, and none was within {seconds} s")
        })
    }
}
