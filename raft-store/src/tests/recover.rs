//! Going on without a majority: a store made anew from what one manager has.

use super::*;
use crate::Peer;
use crate::recover::{self, Fresh};
use crate::swap;

fn own(n: u128) -> Peer {
    Peer {
        node_id: NodeId(n),
        addr: addr(n),
    }
}

async fn alone(dir: &Path, n: u128) -> Fresh {
    let found = recover::read(dir, &key()).await.unwrap();
    Fresh::new(
        found.state.tables(),
        found.index + 1,
        found.term + 1,
        own(n),
        stack("alone"),
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_goes_on_alone_with_all_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    // Over a snapshot, and entries after it.
    for n in 0..450 {
        propose(&handles, stack(&format!("s{n}"))).await;
    }
    until("all have it", || {
        handles.iter().all(|h| h.read(|s| has(s, "s449")))
    })
    .await;
    let term = handles[1].leadership().borrow().term;
    close(handles).await;

    let store = dir.path().join("2");
    let found = recover::read(&store, &key()).await.unwrap();
    assert_eq!(found.managers, [own(1), own(2), own(3)]);
    assert!(found.term >= term);
    let fresh = alone(&store, 2).await;
    fresh.write(&store, &key()).await.unwrap();
    // Not in place yet: the old one is as it was.
    assert!(
        !recover::read(&store, &key())
            .await
            .unwrap()
            .state
            .stacks()
            .contains_key("alone")
    );
    assert!(swap::settle(&store).unwrap());

    let net = Net::default();
    let handle = open(&net, dir.path(), 2).await;
    handle.linearizable().await.unwrap();
    let leads = handle.leadership().borrow().clone();
    assert!(leads.own && leads.term > found.term, "{leads:?}");
    assert_eq!(handle.managers().len(), 1);
    handle.read(|s| {
        assert!((0..450).all(|n| has(s, &format!("s{n}"))) && has(s, "alone"));
        assert!(s.revision() > found.index);
    });
    // It is a cluster like any other: it is written to, it grows, and it starts again.
    handle.propose(stack("more")).await.unwrap();
    let joined = open(&net, dir.path(), 4).await;
    handle.add_manager(NodeId(4), addr(4)).await.unwrap();
    propose(&[handle.clone(), joined.clone()], stack("together")).await;
    until("the new one has it", || {
        joined.read(|s| has(s, "together") && has(s, "s0"))
    })
    .await;
    close(vec![handle, joined]).await;
    let again = recover::read(&store, &key()).await.unwrap();
    assert_eq!(again.managers, [own(2), own(4)]);
    assert!(has(&again.state, "more") && has(&again.state, "s449"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_and_not_finished_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    close(cluster(&net, dir.path(), 1).await).await;
    let store = dir.path().join("1");
    let fresh = alone(&store, 1).await;
    // Cut off in the middle.
    std::fs::create_dir_all(dir.path().join("1.half/log")).unwrap();
    std::fs::write(dir.path().join("1.half/log/db"), "half").unwrap();
    assert!(!swap::settle(&store).unwrap());
    // Cut off after it was whole, twice.
    fresh.write(&store, &key()).await.unwrap();
    fresh.write(&store, &key()).await.unwrap();
    assert!(swap::settle(&store).unwrap());
    let handle = open(&net, dir.path(), 1).await;
    handle.linearizable().await.unwrap();
    handle.read(|s| assert!(has(s, "first") && has(s, "alone")));
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_or_none_at_all_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 1).await;
    let store = dir.path().join("1");
    let error = recover::read(&store, &key()).await.unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    close(handles).await;
    let none = dir.path().join("9");
    let error = recover::read(&none, &key()).await.unwrap_err().to_string();
    assert!(error.contains("holds no cluster's state"), "{error}");
    assert!(!none.exists());
}
