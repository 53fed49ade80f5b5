//! Where a sync takes 100 ms the managers elect once, and the one elected stays.

use super::world::World;
use crate::tests::*;
use openraft::async_runtime::watch::WatchReceiver;

/// A manager's own pace.
fn paced(dir: &Path, n: u128) -> Options {
    Options {
        heartbeat_ms: 100,
        election_ms: 350..600,
        snapshot_every: 20,
        ..options(dir, n)
    }
}

fn terms(handles: &[Handle]) -> Vec<u64> {
    let term = |handle: &Handle| handle.raft().metrics().borrow_watched().current_term;
    handles.iter().map(term).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_slow_disk_the_managers_elect_once() {
    let dir = tempfile::tempdir().unwrap();
    let _slow = World::slow(dir.path(), Duration::from_millis(100));
    let net = Net::default();
    let handles = cluster_with(&net, 3, |n| paced(dir.path(), n)).await;
    until("all know of the first term", || terms(&handles) == [1; 3]).await;
    // With snapshots and their syncs among them.
    for n in 0..15 {
        let writes = (0..4).map(|k| handles[0].propose(stack(&format!("{n}.{k}"))));
        for wrote in futures_util::future::join_all(writes).await {
            wrote.unwrap();
        }
    }
    assert_eq!(terms(&handles), [1; 3]);
    assert!(handles[0].leadership().borrow().own);
    // When it is lost another is elected, once.
    let mut handles = handles;
    let first = handles.remove(0);
    net.cut(1);
    propose(&handles, stack("after")).await;
    let term = 2;
    for n in 0..5 {
        propose(&handles, stack(&format!("after {n}"))).await;
    }
    assert_eq!(terms(&handles), [term; 2]);
    first.shutdown().await;
    close(handles).await;
}
