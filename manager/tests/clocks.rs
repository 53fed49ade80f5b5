//! A clock that goes wrong while its node is connected.

mod common;

use api::model::ClusterSpec;
use api::proto::{GetStatusRequest, ListNodesRequest};
use common::agent::Agent;
use common::{Boss, Hand, eventually};
use manager::now;
use tonic::Request;

/// An hour and a half behind, milliseconds.
const OFF: i64 = -5_400_000;

/// Beats with a clock that is so far ahead until the manager says of it what is wanted; the last beat.
async fn beat_until(
    (boss, hand): (&Boss, &Hand),
    agent: &Agent,
    (first, ahead): (u64, i64),
    is_it: fn(i64) -> bool,
) -> u64 {
    let sequence = std::cell::Cell::new(first);
    eventually("what the manager says of the clock", || async {
        sequence.set(sequence.get() + 1);
        agent.beat_at(sequence.get(), now().0 + ahead).await;
        is_it(boss.row(hand).await.clock_ahead_ms).then_some(())
    })
    .await;
    sequence.get()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_that_is_wrong_is_told_once_and_until_it_is_right() {
    let patient = ClusterSpec {
        dead_after_ms: 60_000,
        ..ClusterSpec::default()
    };
    let (boss, founding) = Boss::found(patient).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let (mut agent, _) = Agent::open(&hand, &boss).await.unwrap();
    let them = (&boss, &hand);
    let last = beat_until(them, &agent, (0, OFF), |ahead| ahead != 0).await;
    let ahead = boss.row(&hand).await.clock_ahead_ms;
    assert!((OFF - 5_000..=OFF).contains(&ahead), "{ahead}");
    let request = || Request::new(GetStatusRequest {});
    let status = boss.control().get_status(request()).await.unwrap();
    let status = status.into_inner();
    assert_eq!(status.wrong_clocks, 1);
    // The other is not ready: it has no agent, and comes first.
    let named: Vec<&str> = status
        .troubles
        .iter()
        .map(|t| t.hostname.as_str())
        .collect();
    assert_eq!(named.last(), Some(&"node2"), "{:?}", status.troubles);
    for sequence in last + 1..last + 5 {
        agent.beat_at(sequence, now().0 + OFF).await;
    }
    agent.until("heard", |agent| agent.heard == last + 4).await;
    assert_eq!(agent.notices.len(), 1, "{:?}", agent.notices);
    assert!(
        agent.notices[0].contains("s behind the leader's"),
        "{:?}",
        agent.notices
    );

    let last = beat_until(them, &agent, (last + 4, 0), |ahead| ahead == 0).await;
    agent.until("told", |agent| agent.notices.len() > 1).await;
    assert!(agent.notices[1].contains("again"), "{:?}", agent.notices);
    let status = boss.control().get_status(request()).await.unwrap();
    assert_eq!(status.into_inner().wrong_clocks, 0);

    // Of a node that is not there nobody knows what time it has.
    beat_until(them, &agent, (last, OFF), |ahead| ahead != 0).await;
    drop(agent);
    eventually("it is gone", || async {
        let rows = boss.control().list_nodes(ListNodesRequest::default()).await;
        let rows = rows.unwrap().into_inner().nodes;
        rows.iter().all(|row| row.clock_ahead_ms == 0).then_some(())
    })
    .await;
}
