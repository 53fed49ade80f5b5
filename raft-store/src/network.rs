//! Where a manager is may change: openraft keeps the connection it made, so this one looks at each call
//! whether the membership knows the manager by another address, and then makes a new one.

use crate::types::{Peer, TypeConfig};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use openraft::OptionalSend;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The managers by their Raft id.
pub(crate) type Book = BTreeMap<u64, Peer>;

/// Where the managers are.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// As the membership has it.
    members: Book,
    /// As a manager itself says, and the membership doesn't yet: without it there may be no majority that
    /// could write it there.
    moved: Book,
}

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was said of a manager that the membership has somewhere else since is of before.
    pub fn set(&self, members: Book) {
        let mut known = self.lock();
        let before = std::mem::replace(&mut known.members, members);
        let Known { members, moved } = &mut *known;
        moved.retain(|id, _| members.contains_key(id) && members.get(id) == before.get(id));
    }

    /// Where every manager is, as far as is known.
    pub fn all(&self) -> Book {
        let known = self.lock();
        let mut all = known.members.clone();
        for (id, peer) in &known.moved {
            all.insert(*id, peer.clone());
        }
        all
    }

    pub fn has_moved(&self, id: u64, peer: Peer) {
        self.lock().moved.insert(id, peer);
    }

    pub fn has_settled(&self, id: u64) {
        self.lock().moved.remove(&id);
    }

    fn of(&self, id: u64) -> Option<Peer> {
        let known = self.lock();
        known
            .moved
            .get(&id)
            .or_else(|| known.members.get(&id))
            .cloned()
    }
}

type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

#[derive(Debug, Clone, Copy)]
enum Purpose {
    Entries,
    Heartbeats,
    Snapshots,
}

/// Makes the connections.
pub(crate) struct Redialing<N> {
    factory: Arc<tokio::sync::Mutex<N>>,
    addresses: Addresses,
}

impl<N> Redialing<N> {
    pub fn new(factory: N, addresses: Addresses) -> Self {
        Self {
            factory: Arc::new(tokio::sync::Mutex::new(factory)),
            addresses,
        }
    }
}

async fn dial<N>(
    factory: &tokio::sync::Mutex<N>,
    purpose: Purpose,
    target: u64,
    peer: &Peer,
) -> N::Network
where
    N: RaftNetworkFactory<TypeConfig>,
{
    let mut factory = factory.lock().await;
    match purpose {
        Purpose::Entries => factory.new_client(target, peer).await,
        Purpose::Heartbeats => factory.new_heartbeat_client(target, peer).await,
        Purpose::Snapshots => factory.new_snapshot_client(target, peer).await,
    }
}

impl<N> Redialing<N>
where
    N: RaftNetworkFactory<TypeConfig>,
{
    async fn link(&self, purpose: Purpose, target: u64, peer: &Peer) -> Link<N> {
        let network = dial(&self.factory, purpose, target, peer).await;
        let (factory, addresses) = (self.factory.clone(), self.addresses.clone());
        Link {
            factory,
            addresses,
            purpose,
            target,
            peer: peer.clone(),
            network,
        }
    }
}

impl<N> RaftNetworkFactory<TypeConfig> for Redialing<N>
where
    N: RaftNetworkFactory<TypeConfig>,
    N::Network: RaftNetworkV2<TypeConfig>,
{
    type Network = Link<N>;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Link<N> {
        self.link(Purpose::Entries, target, peer).await
    }

    async fn new_heartbeat_client(&mut self, target: u64, peer: &Peer) -> Link<N> {
        self.link(Purpose::Heartbeats, target, peer).await
    }

    async fn new_snapshot_client(&mut self, target: u64, peer: &Peer) -> Link<N> {
        self.link(Purpose::Snapshots, target, peer).await
    }
}

/// A connection to one manager, wherever it is.
pub(crate) struct Link<N: RaftNetworkFactory<TypeConfig>> {
    factory: Arc<tokio::sync::Mutex<N>>,
    addresses: Addresses,
    purpose: Purpose,
    target: u64,
    /// As it was called.
    peer: Peer,
    network: N::Network,
}

impl<N: RaftNetworkFactory<TypeConfig>> Link<N> {
    async fn network(&mut self) -> &mut N::Network {
        let now = self
            .addresses
            .of(self.target)
            .filter(|now| *now != self.peer);
        if let Some(now) = now {
            tracing::info!(before = %self.peer, %now, "a manager has another address");
            self.network = dial(&self.factory, self.purpose, self.target, &now).await;
            self.peer = now;
        }
        &mut self.network
    }
}

impl<N> RaftNetworkV2<TypeConfig> for Link<N>
where
    N: RaftNetworkFactory<TypeConfig>,
    N::Network: RaftNetworkV2<TypeConfig>,
{
    type SnapshotData = <N::Network as RaftNetworkV2<TypeConfig>>::SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        RaftNetworkV2::append_entries(self.network().await, request, option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Answers<'s>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            RaftNetworkV2::stream_append(self.network().await, requests, option).await
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        RaftNetworkV2::vote(self.network().await, request, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        RaftNetworkV2::pre_vote(self.network().await, request, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Self::SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        RaftNetworkV2::full_snapshot(self.network().await, vote, snapshot, cancel, option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        RaftNetworkV2::transfer_leader(self.network().await, request, option).await
    }

    fn backoff(&self) -> Option<Backoff> {
        RaftNetworkV2::backoff(&self.network)
    }
}
