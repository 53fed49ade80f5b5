//! The calling side: one [`Peering`] per purpose and manager.

use crate::dialer::{Dialer, Lane, root_cause, was_not_sent};
use crate::manager::MESSAGE_MAX;
use crate::raft_rpc::pipeline::{self, Answers};
use crate::raft_rpc::reach::{Call, Reach};
use api::proto::raft_client::RaftClient;
use api::proto::{AppendEntriesRequest as WireAppend, SnapshotChunk};
use futures_util::future::BoxFuture;
use futures_util::{Stream, stream};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf, VoteOf};
use prost::Message;
use raft_store::{Contents, Peer, TypeConfig, wire};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

/// Entries of one message, bytes: well below what is taken.
const APPEND_MAX: usize = MESSAGE_MAX / 2;
/// A piece of a snapshot, bytes.
const CHUNK: usize = 1 << 20;
/// How long a disk may take over entries, at least.
pub(super) const APPEND_BOUND: Duration = Duration::from_secs(3);
/// How long a heartbeat may take, at least.
pub(super) const PULSE_BOUND: Duration = Duration::from_millis(400);
/// How long a snapshot may take, whole.
const SNAPSHOT_BOUND: Duration = Duration::from_secs(120);

/// Makes the connections to other managers.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    dialer: Dialer,
    reach: Reach,
}

impl Network {
    pub fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            reach: Reach::default(),
        }
    }

    fn peering(&self, peer: &Peer, lane: Lane) -> Peering {
        let channel = self.dialer.lane(&peer.addr, peer.node_id, lane);
        let pulse = self.dialer.lane(&peer.addr, peer.node_id, Lane::Pulse);
        Peering {
            client: client(channel),
            pulse: client(pulse),
            peer: peer.clone(),
            reach: self.reach.clone(),
        }
    }
}

fn client(channel: Channel) -> RaftClient<Channel> {
    RaftClient::new(channel)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX)
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peering;

    async fn new_client(&mut self, _: u64, peer: &Peer) -> Peering {
        self.peering(peer, Lane::Raft)
    }

    async fn new_heartbeat_client(&mut self, _: u64, peer: &Peer) -> Peering {
        self.peering(peer, Lane::Pulse)
    }

    async fn new_snapshot_client(&mut self, _: u64, peer: &Peer) -> Peering {
        self.peering(peer, Lane::Bulk)
    }
}

/// A way to one manager.
pub(crate) struct Peering {
    pub(super) client: RaftClient<Channel>,
    /// For what must not wait behind bulk.
    pulse: RaftClient<Channel>,
    pub(super) peer: Peer,
    pub(super) reach: Reach,
}

pub(super) type Failed = RPCError<TypeConfig>;

pub(super) fn unreadable(error: &wire::WireError) -> Failed {
    RPCError::Network(NetworkError::new(error))
}

pub(super) fn failed(status: &Status) -> Failed {
    if was_not_sent(status) {
        return RPCError::Unreachable(Unreachable::from_string(root_cause(status)));
    }
    RPCError::Network(NetworkError::from_string(format!(
        "{}: {}",
        status.code(),
        status.message()
    )))
}

pub(super) fn late(bound: Duration) -> Failed {
    RPCError::Network(NetworkError::from_string(format!(
        "no answer within {} ms",
        bound.as_millis()
    )))
}

async fn within<T>(
    bound: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failed> {
    match timeout(bound, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(&status)),
        Err(_) => Err(late(bound)),
    }
}

