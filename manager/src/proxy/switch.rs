//! Where a node's own calls go, as it joins and leaves: nowhere, to the managers, or to itself.

use super::{Failure, Target, Upstream};
use crate::dialer::Dialer;
use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::Status;
use tonic::service::Routes;

/// An upstream that can be replaced, for the local socket, which outlives every membership.
pub struct Switch {
    now: ArcSwapOption<Arc<dyn Upstream>>,
    /// Why no call goes anywhere any more.
    closed: ArcSwapOption<String>,
    moved: watch::Sender<()>,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            now: ArcSwapOption::empty(),
            closed: ArcSwapOption::empty(),
            moved: watch::channel(()).0,
        }
    }
}

impl Switch {
    /// Calls go nowhere yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on calls go there; nowhere when it is none.
    pub fn set(&self, upstream: Option<Arc<dyn Upstream>>) {
        self.now.store(upstream.map(Arc::new));
        self.moved.send_replace(());
    }

    /// From now on, and for good, calls are refused with `why`: the daemon ends. A membership that is taken away
    /// for that is not one that never was.
    pub fn close(&self, why: &str) {
        self.closed.store(Some(Arc::new(why.to_owned())));
        self.moved.send_replace(());
    }
}

impl Upstream for Switch {
    fn local(&self) -> Option<Routes> {
        self.now
            .load()
            .as_ref()
            .and_then(|upstream| upstream.local())
    }

    fn pick(&self, failures: &[Failure]) -> Target {
        if let Some(why) = &*self.closed.load() {
            return Target::Refuse(Status::unavailable(why.as_str()));
        }
        match &*self.now.load() {
            Some(upstream) => upstream.pick(failures),
            None => Target::Refuse(Status::failed_precondition(
                "this node belongs to no cluster; make one with `clusterctl init`, or join one with `clusterctl join`",
            )),
        }
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let mut moved = self.moved.subscribe();
        let inner = self.now.load().as_ref().map(|upstream| upstream.changed());
        Box::pin(async move {
            let moved = async {
                // An error means that the switch is gone, and the call with it.
                let _ = moved.changed().await;
            };
            match inner {
                Some(inner) => tokio::select! { () = inner => {}, () = moved => {} },
                None => moved.await,
            }
        })
    }

    fn explain(&self, failures: Vec<Failure>) -> BoxFuture<'static, String> {
        if let Some(why) = &*self.closed.load() {
            return Box::pin(std::future::ready(why.as_ref().clone()));
        }
        match &*self.now.load() {
            Some(upstream) => upstream.explain(failures),
            None => Box::pin(std::future::ready("this node has left its cluster".into())),
        }
    }
}

/// The upstream of a node that is only a worker: any manager.
pub struct Workers {
    dialer: Dialer,
    managers: watch::Receiver<Vec<String>>,
}

impl Workers {
    /// The managers are those of `managers`, `host:port`, the likeliest first.
    #[must_use]
    pub fn new(dialer: Dialer, managers: watch::Receiver<Vec<String>>) -> Arc<Self> {
        Arc::new(Self { dialer, managers })
    }
}

impl Upstream for Workers {
    fn pick(&self, failures: &[Failure]) -> Target {
        let managers = self.managers.borrow();
        let next = managers
            .iter()
            .find(|addr| failures.iter().all(|failure| failure.addr != **addr));
        match next {
            Some(addr) => Target::Peer {
                addr: addr.clone(),
                channel: self.dialer.manager(addr),
                leader: false,
            },
            None => Target::Wait,
        }
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let mut managers = self.managers.clone();
        managers.mark_unchanged();
        Box::pin(async move {
            if managers.changed().await.is_err() {
                // Nobody tells of managers any more: what is known stays.
                std::future::pending::<()>().await;
            }
        })
    }

    fn explain(&self, failures: Vec<Failure>) -> BoxFuture<'static, String> {
        let known = self.managers.borrow().len();
        let text = if known == 0 {
            "this node knows no manager; is it still a member? see `clusterctl node ls` on a manager".into()
        } else {
            let tried: Vec<_> = failures.into_iter().map(|failure| failure.cause).collect();
            format!(
                "no manager can be reached: {}; is clusterd running there, and unlocked? If they are elsewhere now and don't find this node either, say where with `clusterctl node update self --manager ADDRESS`",
                tried.join("; ")
            )
        };
        Box::pin(std::future::ready(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(switch: &Switch) -> String {
        match switch.pick(&[]) {
            Target::Refuse(status) => status.message().to_owned(),
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn a_daemon_that_ends_does_not_say_that_there_never_was_a_cluster() {
        let switch = Switch::new();
        assert!(refusal(&switch).contains("belongs to no cluster"));
        switch.close("the disk is full");
        switch.set(None);
        assert_eq!(refusal(&switch), "the disk is full");
    }
}
