//! What keeps the leases of nodes: acknowledged heartbeats, and who may acknowledge them.

mod common;

use api::model::{ClusterSpec, NodeState};
use api::proto::*;
use common::agent::Agent;
use common::{Boss, Hand, eventually, refused};
use tonic::Code;

fn patient() -> ClusterSpec {
    ClusterSpec {
        dead_after_ms: 60_000,
        ..ClusterSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_heartbeat_is_acknowledged_by_a_leader_and_by_none_that_has_lost_the_others() {
    let (first, founding) = Boss::found(patient()).await;
    let mut others = Vec::new();
    for hostname in ["node2", "node3"] {
        others.push(Boss::join(&founding.tokens.manager, &first.addr, hostname).await);
    }
    let hand = Hand::join(&founding.tokens.worker, &first.addr, "node4", None).await;
    let (mut agent, _) = Agent::open(&hand, &first).await.unwrap();
    agent.beat(1).await;
    agent.until("acknowledged", |agent| agent.heard == 1).await;
    // The others are gone: it may think that it leads, but nobody confirms it.
    for other in &mut others {
        other.kill().await;
    }
    agent.beat(2).await;
    let handle = first.manager.as_ref().unwrap().handle();
    let asked = handle.linearizable().await;
    assert!(asked.is_err(), "it believes itself");
    assert!(
        refused(
            first
                .control()
                .list_nodes(ListNodesRequest::default())
                .await
        )
        .1
        .len()
            > 10
    );
    // Whatever else it has said meanwhile, or that the session is over.
    while let Ok(Ok(())) =
        tokio::time::timeout(std::time::Duration::from_millis(300), agent.next()).await
    {}
    assert_eq!(agent.heard, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_machine_with_the_same_identity_is_refused_and_named() {
    let (boss, founding) = Boss::found(patient()).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let (mut agent, _) = Agent::open_on(&hand, &boss, b"this boot").await.unwrap();
    let (code, text) = refused(
        Agent::open_on(&hand, &boss, b"the copy's boot")
            .await
            .map(drop),
    );
    assert_eq!(code, Code::AlreadyExists);
    assert!(text.contains("two machines have the identity"), "{text}");
    assert!(text.contains("clusterctl leave --force"), "{text}");
    agent.until("told", |agent| !agent.notices.is_empty()).await;
    assert!(agent.notices[0].contains("a second machine, at 127.0.0.1"));
    assert_eq!(boss.row(&hand).await.twin, "127.0.0.1");
    // The first one goes on, and may begin anew.
    agent.beat(1).await;
    agent.until("heard", |agent| agent.heard == 1).await;
    Agent::open_on(&hand, &boss, b"this boot").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_machine_that_was_started_anew_is_taken_once_its_last_boot_is_not_heard_any_more() {
    let (boss, founding) = Boss::found(patient()).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let (agent, _) = Agent::open_on(&hand, &boss, b"first boot").await.unwrap();
    drop(agent);
    eventually("a session of the next boot", || async {
        Agent::open_on(&hand, &boss, b"second boot").await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn open_sessions_learn_of_another_pace_and_a_silent_node_is_suspect_before_it_is_down() {
    let (boss, founding) = Boss::found(patient()).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let (mut agent, _) = Agent::open(&hand, &boss).await.unwrap();
    let update = |heartbeat_ms, dead_after_ms| UpdateClusterRequest {
        heartbeat_ms: Some(heartbeat_ms),
        dead_after_ms: Some(dead_after_ms),
        ..UpdateClusterRequest::default()
    };
    let (code, text) = refused(boss.control().update_cluster(update(1_000, 2_000)).await);
    assert_eq!(code, Code::InvalidArgument, "{text}");
    assert!(
        text.contains("at least three heartbeats, 3000 ms"),
        "{text}"
    );
    let told = boss
        .control()
        .update_cluster(update(100, 6_000))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(told.spec.unwrap().heartbeat_ms, 100);
    agent
        .until("the pace", |agent| !agent.paces.is_empty())
        .await;
    assert_eq!(
        (agent.paces[0].heartbeat_ms, agent.paces[0].dead_after_ms),
        (100, 6_000)
    );
    // It says nothing from here on.
    eventually("suspect", || async {
        boss.row(&hand).await.suspect.then_some(())
    })
    .await;
    eventually("down", || async {
        let node = api::model::Node::try_from(boss.row(&hand).await.node.unwrap()).unwrap();
        (node.status.state == NodeState::Down).then_some(())
    })
    .await;
    assert!(!boss.row(&hand).await.suspect);
}
