//! Standing for election by turns.

use super::*;

/// The times drawn are all but the same: by these alone both followers stand at once, again and again.
fn alike(dir: &Path, n: u128) -> Options {
    Options {
        heartbeat_ms: 200,
        election_ms: 700..702,
        ..options(dir, n)
    }
}

fn term(handle: &Handle) -> u64 {
    handle.leadership().borrow().term
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_lost_costs_one_election() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster_with(&net, 3, |n| alike(dir.path(), n)).await;
    for round in 0..4 {
        propose(&handles, stack(&format!("in round {round}"))).await;
        let first = leader(&handles).unwrap();
        let before = term(first);
        let all_follow = || {
            let leads = |h: &Handle| h.leadership().borrow().leader.clone().map(|l| l.node_id);
            handles
                .iter()
                .all(|h| leads(h) == Some(first.own.node_id) && term(h) == before)
        };
        until("all follow it", all_follow).await;
        net.cut(number(first));
        let others = || handles.iter().filter(|h| number(h) != number(first));
        until("another leads", || {
            others().any(|h| h.leadership().borrow().own)
        })
        .await;
        let after = others().map(term).max().unwrap();
        assert_eq!(after, before + 1, "round {round}");
        net.heal();
        until("the old one follows", || term(first) == after).await;
    }
    close(handles).await;
}
