//! Several managers: writing, losing one, coming in, going out, handing over.

use super::*;
use crate::types::Peer;
use crate::{Leadership, Watched};
use openraft::ChangeMembers;
use std::collections::BTreeSet;
use std::future::Future;
use std::task::Poll;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_manager_takes_writes_while_it_leads_and_says_who_does_while_not() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    for n in [2, 3, 1] {
        leader(&handles)
            .unwrap()
            .transfer_leadership(NodeId(n))
            .await
            .unwrap();
        let next = handles.iter().find(|h| number(h) == n).unwrap();
        until("it leads", || next.leadership().borrow().own).await;
        until("all know", || {
            handles.iter().all(|h| {
                h.leadership()
                    .borrow()
                    .leader
                    .as_ref()
                    .is_some_and(|l| l.node_id == NodeId(n))
            })
        })
        .await;
        let revision = next.propose(stack(&format!("by {n}"))).await.unwrap();
        assert_eq!(next.linearizable().await.unwrap(), revision);
        for other in handles.iter().filter(|h| number(h) != n) {
            let peer = Peer {
                node_id: NodeId(n),
                addr: addr(n),
            };
            let elsewhere = Err(ProposeError::NotLeader { leader: Some(peer) });
            assert_eq!(other.propose(stack("elsewhere")).await, elsewhere);
            assert_eq!(other.linearizable().await, elsewhere);
            until("it follows", || {
                other.read(|state| has(state, &format!("by {n}")))
            })
            .await;
        }
    }
    let states: Vec<_> = handles
        .iter()
        .map(|h| h.read(|state| format!("{:?}", state.tables())))
        .collect();
    assert!(
        states
            .iter()
            .all(|state| *state == states[0] && !state.contains("elsewhere"))
    );
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced_and_a_stale_one_neither_reads_nor_writes() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    propose(&handles, stack("before")).await;
    let lost = leader(&handles).unwrap().clone();
    net.cut(number(&lost));
    // It still believes that it leads.
    let stale = tokio::spawn({
        let lost = lost.clone();
        async move { lost.propose(stack("stale")).await }
    });
    let rest: Vec<Handle> = handles
        .iter()
        .filter(|h| number(h) != number(&lost))
        .cloned()
        .collect();
    until("a new leader", || leader(&rest).is_some()).await;
    propose(&rest, stack("after")).await;
    let now = leader(&rest).unwrap();
    now.linearizable().await.unwrap();
    now.read(|state| assert!(has(state, "before") && has(state, "after")));
    match stale.await.unwrap() {
        Err(ProposeError::Unavailable(text)) => {
            assert!(text.contains("may still be made"), "{text}")
        }
        other => panic!("{other:?}"),
    }
    assert!(lost.linearizable().await.is_err());
    net.heal();
    until("the old leader catches up", || {
        lost.read(|state| has(state, "after"))
    })
    .await;
    assert!(!lost.read(|state| has(state, "stale")));
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    net.cut(2);
    net.cut(3);
    assert!(matches!(
        handles[0].propose(stack("alone")).await,
        Err(ProposeError::Unavailable(_) | ProposeError::NotLeader { leader: None })
    ));
    assert!(!handles[0].read(|state| has(state, "alone")));
    net.heal();
    propose(&handles, stack("together")).await;
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_manager_catches_up_by_snapshot_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut handles = cluster(&net, dir.path(), 1).await;
    for n in 0..700 {
        handles[0].propose(stack(&format!("s{n}"))).await.unwrap();
    }
    until("the log begins later", || {
        use openraft::async_runtime::watch::WatchReceiver;
        handles[0]
            .raft()
            .metrics()
            .borrow_watched()
            .purged
            .is_some()
    })
    .await;
    let late = open(&net, dir.path(), 2).await;
    assert!(!late.is_initialized().await);
    let mut watcher = late.watch();
    assert!(matches!(watcher.next().await, Watched::Resync));
    handles[0].add_manager(NodeId(2), addr(2)).await.unwrap();
    handles[0].add_manager(NodeId(2), addr(2)).await.unwrap();
    until("it has caught up", || late.read(|state| has(state, "s699"))).await;
    assert!(net.snapshots() > 0 && late.is_initialized().await);
    assert!(
        matches!(watcher.next().await, Watched::Resync),
        "a snapshot can't be followed through"
    );
    handles.push(late);
    let managers = handles[0].managers();
    assert_eq!(
        managers.iter().filter(|m| m.voter && m.reachable).count(),
        2
    );
    handles[0].remove_manager(NodeId(2)).await.unwrap();
    handles[0].remove_manager(NodeId(2)).await.unwrap();
    assert_eq!(handles[0].managers().len(), 1);
    let last = handles[0]
        .remove_manager(NodeId(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(last.contains("last manager"), "{last}");
    handles[0].propose(stack("alone again")).await.unwrap();
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    let gone = leader(&handles).unwrap().clone();
    gone.remove_manager(gone.own.node_id).await.unwrap();
    let rest: Vec<Handle> = handles
        .iter()
        .filter(|h| number(h) != number(&gone))
        .cloned()
        .collect();
    until("another leads", || leader(&rest).is_some()).await;
    propose(&rest, stack("after")).await;
    assert_eq!(leader(&rest).unwrap().managers().len(), 2);
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_cannot_be_reached_does_not_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 1).await;
    let error = handles[0]
        .add_manager(NodeId(2), addr(2))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("10.0.0.2:2377") && error.contains("was not taken in"),
        "{error}"
    );
    assert_eq!(handles[0].managers().len(), 1);
    handles[0].propose(stack("unharmed")).await.unwrap();
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_would_lose_the_majority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    let leads = leader(&handles).unwrap();
    let others: Vec<&Handle> = handles
        .iter()
        .filter(|h| number(h) != number(leads))
        .collect();
    net.cut(number(others[0]));
    until("it is missed", || {
        leads.managers().iter().any(|m| !m.reachable)
    })
    .await;
    let error = leads
        .remove_manager(others[1].own.node_id)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("only 1 can be reached"), "{error}");
    leads.remove_manager(others[0].own.node_id).await.unwrap();
    leads.propose(stack("by two")).await.unwrap();
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_waits_to_hear_of_the_others_before_it_refuses_a_removal() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    let old = leader(&handles).unwrap();
    let others: Vec<&Handle> = handles
        .iter()
        .filter(|h| number(h) != number(old))
        .collect();
    let (new, late) = (others[0], others[1]);
    net.cut(number(late));
    old.transfer_leadership(new.own.node_id).await.unwrap();
    until("the next leads", || new.leadership().borrow().own).await;
    let mut removed = Box::pin(new.remove_manager(old.own.node_id));
    let at_once = std::future::poll_fn(|cx| Poll::Ready(removed.as_mut().poll(cx))).await;
    assert!(at_once.is_pending(), "{at_once:?}");
    net.heal();
    removed.await.unwrap();
    assert_eq!(new.managers().len(), 2);
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_with_a_new_address_is_reached_there() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    net.unplug(2);
    net.plug_at("10.0.0.99:2377".into(), &handles[1]);
    propose(&handles, stack("without it")).await;
    move_to(&handles, 2, "10.0.0.99:2377").await;
    until("it follows again", || {
        handles[1].read(|state| has(state, "without it"))
    })
    .await;
    let managers = leader(&handles).unwrap().managers();
    assert_eq!(managers.iter().filter(|m| m.voter).count(), 3);
    close(handles).await;
}

