//! A manager that is locked: its agent keeps what runs here, its state and its private key wait for the unlock key.

use super::{Node, Shown};
use crate::control::LOCKED;
use crate::follow::Verdict;
use crate::identity::{Identity, Papers, Who};
use crate::instance;
use crate::waiting::Waiting;
use agent::Left;
use anyhow::{Context, Result, bail};
use api::model::UnlockKey;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

/// How long a wrong key costs.
const WRONG: Duration = Duration::from_secs(1);
/// How often this machine's address is looked for.
const LOOK: Duration = Duration::from_millis(250);

impl Node {
    /// Refuses what a manager that is locked doesn't do.
    ///
    /// # Errors
    /// When it is.
    pub(super) fn refuse_locked(&self) -> Result<()> {
        match self.is_locked() {
            true => bail!(LOCKED),
            false => Ok(()),
        }
    }

    /// The same, for calls.
    ///
    /// # Errors
    /// When it is.
    pub fn check_unlocked(&self) -> Result<(), Status> {
        match self.is_locked() {
            true => Err(Status::failed_precondition(LOCKED)),
            false => Ok(()),
        }
    }

    fn is_locked(&self) -> bool {
        self.shown
            .borrow()
            .as_ref()
            .is_some_and(|shown| shown.is_locked)
    }

    /// Starts what needs no key, and waits for it.
    pub(super) async fn wait_locked(&self, who: Who) -> Result<()> {
        let identity = Identity {
            who: who.clone(),
            key_pem: String::new(),
            cert_pem: String::new(),
            ca_pem: String::new(),
        };
        self.control.lock();
        self.shown.send_replace(Some(Shown {
            papers: Arc::new(Papers::from_pointee(identity.clone())),
            manager: watch::channel(None).1,
            is_locked: true,
        }));
        tracing::warn!("{LOCKED}; containers run on");
        // A boot may be quicker than its network. Another address is taken once this manager can write it down.
        loop {
            let slot = self.member.write().await;
            if !self.is_locked() {
                return Ok(());
            }
            if self.look(&who) == Verdict::Stays {
                let instance = instance::of(&self.places.run)?;
                let waiting = Waiting::start(&self.setup(), identity, instance).await?;
                *self.waiting.lock().await = Some(waiting);
                return Ok(());
            }
            drop(slot);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Goes on with the membership, given the unlock key.
    ///
    /// # Errors
    /// When it is none, or another one; or what keeps the membership from starting, and then the daemon ends.
    pub async fn unlock(&self, text: &str) -> Result<()> {
        let mut slot = self.member.write().await;
        if !self.is_locked() {
            bail!("this machine is not locked");
        }
        let key: UnlockKey = text.parse()?;
        if let Err(error) = self.vault.unlock(&key) {
            // One at a time, so nobody tries many.
            tokio::time::sleep(WRONG).await;
            return Err(error.into());
        }
        tracing::info!("unlocked");
        let waiting = self.waiting.lock().await.take();
        let begun = async {
            let identity = Identity::load(&self.places.identity(), &self.vault)?
                .context("this node's identity is gone")?;
            if self.look(&identity.who) == Verdict::Stays {
                *slot = Some(self.begin_with(identity, waiting).await?);
                return Ok(());
            }
            if let Some(waiting) = waiting {
                waiting.shutdown().await;
            }
            self.shown.send_replace(None);
            drop(slot);
            self.begin_placed().await
        };
        begun.await.map_err(|error: anyhow::Error| {
            // As at a start without a lock.
            self.failure.send_replace(Some(format!("{error:#}")));
            error.context("the key fits, and this manager can't start all the same; clusterd ends")
        })
    }

    /// Takes a machine out of its cluster that nobody can unlock. Says what could not be removed.
    pub(super) async fn leave_locked(&self, waiting: Waiting) -> Left {
        let mut left = waiting.leave().await;
        if let Err(error) = Identity::remove(&self.places.identity()) {
            left.problems.push(format!("{error:#}"));
        }
        self.remove_state();
        self.control.set(None);
        self.shown.send_replace(None);
        tracing::warn!("left the cluster, locked: its managers don't know of it");
        left
    }
}
