//! The agents' sessions: assignments out, heartbeats and statuses in. Only while this manager leads.
//!
//! ```text
//! agent ⇄ session ─ hello, end ─► hub (one task) ─ tables, differences ─► sessions' queues ─► agents
//!            └────── statuses ──► batcher (one task) ─ one transaction for all ─► Raft ─► acknowledgements
//! ```
//!
//! Every queue is bounded. A session that does not take its messages in time is ended and begins anew with a
//! full message: nothing is sent that can't be made again from the state.

mod batch;
mod core;
mod hub;
mod judge;
mod liveness;
mod overview;
mod parts;
mod session;
mod skew;
mod standing;
mod statuses;
mod view;

pub use self::core::Core;
pub use self::judge::{Bounds, Judgement, When, judge};
pub use self::liveness::{Liveness, TICK};
pub(crate) use self::standing::{managers, marked as removed, removed_text};
pub use self::statuses::news;

use crate::auth::Caller;
use api::proto::dispatch_server;
use api::proto::{AgentMessage, ManagerMessage};
use arc_swap::ArcSwapOption;
use hub::HubHandle;
pub(crate) use overview::Overview;
use raft_store::Handle;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

/// The metadata key that names the leader, `host:port`.
pub const LEADER_KEY: &str = "leader";
/// The metadata of a refusal of a node that was removed: it comes back no more.
pub const GONE_KEY: &str = "gone";

/// The service.
#[derive(Clone)]
pub(crate) struct Dispatch {
    handle: Handle,
    /// There while this manager leads.
    hub: Arc<ArcSwapOption<HubHandle>>,
    overview: Arc<Overview>,
    /// Owns the sessions' readers.
    tasks: TaskTracker,
}

impl Dispatch {
    pub fn new(handle: Handle, tasks: TaskTracker) -> Self {
        Self {
            handle,
            hub: Arc::default(),
            overview: Arc::default(),
            tasks,
        }
    }

    /// What it knows of nodes while it leads.
    pub fn overview(&self) -> Arc<Overview> {
        self.overview.clone()
    }

    /// Serves sessions until it is stopped.
    pub async fn lead(&self, stop: CancellationToken) {
        let (hub, running) = hub::start(self.handle.clone(), self.overview.clone(), stop);
        self.hub.store(Some(Arc::new(hub)));
        running.await;
        self.hub.store(None);
    }
}

/// The answer of a manager that does not lead.
pub(crate) fn not_the_leader(handle: &Handle) -> Status {
    let mut status = Status::failed_precondition("this manager is not the leader");
    let leader = handle
        .leadership()
        .borrow()
        .leader
        .as_ref()
        .map(|peer| peer.addr.clone());
    if let Some(addr) = leader.and_then(|addr| MetadataValue::try_from(addr).ok()) {
        status.metadata_mut().insert(LEADER_KEY, addr);
    }
    status
}

#[tonic::async_trait]
impl dispatch_server::Dispatch for Dispatch {
    type SessionStream =
        Pin<Box<dyn futures_util::Stream<Item = Result<ManagerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let Some(Caller::Peer(peer, _)) = request.extensions().get::<Caller>() else {
            return Err(Status::unauthenticated(
                "a session needs a node's certificate",
            ));
        };
        let node = peer.node;
        let Some(hub) = self.hub.load_full() else {
            return Err(not_the_leader(&self.handle));
        };
        let stream =
            session::open(&self.tasks, &self.handle, hub, node, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}