/// [`within`]; what comes of it is told to `call`.
async fn noted<T>(
    call: Call,
    bound: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failed> {
    match timeout(bound, answer).await {
        Ok(Ok(response)) => {
            call.answered();
            Ok(response.into_inner())
        }
        Ok(Err(status)) => {
            call.failed(&root_cause(&status));
            Err(failed(&status))
        }
        Err(_) => {
            drop(call);
            Err(late(bound))
        }
    }
}

/// Leaves out the entries that are too many for one message; whether some were.
pub(super) fn fit(message: &mut WireAppend) -> bool {
    let mut bytes = 0;
    let fitting = message
        .entries
        .iter()
        .take_while(|entry| {
            bytes += entry.encoded_len();
            bytes <= APPEND_MAX
        })
        .count()
        // One is sent whatever its size: the store bounds it.
        .max(1);
    let cut = fitting < message.entries.len();
    message.entries.truncate(fitting);
    cut
}

impl RaftNetworkV2<TypeConfig> for Peering {
    type SnapshotData = Contents;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failed> {
        let mut message = wire::append_request(&request);
        let least = if message.entries.is_empty() {
            PULSE_BOUND
        } else {
            APPEND_BOUND
        };
        let cut = fit(&mut message);
        let last = message.entries.last().and_then(|entry| entry.id);
        let reply = noted(
            self.reach.call(&self.peer),
            option.soft_ttl().max(least),
            self.client.append_entries(message),
        )
        .await?;
        let reply = wire::read_append_reply(&reply).map_err(|e| unreadable(&e))?;
        match (reply, last) {
            (AppendEntriesResponse::Success, Some(last)) if cut => {
                let last = wire::read_log_id(&last).map_err(|e| unreadable(&e))?;
                Ok(AppendEntriesResponse::PartialSuccess(Some(last)))
            }
            (reply, _) => Ok(reply),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Answers<'s>, Failed>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(pipeline::open(self, requests, option))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        let call = self.pulse.vote(wire::vote_request(&request));
        let reply = noted(self.reach.call(&self.peer), option.soft_ttl(), call).await?;
        wire::read_vote_reply(&reply).map_err(|e| unreadable(&e))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        let call = self.pulse.pre_vote(wire::vote_request(&request));
        let reply = noted(self.reach.call(&self.peer), option.soft_ttl(), call).await?;
        wire::read_vote_reply(&reply).map_err(|e| unreadable(&e))
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Contents>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = async {
            // A damaged one is told by its name; the next try is with an older one.
            let data = snapshot
                .snapshot
                .load()
                .await
                .map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
            let chunks = stream::iter(chunks(&vote, &snapshot.meta, data));
            within(SNAPSHOT_BOUND, self.client.install_snapshot(chunks)).await
        };
        let reply = tokio::select! {
            reply = send => reply,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let reply =
            reply.and_then(|reply| wire::read_snapshot_reply(&reply).map_err(|e| unreadable(&e)));
        reply.map_err(|error| match error {
            RPCError::Unreachable(error) => StreamingError::Unreachable(error),
            RPCError::Network(error) => StreamingError::Network(error),
            other => StreamingError::Network(NetworkError::new(&other)),
        })
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failed> {
        let call = self.pulse.transfer_leader(wire::transfer_request(&request));
        let reply = within(option.soft_ttl().max(PULSE_BOUND), call).await?;
        if reply.ok {
            return Ok(Ok(()));
        }
        let actual = wire::read_vote(reply.vote.as_ref()).map_err(|e| unreadable(&e))?;
        Ok(Err(openraft::raft::TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual,
        }))
    }
}

/// A snapshot in pieces, made as they are sent. The first says what it is.
fn chunks(
    vote: &VoteOf<TypeConfig>,
    meta: &SnapshotMetaOf<TypeConfig>,
    data: Vec<u8>,
) -> impl Iterator<Item = SnapshotChunk> + Send + 'static {
    // Shared by all pieces, never copied: it may be large.
    let data = bytes::Bytes::from(data);
    let first = SnapshotChunk {
        vote: Some(wire::vote(vote)),
        meta: Some(wire::snapshot_meta(meta)),
        total_bytes: data.len() as u64,
        data: bytes::Bytes::new(),
    };
    let pieces = (0..data.len()).step_by(CHUNK).map(move |at| SnapshotChunk {
        data: data.slice(at..(at + CHUNK).min(data.len())),
        ..SnapshotChunk::default()
    });
    std::iter::once(first).chain(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::proto::{Entry, LeaderId, LogId, entry::Payload};
    use futures_util::StreamExt;
    use hyper_util::rt::TokioIo;
    use std::sync::{Arc, Mutex};
    use tonic::transport::{Endpoint, Uri};

    fn entry(index: u64, bytes: usize) -> Entry {
        let leader = Some(LeaderId { term: 1, node: 1 });
        Entry {
            id: Some(LogId { leader, index }),
            payload: Some(Payload::Transaction(vec![0; bytes].into())),
        }
    }

    #[tokio::test]
    async fn no_call_is_made_before_there_is_a_request() {
        let order: Arc<Mutex<Vec<&str>>> = Arc::default();
        let note = |what: &'static str| {
            let order = order.clone();
            move || order.lock().unwrap().push(what)
        };
        let (calls, asks) = (note("calls"), note("asks"));
        let channel = Endpoint::from_static("http://node.cluster.internal")
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                calls();
                async {
                    Err::<TokioIo<tokio::io::DuplexStream>, _>(std::io::Error::other("refused"))
                }
            }));
        let peer = Peer {
            node_id: api::model::NodeId(2),
            addr: "10.0.0.2:2377".into(),
        };
        let mut peering = Peering {
            client: client(channel.clone()),
            pulse: client(channel),
            peer,
            reach: Reach::default(),
        };
        // As openraft's, which holds a request back where calls have failed.
        let requests = stream::once(async move {
            tokio::task::yield_now().await;
            asks();
            AppendEntriesRequest {
                vote: VoteOf::<TypeConfig>::new(1, 1),
                prev_log_id: None,
                entries: vec![],
                leader_commit: None,
            }
        });
        let option = RPCOption::new(Duration::from_millis(50));
        let opened = pipeline::open(&mut peering, requests.boxed(), option.clone()).await;
        assert!(matches!(opened.map(drop), Err(RPCError::Unreachable(_))));
        assert_eq!(*order.lock().unwrap(), ["asks", "calls"]);
        let nothing = stream::empty().boxed();
        let mut answers = pipeline::open(&mut peering, nothing, option).await.unwrap();
        assert!(answers.next().await.is_none());
        assert_eq!(order.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_message_is_cut_to_what_is_taken_and_never_to_nothing() {
        let cut = |sizes: &[usize]| {
            let entries = sizes
                .iter()
                .zip(1..)
                .map(|(size, index)| entry(index, *size))
                .collect();
            let mut message = WireAppend {
                entries,
                ..WireAppend::default()
            };
            let was_cut = fit(&mut message);
            (message.entries.len(), was_cut)
        };
        assert_eq!(cut(&[]), (0, false));
        assert_eq!(cut(&[10, 10]), (2, false));
        assert_eq!(
            cut(&[APPEND_MAX / 2, APPEND_MAX / 4, APPEND_MAX / 2]),
            (2, true)
        );
        assert_eq!(cut(&[APPEND_MAX + 1, 10]), (1, true));
    }
}
