//! Closing and opening again; what is damaged meanwhile.

use super::*;
use crate::OpenError;
use crate::cover::Cover;
use crate::log::Log;
use crate::types::Peer;
use openraft::storage::RaftLogStorage;
use std::collections::BTreeMap;
use std::path::PathBuf;

async fn write(handle: &Handle, from: u32, count: u32) {
    for n in from..from + count {
        handle.propose(stack(&format!("s{n}"))).await.unwrap();
    }
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("1/snapshots")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn harm(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

async fn purged(handle: &Handle) {
    use openraft::async_runtime::watch::WatchReceiver;
    until("the log is purged", || {
        handle.raft().metrics().borrow_watched().purged.is_some()
    })
    .await;
}

/// Which entries are committed is noted some time after they are acknowledged, and a power cut may come in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_read_though_nobody_noted_that_it_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handle = open(&net, dir.path(), 1).await;
    handle.initialize(stack("first")).await.unwrap();
    write(&handle, 0, 20).await;
    handle.shutdown().await;
    let (place, cover) = (dir.path().join("1/log"), Cover::Sealed(key()));
    let mut log = Log::open(&place, cover, std::fs::File::sync_data).unwrap();
    log.save_committed(None).await.unwrap();
    let flusher = log.flusher();
    drop(log);
    crate::handle::close(flusher, dir.path().join("1/log")).await;
    let again = open(&net, dir.path(), 1).await;
    again.linearizable().await.unwrap();
    again.read(|state| assert!(has(state, "s19")));
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_replayed_with_and_without_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut handle = open(&net, dir.path(), 1).await;
    assert!(!handle.is_initialized().await);
    handle.initialize(stack("first")).await.unwrap();
    let mut total = 0;
    for (more, has_snapshot) in [(10, false), (100, false), (700, true), (3, true)] {
        write(&handle, total, more).await;
        total += more;
        if has_snapshot {
            until("a snapshot", || !snapshots(dir.path()).is_empty()).await;
        }
        handle.shutdown().await;
        assert_eq!(snapshots(dir.path()).is_empty(), !has_snapshot);
        // The old handle is still there: the folder is free all the same.
        let again = open(&net, dir.path(), 1).await;
        assert!(again.is_initialized().await);
        again.linearizable().await.unwrap();
        again.read(|state| {
            assert!(has(state, "first"));
            assert!((0..total).all(|n| has(state, &format!("s{n}"))));
        });
        handle.shutdown().await;
        handle = again;
    }
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_costs_nothing_while_the_log_reaches_the_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handle = open(&net, dir.path(), 1).await;
    handle.initialize(stack("first")).await.unwrap();
    write(&handle, 0, 900).await;
    purged(&handle).await;
    until("two snapshots", || snapshots(dir.path()).len() == 2).await;
    handle.shutdown().await;
    harm(&snapshots(dir.path())[1]);

    let handle = open(&net, dir.path(), 1).await;
    handle.linearizable().await.unwrap();
    handle.read(|state| assert!((0..900).all(|n| has(state, &format!("s{n}")))));
    // And it goes on to make new ones.
    write(&handle, 900, 500).await;
    handle.shutdown().await;

    let files = snapshots(dir.path());
    for file in &files {
        harm(file);
    }
    match Handle::open(options(dir.path(), 1), net.links(1)).await {
        Err(error @ OpenError::Gap { .. }) => {
            let text = error.to_string();
            let named = files
                .iter()
                .all(|file| text.contains(&file.display().to_string()));
            assert!(named && text.contains("join the cluster again"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    // A refusal leaves the folder free, and as it was.
    for file in &files {
        harm(file);
    }
    let handle = open(&net, dir.path(), 1).await;
    handle.linearizable().await.unwrap();
    handle.read(|state| assert!(has(state, "s1399")));
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_that_are_gone_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handle = open(&net, dir.path(), 1).await;
    handle.initialize(stack("first")).await.unwrap();
    write(&handle, 0, 700).await;
    purged(&handle).await;
    handle.shutdown().await;
    std::fs::remove_dir_all(dir.path().join("1/snapshots")).unwrap();
    let refused = Handle::open(options(dir.path(), 1), net.links(1)).await;
    assert!(
        matches!(refused, Err(OpenError::Gap { snapshot: 0, .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_was_cut_off_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handle = open(&net, dir.path(), 1).await;
    let own = Peer {
        node_id: NodeId(1),
        addr: addr(1),
    };
    handle
        .raft()
        .initialize(BTreeMap::from([(NodeId(1).raft_id(), own)]))
        .await
        .unwrap();
    assert!(!handle.is_initialized().await, "it holds nothing yet");
    handle.shutdown().await;
    let handle = open(&net, dir.path(), 1).await;
    assert!(!handle.is_initialized().await);
    handle.initialize(stack("first")).await.unwrap();
    assert!(handle.is_initialized().await);
    let second = handle
        .initialize(stack("second"))
        .await
        .unwrap_err()
        .to_string();
    assert!(second.contains("belongs to a cluster already"), "{second}");
    assert!(!handle.read(|state| has(state, "second")));
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_all_stopped_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    propose(&handles, stack("before")).await;
    close(handles).await;
    let mut handles = Vec::new();
    for n in 1..=3 {
        handles.push(open(&net, dir.path(), n).await);
    }
    propose(&handles, stack("after")).await;
    let leads = leader(&handles).unwrap();
    leads.read(|state| assert!(has(state, "before") && has(state, "after")));
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handle = open(&net, dir.path(), 1).await;
    handle.initialize(stack("first")).await.unwrap();
    write(&handle, 0, 50).await;
    handle.shutdown().await;
    // sled tells this one; what it takes for a torn end it leaves out without a word.
    std::fs::write(dir.path().join("1/log/conf"), [1; 64]).unwrap();
    let error = Handle::open(options(dir.path(), 1), net.links(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&dir.path().join("1").display().to_string()),
        "{error}"
    );
}
