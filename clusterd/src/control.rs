//! What the local socket leads to, beside this node's own services.

use api::model::NodeId;
use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use manager::auth::{Policy, guard};
use manager::proxy::{Failure, Switch, Target, Upstream};
use std::sync::Arc;
use tonic::Status;
use tonic::service::Routes;

/// What a manager that is locked says to every call but the one that unlocks it.
pub const LOCKED: &str = "this manager is locked: run `clusterctl unlock` on it";

/// The local socket's way to the managers, which outlives every membership.
#[derive(Clone, Default)]
pub struct Control {
    upstream: Arc<Switch>,
    policy: Arc<LocalPolicy>,
}

impl Control {
    /// What is behind the socket: this node's own services, and the cluster's by way of the managers.
    pub fn routes(&self, own: Routes) -> Routes {
        guard(
            manager::proxy::forward(own, self.upstream.clone()),
            self.policy.clone(),
        )
    }

    /// From now on calls go there.
    pub fn set(&self, member: Option<(Arc<dyn Upstream>, Arc<dyn Policy>)>) {
        let (upstream, policy) = member.unzip();
        self.policy.0.store(policy.map(Arc::new));
        self.upstream.set(upstream);
    }

    /// Where calls go, whatever that is at the time.
    pub fn upstream(&self) -> Arc<dyn Upstream> {
        self.upstream.clone()
    }

    /// Until it is set again calls are refused, for this manager is locked.
    pub fn lock(&self) {
        self.policy.0.store(None);
        let status = Status::failed_precondition(LOCKED);
        self.upstream.set(Some(Arc::new(Refusing(status))));
    }

    /// Until it is set again calls are refused with `why`.
    pub fn refuse(&self, why: &str) {
        self.policy.0.store(None);
        let status = Status::unavailable(why);
        self.upstream.set(Some(Arc::new(Refusing(status))));
    }

    /// From now on, and for good, calls are refused with `why`.
    pub fn close(&self, why: &str) {
        self.upstream.close(why);
    }
}

/// What decides over calls through the local socket: the membership's word, if there is one.
#[derive(Default)]
struct LocalPolicy(ArcSwapOption<Arc<dyn Policy>>);

impl Policy for LocalPolicy {
    fn me(&self) -> Option<manager::identity::Identity> {
        self.0.load().as_ref().and_then(|policy| policy.me())
    }

    fn worker_exec(&self) -> bool {
        self.0
            .load()
            .as_ref()
            .is_none_or(|policy| policy.worker_exec())
    }

    fn managers(&self) -> String {
        self.0
            .load()
            .as_ref()
            .map(|policy| policy.managers())
            .unwrap_or_default()
    }

    fn is_gone(&self, _: NodeId) -> bool {
        false
    }
}

/// Leads nowhere for now, and says why.
struct Refusing(Status);

impl Upstream for Refusing {
    fn pick(&self, _: &[Failure]) -> Target {
        Target::Refuse(self.0.clone())
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn explain(&self, _: Vec<Failure>) -> BoxFuture<'static, String> {
        Box::pin(std::future::ready(self.0.message().to_owned()))
    }
}
