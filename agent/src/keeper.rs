//! The shell around the node's lease: writes it where the containers' shims read it, and tells drivers that wait for it.

use crate::lease::{BootMs, Lease};
use runtime::Runtime;
use runtime::lease::{Terms, boot_ms};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a task waits for a lease to begin in: a session and its first heartbeats.
const WAIT: Duration = Duration::from_secs(30);

/// What a container that begins stands on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Footing {
    /// Since when the lease runs.
    renewed: Option<BootMs>,
    /// Which session it is, or the next.
    session: u64,
    /// The last session whose assignments have been acted on.
    acted_on: u64,
}

impl Footing {
    /// Whether a container may begin. A lease that was over and runs again tells nothing of what was assigned before: an
    /// exclusive task may run elsewhere by now. So for that the managers must have said in this session what they want.
    fn holds(&self, terms: &Terms, exclusive: bool, now: BootMs) -> bool {
        terms.hold(self.renewed, now) && (!exclusive || self.acted_on == self.session)
    }
}

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
            footing: watch::channel(Footing {
                renewed: before,
                session: 1,
                acted_on: 0,
            })
            .0,
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
        self.footing
            .send_modify(|footing| footing.renewed = Some(renewed));
    }

    /// A session is over.
    pub fn session_ended(&self) {
        self.lease().session_ended();
        self.footing.send_modify(|footing| footing.session += 1);
    }

    /// The session's number.
    pub fn session(&self) -> u64 {
        self.footing.borrow().session
    }

    /// All that the managers want, as they have said it in this session, has been acted on: what is not wanted any more
    /// knows it.
    pub fn acted_on(&self, session: u64) {
        self.footing.send_modify(|footing| {
            footing.acted_on = footing.acted_on.max(session);
        });
    }

    /// Whether a lease of so many milliseconds is not over.
    pub fn has_left(&self, lease_ms: u64) -> bool {
        let terms = Terms {
            lease_ms,
            grace_ms: 0,
        };
        boot_ms().is_ok_and(|now| terms.hold(self.footing.borrow().renewed, now))
    }

    /// Waits until a container may begin on these terms.
    ///
    /// # Errors
    /// When no manager acknowledges a heartbeat in time.
    pub async fn holds(&self, terms: &Terms, exclusive: bool) -> Result<(), String> {
        let mut footing = self.footing.subscribe();
        let held = footing
            .wait_for(|footing| boot_ms().is_ok_and(|now| footing.holds(terms, exclusive, now)));
        match timeout(WAIT, held).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!(
                "it runs only while a manager is heard, and none was within {} s",
                WAIT.as_secs()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_task_begins_only_once_this_session_has_said_that_it_is_wanted() {
        let terms = Terms {
            lease_ms: 5_000,
            grace_ms: 0,
        };
        let footing = |renewed, session, acted_on| Footing {
            renewed,
            session,
            acted_on,
        };
        let both = |footing: Footing| [false, true].map(|e| footing.holds(&terms, e, 10_000));
        assert_eq!(both(footing(Some(9_000), 3, 3)), [true, true]);
        // The last session's word, with this one's lease.
        assert_eq!(both(footing(Some(9_000), 3, 2)), [true, false]);
        assert_eq!(both(footing(Some(4_000), 3, 3)), [false, false]);
        assert_eq!(both(footing(None, 1, 0)), [false, false]);
    }
}
