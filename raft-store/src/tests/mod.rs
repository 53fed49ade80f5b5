//! openraft's own suite over our storage, and clusters in one process whose every message passes the wire.

mod bounds;
mod cluster;
mod disk;
mod fixtures;
mod lead;
mod net;
mod power;
mod recover;
mod refusals;
mod restart;
mod sealed;
mod suite;
mod throughput;
mod turns;
mod watched;

use crate::{Handle, Options, ProposeError};
use api::model::{NodeId, Stack, Timestamp};
use api::state::{Op, State, Transaction};
use net::Net;
use seal::DataKey;
use std::path::Path;
use std::time::Duration;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn addr(n: u128) -> String {
    format!("10.0.0.{n}:2377")
}

/// That of every store here.
fn key() -> DataKey {
    DataKey::from([7; 32])
}

fn options(dir: &Path, n: u128) -> Options {
    Options {
        dir: dir.join(n.to_string()),
        key: key(),
        node: NodeId(n),
        addr: addr(n),
        heartbeat_ms: 50,
        election_ms: 300..600,
        stands: true,
        snapshot_every: 200,
        snapshot_bytes: Options::SNAPSHOT_BYTES,
    }
}

async fn open(net: &Net, dir: &Path, n: u128) -> Handle {
    open_with(net, n, options(dir, n)).await
}

async fn open_with(net: &Net, n: u128, options: Options) -> Handle {
    let handle = Handle::open(options, net.links(n)).await.unwrap();
    net.plug(n, &handle);
    handle
}

fn stack(name: &str) -> Transaction {
    let stack = Stack {
        name: name.into(),
        ..Stack::default()
    };
    Transaction {
        at: Timestamp(1),
        ops: vec![Op::PutStack(stack)],
    }
}

fn has(state: &State, name: &str) -> bool {
    state.stacks().contains_key(name)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"));
}

fn leader(handles: &[Handle]) -> Option<&Handle> {
    handles.iter().find(|h| h.leadership().borrow().own)
}

fn number(handle: &Handle) -> u128 {
    handle.own.node_id.0
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

/// Managers 1 to `count`.
async fn cluster(net: &Net, dir: &Path, count: u128) -> Vec<Handle> {
    cluster_with(net, count, |n| options(dir, n)).await
}

async fn cluster_with(net: &Net, count: u128, options: impl Fn(u128) -> Options) -> Vec<Handle> {
    let first = open_with(net, 1, options(1)).await;
    first.initialize(stack("first")).await.unwrap();
    let mut handles = vec![first];
    for n in 2..=count {
        handles.push(open_with(net, n, options(n)).await);
        handles[0].add_manager(NodeId(n), addr(n)).await.unwrap();
    }
    handles
}

async fn close(handles: Vec<Handle>) {
    for handle in handles {
        handle.shutdown().await;
    }
}
