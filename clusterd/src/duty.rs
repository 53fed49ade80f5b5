//! The manager part of a membership, which comes and goes with the node's role while all else stays: the agent, its
//! containers, the connections of others.

use crate::control::Control;
use crate::door::Door;
use crate::identity::Papers;
use crate::member::manager_config;
use crate::vault::Vault;
use anyhow::{Result, anyhow};
use api::model::{NodeId, Role};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use manager::Manager;
use manager::auth::{Policy, guard};
use manager::dialer::Dialer;
use manager::proxy::{Upstream, Workers};
use manager::tls::Tls;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tonic::service::Routes;

/// What decides over calls on a node that is only a worker.
struct WorkerPolicy {
    me: manager::identity::Identity,
    tls: Arc<Tls>,
}

impl Policy for WorkerPolicy {
    fn me(&self) -> Option<manager::identity::Identity> {
        Some(self.me)
    }

    // The managers decide; here nothing of theirs is served.
    fn worker_exec(&self) -> bool {
        true
    }

    fn managers(&self) -> String {
        "`clusterctl node ls` shows which".into()
    }

    fn is_gone(&self, node: NodeId) -> bool {
        self.tls.revoked().is_gone(node)
    }
}

/// What a manager part is made from.
pub struct Parts {
    /// Who this node is.
    pub papers: Arc<Papers>,
    /// Where its replicated state is.
    pub raft: PathBuf,
    /// What that is sealed with.
    pub vault: Arc<Vault>,
    /// How it reaches others.
    pub dialer: Dialer,
    /// Which boot of which machine this is.
    pub instance: Bytes,
    /// What others call on every node.
    pub own: Routes,
    /// Managers known to the agent.
    pub managers: watch::Receiver<Vec<String>>,
    /// Where the local socket's calls go.
    pub control: Control,
    /// Where it is told that the store has failed.
    pub failure: watch::Sender<Option<String>>,
}

struct Running {
    manager: Manager,
    /// Watches the store.
    store: Mutex<Option<JoinHandle<()>>>,
}

/// The manager part.
pub struct Duty {
    parts: Parts,
    door: Door,
    now: ArcSwapOption<Running>,
}

impl Duty {
    /// With the manager that runs already, if there is one.
    pub fn new(parts: Parts, manager: Option<Manager>) -> Self {
        let duty = Self {
            parts,
            door: Door::new(Routes::default()),
            now: ArcSwapOption::empty(),
        };
        match manager {
            Some(manager) => duty.serve(manager),
            None => duty.serve_none(),
        }
        duty
    }

    /// What other nodes reach.
    pub fn routes(&self) -> Routes {
        self.door.routes()
    }

    /// The manager, while this node is one.
    pub fn runs(&self) -> bool {
        self.now.load().is_some()
    }

    /// Whether it is one of the managers that vote.
    pub fn votes(&self) -> bool {
        self.now
            .load()
            .as_ref()
            .is_some_and(|now| now.manager.votes())
    }

    /// Becomes a manager: one that doesn't vote yet.
    ///
    /// # Errors
    /// When its store can't be opened.
    pub async fn take_up(&self) -> Result<()> {
        if self.runs() {
            return Ok(());
        }
        let Parts {
            papers,
            raft,
            vault,
            dialer,
            instance,
            ..
        } = &self.parts;
        let config = manager_config(
            raft.clone(),
            vault,
            &papers.load(),
            dialer.clone(),
            instance.clone(),
        )?;
        self.serve(Manager::start(config).await?);
        tracing::info!("this node is a manager now");
        Ok(())
    }

    fn serve(&self, manager: Manager) {
        let Parts {
            own,
            control,
            failure,
            ..
        } = &self.parts;
        self.door.lead_to(manager.routes(own.clone()));
        control.set(Some((manager.upstream(), manager.policy())));
        let (handle, failure) = (manager.handle().clone(), failure.clone());
        let store = tokio::spawn(async move {
            let why = handle.failure().await;
            failure.send_replace(Some(format!(
                "this manager's store has failed: {why}; containers run on; see that its disk works, then start clusterd again"
            )));
        });
        self.now.store(Some(Arc::new(Running {
            manager,
            store: Mutex::new(Some(store)),
        })));
    }

