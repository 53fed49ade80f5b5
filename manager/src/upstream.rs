//! A manager's view of where calls go and who may make them.

use crate::auth::Policy;
use crate::dialer::Dialer;
use crate::identity::Identity;
use crate::proxy::{Failure, Target, Upstream};
use api::model::{NodeId, Role};
use arc_swap::ArcSwapOption;
use futures_util::future::{BoxFuture, join_all};
use raft_store::{Handle, Leadership};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::service::Routes;

/// How long another manager may take to show that it is there.
const PROBE_BOUND: Duration = Duration::from_millis(1_500);

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
        let (dialer, me) = (self.dialer.clone(), self.me);
        let managers = self.handle.managers();
        Box::pin(async move {
            let others = managers.iter().filter(|manager| manager.peer.node_id != me);
            let asked = others.map(|manager| {
                let (addr, dialer) = (manager.peer.addr.clone(), dialer.clone());
                async move {
                    match timeout(PROBE_BOUND, dialer.probe(&addr)).await {
                        Ok(Ok(())) => Ok(addr),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(_) => Err(format!("{addr} does not answer")),
                    }
                }
            });
            let answers = join_all(asked).await;
            let up = 1 + answers.iter().filter(|answer| answer.is_ok()).count();
            let voters = managers
                .iter()
                .filter(|manager| manager.voter)
                .count()
                .max(1);
            let mut down: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
            if down.is_empty() {
                down.extend(failures.into_iter().map(|failure| failure.cause));
            }
            let why = if down.is_empty() {
                String::new()
            } else {
                format!(": {}", down.join("; "))
            };
            format!(
                "the cluster has no leader now: {up} of {voters} managers can be reached, {} are needed{why}",
                voters / 2 + 1
            )
        })
    }
}

/// What decides over calls on a manager.
pub struct ManagerPolicy {
    pub handle: Handle,
    pub me: Identity,
    pub leadership: watch::Receiver<Leadership>,
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

    /// Only the leader's state is new enough to say so.
    fn is_gone(&self, node: NodeId) -> bool {
        self.leadership.borrow().own
            && self
                .handle
                .read(|state| state.cluster().is_some() && !state.nodes().contains_key(&node))
    }
}
