//! openraft's own suite over our storage, and clusters in one process whose every message passes the wire.

use crate::log::Log;
use crate::machine::Machine;
use crate::snapshot::Snapshots;
use crate::types::{Peer, TypeConfig};
use crate::{Handle, Options, ProposeError, Raft, Watched, wire};
use api::model::*;
use api::state::{Op, State, Transaction};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::*;
use openraft::storage::Snapshot;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{AnyError, OptionalSend, StorageError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Builder;

impl StoreBuilder<TypeConfig, Log, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&dir.path().join("log")).unwrap();
        let machine = Machine::open(Snapshots::open(dir.path().join("snapshots")).unwrap()).unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite() {
    Suite::test_all(Builder).await.unwrap();
}

/// Managers in one process; a link that is cut carries nothing.
#[derive(Clone, Default)]
struct Net {
    rafts: Arc<Mutex<BTreeMap<u64, Raft>>>,
    cut: Arc<Mutex<BTreeSet<u64>>>,
}

struct Link {
    net: Net,
    from: u64,
    to: u64,
}

struct Links(Net, u64);

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;
    async fn new_client(&mut self, to: u64, _: &Peer) -> Link {
        Link { net: self.0.clone(), from: self.1, to }
    }
}

impl Link {
    fn peer(&self) -> Result<Raft, Unreachable<TypeConfig>> {
        let cut = self.net.cut.lock().unwrap();
        let gone = || Unreachable::new(&AnyError::error("cut"));
        if cut.contains(&self.to) || cut.contains(&self.from) {
            return Err(gone());
        }
        self.net.rafts.lock().unwrap().get(&self.to).cloned().ok_or_else(gone)
    }
}

fn failed(error: impl std::error::Error + 'static) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::read_append_request(&wire::append_request(&request)).unwrap();
        let reply = self.peer()?.append_entries(request).await.map_err(failed)?;
        Ok(wire::read_append_reply(&wire::append_reply(&reply)).unwrap())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::read_vote_request(&wire::vote_request(&request)).unwrap();
        let reply = self.peer()?.vote(request).await.map_err(failed)?;
        Ok(wire::read_vote_reply(&wire::vote_reply(&reply)).unwrap())
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.peer()?.pre_vote(request).await.map_err(failed)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Vec<u8>>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let meta = wire::read_snapshot_meta(&wire::snapshot_meta(&snapshot.meta)).unwrap();
        let snapshot = Snapshot { meta, snapshot: snapshot.snapshot };
        let peer = self.peer().map_err(RPCError::from)?;
        peer.install_full_snapshot(vote, snapshot).await.map_err(|e| failed(e).into())
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::read_transfer_request(&wire::transfer_request(&request)).unwrap();
        self.peer()?.handle_transfer_leader(request).await.map_err(failed)
    }
}

const LONG: Duration = Duration::from_secs(20);

async fn open(net: &Net, dir: &Path, n: u128) -> Handle {
    let options = Options {
        dir: dir.join(n.to_string()),
        node: NodeId(n),
        addr: format!("10.0.0.{n}:2377"),
        heartbeat_ms: 50,
        election_ms: 150..300,
        snapshot_every: 200,
    };
    let id = options.node.raft_id();
    let handle = Handle::open(options, Links(net.clone(), id)).await.unwrap();
    net.rafts.lock().unwrap().insert(id, handle.raft().clone());
    handle
}

fn stack(name: &str) -> Transaction {
    let stack = Stack { name: name.into(), ..Stack::default() };
    Transaction { at: Timestamp(1), ops: vec![Op::PutStack(stack)] }
}

fn has(state: &State, name: &str) -> bool {
    state.stacks().contains_key(name)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    tokio::time::timeout(LONG, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"));
}

fn leader<'a>(handles: &'a [Handle]) -> Option<&'a Handle> {
    handles.iter().find(|h| h.leadership().borrow().own)
}