/// Without the one that has moved there is no majority, and it can't get one: the leader has more in its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_managers_can_have_a_new_address() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 2).await;
    net.unplug(2);
    net.plug_at("10.0.0.99:2377".into(), &handles[1]);
    let pending = handles[0].propose(stack("pending")).await;
    assert!(pending.is_err(), "{pending:?}");
    move_to(&handles, 2, "10.0.0.99:2377").await;
    propose(&handles, stack("after")).await;
    until("it follows again", || {
        handles[1].read(|state| has(state, "after"))
    })
    .await;
    close(handles).await;
}

/// Tells whoever leads that a manager has moved, as it would itself.
async fn move_to(handles: &[Handle], n: u128, to: &str) {
    let mut told = false;
    while !told {
        until("somebody leads", || leader(handles).is_some()).await;
        if let Some(leads) = leader(handles) {
            told = leads.add_manager(NodeId(n), to.into()).await.is_ok();
        }
    }
    let leads = leader(handles).unwrap();
    assert!(leads.managers().iter().any(|m| m.peer.addr == to));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_left_half_made_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut handles = cluster(&net, dir.path(), 1).await;
    handles.push(open(&net, dir.path(), 2).await);
    let first = handles[0].clone();
    // Only the first step, as by a leader that dies in between.
    first
        .raft()
        .add_learner(
            NodeId(2).raft_id(),
            Peer {
                node_id: NodeId(2),
                addr: addr(2),
            },
            true,
        )
        .await
        .unwrap();
    let half = {
        let first = first.clone();
        tokio::spawn(async move {
            let change = ChangeMembers::AddVoterIds(BTreeSet::from([NodeId(2).raft_id()]));
            let _ = first.raft().change_membership(change, false).await;
        })
    };
    let joint = |h: &Handle| {
        use openraft::async_runtime::watch::WatchReceiver;
        let metrics = h.raft().metrics();
        let metrics = metrics.borrow_watched();
        (
            metrics
                .membership_config
                .membership()
                .get_joint_config()
                .len(),
            metrics.membership_config.voter_ids().count(),
        )
    };
    until("it is joint", || {
        joint(&first).0 == 2 || joint(&first) == (1, 2)
    })
    .await;
    half.abort();
    until("it is finished", || joint(&first) == (1, 2)).await;
    propose(&handles, stack("by two")).await;
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_every_change_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 1).await;
    let handle = handles[0].clone();
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
                assert!(
                    handle.read(State::revision) >= revision,
                    "what is seen is there"
                );
                last = revision;
            }
            other => panic!("{other:?}"),
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut leadership = handle.leadership();
    close(handles).await;
    assert!(matches!(watcher.next().await, Watched::Closed));
    while leadership.changed().await.is_ok() {}
    assert!(matches!(
        &*leadership.borrow(),
        Leadership {
            leader: None,
            own: false,
            ..
        }
    ));
}
