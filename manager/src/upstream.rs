//! A manager's view of where calls go and who may make them.

use crate::auth::Policy;
use crate::dialer::Dialer;
use crate::identity::Identity;
use crate::proxy::{Failure, Target, Upstream};
use crate::quorum::Quorum;
use crate::tls::Tls;
use api::model::{NodeId, Role};
use api::state::State;
use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use raft_store::{Handle, Leadership};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::service::Routes;

/// To itself while it leads, else to the leader.
pub struct ManagerUpstream {
    handle: Handle,
    dialer: Dialer,
    me: NodeId,
    leadership: watch::Receiver<Leadership>,
    /// What it serves itself.
    here: ArcSwapOption<Routes>,
}

impl ManagerUpstream {
    pub fn new(handle: Handle, dialer: Dialer, me: NodeId) -> Self {
        let leadership = handle.leadership();
        Self {
            handle,
            dialer,
            me,
            leadership,
            here: ArcSwapOption::empty(),
        }
    }

    /// What it serves itself; set once, as the services know the upstream's manager.
    pub fn serve(&self, routes: Routes) {
        self.here.store(Some(std::sync::Arc::new(routes)));
    }
}

impl Upstream for ManagerUpstream {
    fn local(&self) -> Option<Routes> {
        self.here.load_full().map(|routes| (*routes).clone())
    }

    fn pick(&self, _: &[Failure]) -> Target {
        let leadership = self.leadership.borrow();
        if leadership.own {
            return match self.here.load_full() {
                Some(routes) => Target::Here((*routes).clone()),
                None => Target::Wait,
            };
        }
        match &leadership.leader {
            Some(peer) if peer.node_id != self.me => Target::Peer {
                addr: peer.addr.clone(),
                channel: self.dialer.node(&peer.addr, peer.node_id),
                leader: true,
            },
            _ => Target::Wait,
        }
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let mut leadership = self.leadership.clone();
        leadership.mark_unchanged();
        Box::pin(async move {
            if leadership.changed().await.is_err() {
                // Raft has stopped: nothing changes any more.
                std::future::pending::<()>().await;
            }
        })
    }

    fn explain(&self, failures: Vec<Failure>) -> BoxFuture<'static, String> {
        let (dialer, me, handle) = (self.dialer.clone(), self.me, self.handle.clone());
        Box::pin(async move {
            let quorum = Quorum::of(&handle, &dialer, me).await;
            let causes = failures.into_iter().map(|failure| failure.cause);
            quorum.explain(handle.read(State::revision), causes.collect())
        })
    }
}

/// What decides over calls on a manager.
pub struct ManagerPolicy {
    pub handle: Handle,
    pub me: Identity,
    pub leadership: watch::Receiver<Leadership>,
    pub tls: Arc<Tls>,
}

impl Policy for ManagerPolicy {
    fn me(&self) -> Option<Identity> {
        Some(self.me)
    }

    fn worker_exec(&self) -> bool {
        self.handle.read(|state| {
            state
                .cluster()
                .is_none_or(|cluster| cluster.spec.worker_exec)
        })
    }

    fn managers(&self) -> String {
        let list: Vec<String> = self.handle.read(|state| {
            let managers = state
                .nodes()
                .values()
                .filter(|node| node.spec.role == Role::Manager);
            managers
                .map(|node| format!("{} {}", node.description.hostname, node.addr))
                .collect()
        });
        list.join(", ")
    }

    /// Who was removed or fenced is remembered; that somebody is not known at all, only the leader's state is new enough
    /// to say.
    fn is_gone(&self, node: NodeId) -> bool {
        let leads = self.leadership.borrow().own;
        self.handle.read(|state| {
            state.cluster().is_some_and(|cluster| {
                cluster.recovery.fenced.contains(&node)
                    || cluster.revoked.contains_key(&node)
                    || (leads && !state.nodes().contains_key(&node))
            })
        })
    }

    /// Only the leader's state is new enough: one that catches up meets days when its leader was none.
    fn is_demoted(&self, node: NodeId) -> bool {
        if !self.leadership.borrow().own {
            return false;
        }
        let is_worker = self.handle.read(|state| {
            let known = state.nodes().get(&node);
            known.is_some_and(|known| known.spec.role == Role::Worker)
        });
        // One that is being let go takes part until it is.
        is_worker
            && !self
                .handle
                .managers()
                .iter()
                .any(|manager| manager.peer.node_id == node)
    }

    fn has_ended(&self) -> bool {
        self.tls.has_ended(crate::now())
    }
}
