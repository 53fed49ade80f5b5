//! Standing for election by turns.

use super::*;
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::BTreeSet;

/// The times drawn are all but the same: by these alone both followers stand at once.
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

/// Who stood after that term, by the votes that a manager has seen until one of them leads.
async fn candidates(handle: Handle, after: u64) -> BTreeSet<(u64, u64)> {
    let mut servers = handle.raft().server_metrics();
    let mut seen = BTreeSet::new();
    loop {
        let vote = servers.borrow_and_update().vote;
        if vote.leader_id.term > after {
            seen.insert((vote.leader_id.term, vote.leader_id.node_id));
            if vote.committed {
                return seen;
            }
        }
        servers.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_leader_is_lost_only_one_stands() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster_with(&net, 3, |n| alike(dir.path(), n)).await;
    for round in 0..4 {
        propose(&handles, stack(&format!("in round {round}"))).await;
        let first = leader(&handles).unwrap();
        let before = term(first);
        let all_follow = || {
            let leads = |h: &Handle| h.leadership().borrow().leader.clone().map(|l| l.node_id);
            let has = |h: &Handle| h.read(|state| has(state, &format!("in round {round}")));
            handles
                .iter()
                .all(|h| leads(h) == Some(first.own.node_id) && term(h) == before && has(h))
        };
        until("all follow it", all_follow).await;
        net.cut(number(first));
        let others = || handles.iter().filter(|h| number(h) != number(first));
        let seen = others().map(|h| candidates(h.clone(), before));
        let seen = tokio::time::timeout(LONG, futures_util::future::join_all(seen));
        let stood: BTreeSet<_> = seen.await.unwrap().into_iter().flatten().collect();
        let next = others().map(|h| h.own.node_id.raft_id()).max().unwrap();
        assert_eq!(stood, [(before + 1, next)].into(), "round {round}");
        net.heal();
        until("the old one follows", || term(first) == before + 1).await;
    }
    close(handles).await;
}
