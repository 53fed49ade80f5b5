//! A network in one process: every message passes the wire's protobuf, and managers can be cut off.

use super::addr;
use crate::types::{Peer, TypeConfig};
use crate::{Contents, Handle, Raft, wire};
use api::model::NodeId;
use api::proto;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{AnyError, OptionalSend};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Managers in one process, by address; one that is cut off is neither heard nor hears.
#[derive(Clone, Default)]
pub struct Net {
    rafts: Arc<Mutex<BTreeMap<String, Raft>>>,
    cut: Arc<Mutex<BTreeSet<NodeId>>>,
    snapshots: Arc<Mutex<u32>>,
}

impl Net {
    pub fn links(&self, n: u128) -> Links {
        Links {
            net: self.clone(),
            own: NodeId(n),
        }
    }

    pub fn plug(&self, n: u128, handle: &Handle) {
        self.plug_at(addr(n), handle);
    }

    pub fn plug_at(&self, addr: String, handle: &Handle) {
        self.rafts
            .lock()
            .unwrap()
            .insert(addr, handle.raft().clone());
    }

    pub fn unplug(&self, n: u128) {
        self.rafts.lock().unwrap().remove(&addr(n));
    }

    pub fn cut(&self, n: u128) {
        self.cut.lock().unwrap().insert(NodeId(n));
    }

    pub fn heal(&self) {
        self.cut.lock().unwrap().clear();
    }

    /// How many snapshots have been sent.
    pub fn snapshots(&self) -> u32 {
        *self.snapshots.lock().unwrap()
    }
}

pub struct Links {
    net: Net,
    own: NodeId,
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;

    async fn new_client(&mut self, _: u64, peer: &Peer) -> Link {
        Link {
            net: self.net.clone(),
            from: self.own,
            to: peer.clone(),
        }
    }
}

pub struct Link {
    net: Net,
    from: NodeId,
    to: Peer,
}

impl Link {
    fn peer(&self) -> Result<Raft, Unreachable<TypeConfig>> {
        let cut = self.net.cut.lock().unwrap();
        let gone = || Unreachable::new(&AnyError::error("cut"));
        if cut.contains(&self.to.node_id) || cut.contains(&self.from) {
            return Err(gone());
        }
        self.net
            .rafts
            .lock()
            .unwrap()
            .get(&self.to.addr)
            .cloned()
            .ok_or_else(gone)
    }
}

/// Through bytes and back.
fn sent<M: Message + Default>(message: &M) -> M {
    M::decode(&message.encode_to_vec()[..]).unwrap()
}

fn failed(error: impl std::error::Error + 'static) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = Contents;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::read_append_request(&sent(&wire::append_request(&request))).unwrap();
        let reply = self.peer()?.append_entries(request).await.map_err(failed)?;
        // An answer is lost with the link, too.
        self.peer()?;
        Ok(wire::read_append_reply(&sent(&wire::append_reply(&reply))).unwrap())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::read_vote_request(&sent(&wire::vote_request(&request))).unwrap();
        let reply = self.peer()?.vote(request).await.map_err(failed)?;
        self.peer()?;
        Ok(wire::read_vote_reply(&sent(&wire::vote_reply(&reply))).unwrap())
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::read_vote_request(&sent(&wire::vote_request(&request))).unwrap();
        let reply = self.peer()?.pre_vote(request).await.map_err(failed)?;
        Ok(wire::read_vote_reply(&sent(&wire::vote_reply(&reply))).unwrap())
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Contents>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let data = snapshot.snapshot.load().await.map_err(failed)?;
        let chunk = sent(&proto::SnapshotChunk {
            vote: Some(wire::vote(&vote)),
            meta: Some(wire::snapshot_meta(&snapshot.meta)),
            total_bytes: data.len() as u64,
            data: data.into(),
        });
        let vote = wire::read_vote(chunk.vote.as_ref()).unwrap();
        let meta = wire::read_snapshot_meta(&chunk.meta.unwrap()).unwrap();
        let snapshot = Snapshot {
            meta,
            snapshot: chunk.data.to_vec().into(),
        };
        let peer = self.peer().map_err(RPCError::from)?;
        let reply = peer
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(failed)?;
        *self.net.snapshots.lock().unwrap() += 1;
        Ok(wire::read_snapshot_reply(&sent(&wire::snapshot_reply(&reply))).unwrap())
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request =
            wire::read_transfer_request(&sent(&wire::transfer_request(&request))).unwrap();
        self.peer()?
            .handle_transfer_leader(request)
            .await
            .map_err(failed)
    }
}
