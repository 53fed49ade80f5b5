//! The answering side.

use super::members;
use crate::auth::{Caller, Origin};
use crate::control::Reply;
use crate::place::Me;
use api::model::NodeId;
use api::proto::{self, SnapshotChunk, raft_server};
use futures_util::{Stream, StreamExt, stream};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::storage::Snapshot;
use raft_store::{Handle, TypeConfig, wire};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Largest snapshot taken, bytes.
const SNAPSHOT_MAX: u64 = 1 << 30;

/// The service.
#[derive(Clone)]
pub(crate) struct RaftService {
    handle: Handle,
    me: Me,
    stop: CancellationToken,
}

impl RaftService {
    pub fn new(me: Me, stop: CancellationToken) -> Self {
        Self {
            handle: me.handle.clone(),
            me,
            stop,
        }
    }

    /// Ends when this manager stops, and when it begins to lead: who may call a leader is asked of the state, at
    /// the beginning of each call, and one that was demoted must not go on with a call from before.
    fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let (stop, mut leadership) = (self.stop.clone(), self.handle.leadership());
        leadership.mark_unchanged();
        let leads = async move {
            // An error means that the consensus has ended.
            while leadership.changed().await.is_ok() && !leadership.borrow().own {}
        };
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = leads => {}
            }
        }
    }
}

/// The requests of a stream until one can't be read, which is told to `wrong`.
fn readable(
    incoming: Streaming<proto::AppendEntriesRequest>,
    wrong: oneshot::Sender<Status>,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
    stream::unfold((incoming, wrong), |(mut incoming, wrong)| async {
        let next = match incoming.message().await {
            Ok(None) => return None,
            Ok(Some(message)) => wire::read_append_request(&message).map_err(unreadable),
            Err(status) => Err(status),
        };
        match next {
            Ok(request) => Some((request, (incoming, wrong))),
            Err(status) => {
                // Whoever called may be gone.
                let _ = wrong.send(status);
                None
            }
        }
    })
}

/// Who asks, however many managers have passed it on.
fn asks<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let node = match request.extensions().get::<Origin>() {
        Some(Origin {
            node: Some(node), ..
        }) => Some(*node),
        _ => match request.extensions().get::<Caller>() {
            Some(Caller::Peer(peer, _) | Caller::Ended(peer, _)) => Some(peer.node),
            _ => None,
        },
    };
    node.ok_or_else(|| Status::unauthenticated("a manager is known by its certificate"))
}

fn unreadable(error: wire::WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn ended(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this manager's consensus has ended: {error}"))
}

#[tonic::async_trait]
impl raft_server::Raft for RaftService {
    type StreamAppendStream = Reply<proto::AppendEntriesReply>;

    async fn stream_append(
        &self,
        request: Request<Streaming<proto::AppendEntriesRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        if self.stop.is_cancelled() {
            return Err(Status::unavailable("this manager is stopping"));
        }
        let (wrong, told) = oneshot::channel();
        let requests = readable(request.into_inner(), wrong).take_until(Box::pin(self.over()));
        let raft = self.handle.raft();
        let replies = raft.stream_append(requests).map(|reply| match reply {
            Ok(reply) => Ok(wire::append_reply(&AppendEntriesResponse::from(reply))),
            Err(fatal) => Err(ended(fatal)),
        });
        // Without one nothing was wrong.
        let last = stream::once(told).filter_map(async |told| told.ok().map(Err));
        Ok(Response::new(Box::pin(replies.chain(last))))
    }

    async fn append_entries(
        &self,
        request: Request<proto::AppendEntriesRequest>,
    ) -> Result<Response<proto::AppendEntriesReply>, Status> {
        let request = wire::read_append_request(request.get_ref()).map_err(unreadable)?;
        let reply = self
            .handle
            .raft()
            .append_entries(request)
            .await
            .map_err(ended)?;
        Ok(Response::new(wire::append_reply(&reply)))
    }

    async fn vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteReply>, Status> {
        let request = wire::read_vote_request(request.get_ref()).map_err(unreadable)?;
        let reply = self.handle.raft().vote(request).await.map_err(ended)?;
        Ok(Response::new(wire::vote_reply(&reply)))
    }

    async fn pre_vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteReply>, Status> {
        let request = wire::read_vote_request(request.get_ref()).map_err(unreadable)?;
        let reply = self.handle.raft().pre_vote(request).await.map_err(ended)?;
        Ok(Response::new(wire::vote_reply(&reply)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<proto::SnapshotReply>, Status> {
        let mut chunks = request.into_inner();
        let first = chunks
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("a snapshot without a piece"))?;
        let vote = wire::read_vote(first.vote.as_ref()).map_err(unreadable)?;
        let meta = first
            .meta
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("a snapshot of nothing"))?;
        let meta = wire::read_snapshot_meta(meta).map_err(unreadable)?;
        let total = first.total_bytes;
        if total > SNAPSHOT_MAX {
            return Err(Status::resource_exhausted(format!(
                "a snapshot of {total} bytes is too large"
            )));
        }
        let mut data = first.data.to_vec();
        while let Some(chunk) = chunks.message().await? {
            if data.len() as u64 + chunk.data.len() as u64 > total {
                return Err(Status::invalid_argument(
                    "the snapshot is longer than it says",
                ));
            }
            data.extend_from_slice(&chunk.data);
        }
        if data.len() as u64 != total {
            return Err(Status::data_loss(format!(
                "the snapshot ended after {} of {total} bytes",
                data.len()
            )));
        }
        let snapshot = Snapshot {
            meta,
            snapshot: data.into(),
        };
        let reply = self
            .handle
            .raft()
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(ended)?;
        Ok(Response::new(wire::snapshot_reply(&reply)))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferLeaderRequest>,
    ) -> Result<Response<proto::TransferLeaderReply>, Status> {
        let request = wire::read_transfer_request(request.get_ref()).map_err(unreadable)?;
        let expected = *request.from_leader();
        let answer = self
            .handle
            .raft()
            .handle_transfer_leader(request)
            .await
            .map_err(ended)?;
        let (ok, vote) = match answer {
            Ok(()) => (true, expected),
            Err(openraft::raft::TransferLeaderError::VoteChanged { actual, .. }) => (false, actual),
            Err(openraft::raft::TransferLeaderError::LogNotFlushed { .. }) => (false, expected),
        };
        Ok(Response::new(proto::TransferLeaderReply {
            ok,
            vote: Some(wire::vote(&vote)),
        }))
    }

    async fn health(
        &self,
        _: Request<proto::HealthRequest>,
    ) -> Result<Response<proto::HealthReply>, Status> {
        Ok(Response::new(super::health(
            &self.handle,
            &self.me.instance,
        )))
    }

    async fn join_raft(
        &self,
        request: Request<proto::JoinRaftRequest>,
    ) -> Result<Response<proto::JoinRaftReply>, Status> {
        members::check_version(request.metadata())?;
        let asks = asks(&request)?;
        members::take_in(&self.me, asks, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn leave_raft(
        &self,
        request: Request<proto::LeaveRaftRequest>,
    ) -> Result<Response<proto::LeaveRaftReply>, Status> {
        let asks = asks(&request)?;
        members::take_out(&self.me, asks, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn announce(
        &self,
        request: Request<proto::AnnounceRequest>,
    ) -> Result<Response<proto::AnnounceReply>, Status> {
        let node = asks(&request)?;
        let reply = self.me.hear(node, request.into_inner()).await?;
        Ok(Response::new(reply))
    }
}
