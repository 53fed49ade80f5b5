//! Writing from one's own state: only in the term it was read in.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_built_in_a_term_is_written_in_that_term_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    propose(&handles, stack("before")).await;
    let first = leader(&handles).unwrap();
    until("a majority answers it", || first.own_term().is_some()).await;
    let term = first.own_term().unwrap();
    first.propose_in(&term, &stack("in time")).await.unwrap();
    for other in handles.iter().filter(|h| number(h) != number(first)) {
        assert_eq!(other.own_term(), None, "it only follows");
    }
    // Away, and back again: the same leader, in another term.
    let second = handles.iter().find(|h| number(h) != number(first)).unwrap();
    first.transfer_leadership(second.own.node_id).await.unwrap();
    until("another leads", || second.leadership().borrow().own).await;
    propose(&handles, stack("by another")).await;
    second.transfer_leadership(first.own.node_id).await.unwrap();
    until("it leads again", || first.leadership().borrow().own).await;
    until("it is sure again", || first.own_term().is_some()).await;
    assert!(first.read(|state| has(state, "by another")));
    let late = first.propose_in(&term, &stack("late")).await;
    assert!(
        matches!(late, Err(ProposeError::NotLeader { .. })),
        "{late:?}"
    );
    first.linearizable().await.unwrap();
    assert!(first.read(|state| has(state, "in time") && !has(state, "late")));
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_answers_is_not_sure() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 3).await;
    propose(&handles, stack("before")).await;
    let alone = leader(&handles).unwrap();
    until("a majority answers it", || alone.own_term().is_some()).await;
    net.cut(number(alone));
    until("it notices", || alone.own_term().is_none()).await;
    net.heal();
    until("somebody is sure", || {
        handles.iter().any(|h| h.own_term().is_some())
    })
    .await;
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_manager_alone_is_sure() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 1).await;
    until("it is sure", || handles[0].own_term().is_some()).await;
    let term = handles[0].own_term().unwrap();
    handles[0].propose_in(&term, &stack("alone")).await.unwrap();
    assert!(handles[0].read(|state| has(state, "alone")));
    close(handles).await;
}