    /// Is a manager no more: others have let it go, and its state goes.
    ///
    /// # Errors
    /// When its state can't be removed; it is tried again at the next start.
    pub async fn lay_down(&self) -> Result<()> {
        self.serve_none();
        self.end().await;
        forget_state(&self.parts.raft, &self.parts.vault)?;
        tracing::info!("this node is a manager no more");
        Ok(())
    }

    fn serve_none(&self) {
        let Parts {
            papers,
            dialer,
            own,
            managers,
            control,
            ..
        } = &self.parts;
        let who = papers.load().who.clone();
        let me = manager::identity::Identity {
            cluster: who.cluster,
            node: who.node,
            role: Role::Worker,
        };
        let policy: Arc<dyn Policy> = Arc::new(WorkerPolicy {
            me,
            tls: dialer.tls().clone(),
        });
        let upstream: Arc<dyn Upstream> = Workers::new(dialer.clone(), managers.clone());
        self.door.lead_to(guard(own.clone(), policy.clone()));
        control.set(Some((upstream, policy)));
    }

    /// A manager that is new becomes one that votes.
    ///
    /// # Errors
    /// When the managers don't take it in.
    pub async fn join(&self, known: &[String], bound: Duration) -> Result<()> {
        let Some(now) = self.now.load_full() else {
            return Ok(());
        };
        now.manager
            .join(known, bound)
            .await
            .map_err(|status| anyhow!("{}", status.message()))
    }

    /// Has the others let this manager go, if it is not the only one.
    ///
    /// # Errors
    /// When it is, or they don't.
    pub async fn resign(&self, bound: Duration) -> Result<()> {
        let Some(now) = self.now.load_full() else {
            return Ok(());
        };
        let (manager, node) = (&now.manager, now.manager.identity().node);
        let managers = manager.handle().managers();
        let mut voters = managers.iter().filter(|m| m.voter);
        if voters.all(|m| m.peer.node_id == node) {
            anyhow::bail!(
                "this is the cluster's only manager: its state is lost when it leaves; do so with `clusterctl leave --force`"
            );
        }
        manager
            .leave(bound)
            .await
            .map_err(|status| anyhow!("{}", status.message()))
    }

    /// A manager is at this address; nothing on a worker.
    pub fn hint(&self, manager: &str) {
        if let Some(now) = self.now.load_full() {
            now.manager.hint(manager.to_owned());
        }
    }

    /// Which of the managers can be reached; none when this node is no manager.
    pub async fn quorum(&self) -> Option<manager::Quorum> {
        let now = self.now.load_full()?;
        Some(now.manager.quorum().await)
    }

    /// The replicated state; none when this node is no manager.
    pub fn handle(&self) -> Option<raft_store::Handle> {
        self.now
            .load()
            .as_ref()
            .map(|now| now.manager.handle().clone())
    }

    /// How many other managers vote; none when this node is no manager.
    pub fn other_voters(&self) -> Option<usize> {
        let now = self.now.load();
        let manager = &now.as_ref()?.manager;
        let node = manager.identity().node;
        let managers = manager.handle().managers();
        let others = managers
            .iter()
            .filter(|m| m.voter && m.peer.node_id != node);
        Some(others.count())
    }

    /// Another leads from now on, and sessions end, so that nobody waits for this one.
    pub async fn retire(&self) {
        if let Some(now) = self.now.load_full() {
            now.manager.retire().await;
        }
    }

    /// Ends it; its state stays.
    pub async fn end(&self) {
        let Some(now) = self.now.swap(None) else {
            return;
        };
        let store = now.store.lock().await.take();
        if let Some(store) = store {
            store.abort();
            // Aborted, or ended by itself.
            let _ = store.await;
        }
        now.manager.shutdown().await;
    }
}

/// Removes the replicated state of a node that is no manager, and what it was sealed with: its identity isn't, any
/// more.
///
/// # Errors
/// When the disk refuses.
pub fn forget_state(raft: &std::path::Path, vault: &Vault) -> Result<()> {
    match std::fs::remove_dir_all(raft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow!("can't remove {}: {error}", raft.display()))
        }
        _ => vault.forget(),
    }
}
