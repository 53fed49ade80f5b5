//! The start of a container: what it waits for, and what is written before.

use super::driver::{Done, keep_end};
use super::machine::{End, Input};
use super::prepare::Prepared;
use super::{Assigned, Tools};
use api::model::{TaskState, Timestamp};
use runtime::lease::{Terms, boot_ms};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::watch;

/// How often a start is tried whose lease was over before the container had begun.
const LEASE_TRIES: usize = 3;

/// Starts its container: written down first, and within a lease where it needs one.
pub(super) async fn start(start: Start, mut prepared: Prepared) -> Done {
    let failed = |why: String| Done::Input(Input::StartFailed(why));
    let mut tries = 0;
    loop {
        tries += 1;
        if let Some(terms) = prepared.container.lease {
            match start.lease(&terms).await {
                Ok(before) => prepared.container.begin_before_ms = Some(before),
                Err(why) => {
                    let refused = why.clone();
                    keep_end(
                        &start.tools,
                        start.assigned.task.id,
                        &End::Refused { refused },
                    );
                    return failed(why);
                }
            }
        }
        // Before the container is: one that is gone later was begun, and is not begun twice.
        let begun = start.tools.places(start.assigned.task.id).begun();
        if let Err(error) = tokio::fs::write(&begun, "").await {
            return failed(format!("can't write {}: {error}", begun.display()));
        }
        let held: std::io::Result<Vec<OwnedFd>> =
            prepared.held.iter().map(OwnedFd::try_clone).collect();
        let held = match held {
            Ok(held) => held,
            Err(error) => return failed(format!("can't pass its sockets on: {error}")),
        };
        let container = prepared.container.clone();
        let error = match start.tools.runtime.run(container, held).await {
            Ok(started) => {
                return Done::Input(Input::Started {
                    pid: started.pid.unsigned_abs(),
                    since: Timestamp(started.at_ms),
                });
            }
            Err(error) => error,
        };
        let before = prepared.container.begin_before_ms;
        let is_late = before.is_some_and(|before| boot_ms().is_ok_and(|now| now >= before));
        if !is_late || tries == LEASE_TRIES {
            return failed(error.to_string());
        }
    }
}

/// A start, as far as it is decided here.
pub(super) struct Start {
    pub tools: Arc<Tools>,
    pub assigned: Arc<Assigned>,
    pub desired: watch::Receiver<TaskState>,
    /// Its node starts it again, without managers.
    pub alone: bool,
}

impl Start {
    /// Waits for a lease to begin in: before when that is to be.
    async fn lease(&self, terms: &Terms) -> Result<u64, String> {
        let unwanted = || Err("it is not wanted any more".to_owned());
        let before = tokio::select! {
            () = until_unwanted(self.desired.clone()) => return unwanted(),
            held = self.tools.keeper.holds(terms, self.alone) => held?,
        };
        // What gives the lease back was told before that a task is not wanted any more: so it is known by now.
        if *self.desired.borrow() > TaskState::Running {
            return unwanted();
        }
        Ok(before)
    }
}

/// Returns when the managers want the task to end.
async fn until_unwanted(mut desired: watch::Receiver<TaskState>) {
    let told = desired.wait_for(|wanted| *wanted > TaskState::Running);
    if told.await.is_err() {
        std::future::pending().await
    }
}