/// Proposes through whoever leads, as a client would that was told to go elsewhere.
async fn propose(handles: &[Handle], transaction: Transaction) -> u64 {
    let end = tokio::time::Instant::now() + LONG;
    loop {
        if let Some(handle) = leader(handles) {
            match handle.propose(transaction.clone()).await {
                Ok(revision) => return revision,
                Err(ProposeError::NotLeader { .. } | ProposeError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(tokio::time::Instant::now() < end, "nobody takes it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn cluster(net: &Net, dir: &Path, count: u128) -> Vec<Handle> {
    let first = open(net, dir, 1).await;
    first.initialize(stack("first")).await.unwrap();
    let mut handles = vec![first];
    for n in 2..=count {
        handles.push(open(net, dir, n).await);
        handles[0].add_manager(NodeId(n), format!("10.0.0.{n}:2377")).await.unwrap();
    }
    handles
}

async fn close(handles: Vec<Handle>) {
    for handle in handles {
        handle.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handle = open(&net, dir.path(), 1).await;
    assert!(!handle.is_initialized().await);
    handle.initialize(stack("first")).await.unwrap();
    // Over several snapshots, and large enough to be cut into parts.
    for n in 0..450 {
        handle.propose(stack(&format!("s{n}"))).await.unwrap();
    }
    let long = "x".repeat(300_000);
    let revision = handle.propose(stack(&long)).await.unwrap();
    // As a power cut would leave it: whatever is on disk now, without a word of goodbye.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(&dir.path().join("1"), &copy.path().join("1"));
    handle.shutdown().await;
    net.rafts.lock().unwrap().clear();
    drop(handle);

    for place in [dir.path(), copy.path()] {
        let again = open(&Net::default(), place, 1).await;
        assert!(again.is_initialized().await);
        again.linearizable().await.unwrap();
        again.read(|state| {
            assert!(has(state, "first") && has(state, "s449") && has(state, &long));
            assert_eq!(state.stacks().len(), 452);
            assert!(state.revision() >= revision);
        });
        again.shutdown().await;
        drop(again);
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_the_loss_of_its_leader_and_reads_its_own_writes() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    propose(&handles, stack("before")).await;
    let lost = leader(&handles).unwrap().clone();
    let lost_id = lost.raft().node_id();
    net.cut.lock().unwrap().insert(*lost_id);
    let rest: Vec<Handle> = handles.iter().filter(|h| h.raft().node_id() != lost_id).cloned().collect();
    until("a new leader", || leader(&rest).is_some()).await;
    propose(&rest, stack("after")).await;
    let now = leader(&rest).unwrap();
    now.linearizable().await.unwrap();
    now.read(|state| assert!(has(state, "before") && has(state, "after")));
    // The one that was cut off neither writes nor reads as if it led.
    assert!(lost.propose(stack("stale")).await.is_err());
    assert!(lost.linearizable().await.is_err());
    net.cut.lock().unwrap().clear();
    until("the old leader catches up", || lost.read(|state| has(state, "after"))).await;
    assert!(!lost.read(|state| has(state, "stale")) || !leader(&rest).unwrap().read(|state| !has(state, "stale")));
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_manager_catches_up_by_snapshot_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut handles = cluster(&net, dir.path(), 1).await;
    for n in 0..500 {
        handles[0].propose(stack(&format!("s{n}"))).await.unwrap();
    }
    let late = open(&net, dir.path(), 2).await;
    let mut watcher = late.watch();
    assert!(matches!(watcher.next().await, Watched::Resync));
    handles[0].add_manager(NodeId(2), "10.0.0.2:2377".into()).await.unwrap();
    until("it has caught up", || late.read(|state| has(state, "s499"))).await;
    assert!(matches!(watcher.next().await, Watched::Resync), "a snapshot can't be followed through");
    handles.push(late);
    let managers = handles[0].managers();
    assert_eq!(managers.iter().filter(|m| m.voter).count(), 2);
    handles[0].remove_manager(NodeId(2)).await.unwrap();
    handles[0].remove_manager(NodeId(2)).await.unwrap();
    assert_eq!(handles[0].managers().len(), 1);
    let last = handles[0].remove_manager(NodeId(1)).await.unwrap_err().to_string();
    assert!(last.contains("last manager"), "{last}");
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_can_be_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    leader(&handles).unwrap().transfer_leadership(NodeId(3)).await.unwrap();
    until("the third leads", || handles[2].leadership().borrow().own).await;
    propose(&handles, stack("by the third")).await;
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_every_change_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let handle = open(&Net::default(), dir.path(), 1).await;
    handle.initialize(stack("first")).await.unwrap();
    let mut watcher = handle.watch();
    assert!(matches!(watcher.next().await, Watched::Resync));
    let writers: Vec<_> = (0..8)
        .map(|w| {
            let handle = handle.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    handle.propose(stack(&format!("w{w}-{n}"))).await.unwrap();
                }
            })
        })
        .collect();
    let mut last = 0;
    for _ in 0..400 {
        match watcher.next().await {
            Watched::Changes { revision, events } => {
                assert!(revision > last, "{revision} after {last}");
                assert_eq!(events.len(), 1);
                last = revision;
            }
            other => panic!("{other:?}"),
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    handle.shutdown().await;
    assert!(matches!(watcher.next().await, Watched::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_told_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let handle = open(&Net::default(), dir.path(), 1).await;
    handle.initialize(stack("first")).await.unwrap();
    let gone = Transaction { at: Timestamp(1), ops: vec![Op::RemoveStack("none".into())] };
    match handle.propose(gone).await {
        Err(ProposeError::Refused(refused)) => assert!(refused.to_string().contains("none"), "{refused}"),
        other => panic!("{other:?}"),
    }
    let huge = stack(&"x".repeat(9 << 20));
    assert!(matches!(handle.propose(huge).await, Err(ProposeError::TooLarge { .. })));
    handle.shutdown().await;
}

fn stored() -> crate::snapshot::Stored {
    let meta = crate::types::SnapshotMeta { last_log_id: None, last_membership: Default::default() };
    crate::snapshot::Stored { meta, data: api::convert::encode_tables(&State::new().tables()) }
}

#[test]
fn a_damaged_snapshot_is_named_and_the_older_one_taken() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path().to_owned()).unwrap();
    let crate::snapshot::Stored { meta, data } = stored();
    snapshots.write(&meta, &data).unwrap();
    let whole = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let newer = dir.path().join("99999999999999999999.snap");
    let bytes = std::fs::read(&whole).unwrap();
    for (at, what) in [(0, "begin"), (bytes.len() - 1, "checksum"), (20, "checksum")] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        std::fs::write(&newer, &bad).unwrap();
        assert!(snapshots.newest().unwrap().is_some(), "the older one is not taken: {what}");
    }
    std::fs::write(&newer, &bytes[..bytes.len() - 1]).unwrap();
    std::fs::remove_file(&whole).unwrap();
    let error = snapshots.newest().unwrap_err().to_string();
    assert!(error.contains("99999999999999999999.snap") && error.contains("cut short"), "{error}");
    let mut later = bytes;
    later[8] = crate::codec::FORMAT + 1;
    std::fs::write(&newer, &later).unwrap();
    assert!(snapshots.newest().unwrap_err().to_string().contains("upgrade clusterd"));
}

#[test]
fn half_a_snapshot_of_a_crash_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("7.new"), "half").unwrap();
    Snapshots::open(dir.path().to_owned()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// `cargo test -p raft-store --release -- --ignored --nocapture throughput`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: it prints durable proposals a second"]
async fn throughput() {
    let dir = tempfile::tempdir().unwrap();
    let handle = open(&Net::default(), dir.path(), 1).await;
    handle.initialize(stack("first")).await.unwrap();
    for writers in [1u32, 64] {
        let each = 2_000 / writers;
        let began = std::time::Instant::now();
        let all: Vec<_> = (0..writers)
            .map(|w| {
                let handle = handle.clone();
                tokio::spawn(async move {
                    for n in 0..each {
                        handle.propose(stack(&format!("{w}-{n}"))).await.unwrap();
                    }
                })
            })
            .collect();
        for one in all {
            one.await.unwrap();
        }
        println!("{writers} writers: {:.0} proposals/s", f64::from(each * writers) / began.elapsed().as_secs_f64());
    }
    handle.shutdown().await;
}
