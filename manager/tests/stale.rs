//! A leader that has lost the others: it answers no read that claims to be true, and sends nobody anything; what it
//! has, it shows to who asks for that.

mod common;

use api::model::ClusterSpec;
use api::proto::*;
use common::agent::Agent;
use common::{Boss, Hand, refused};
use manager::proxy::STALE_HEADER;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Request};

fn stale<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(STALE_HEADER, "1".parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_is_cut_off_answers_only_stale_reads_and_dispatches_nothing() {
    let spec = ClusterSpec {
        dead_after_ms: 60_000,
        ..ClusterSpec::default()
    };
    let (first, founding) = Boss::found(spec).await;
    let mut others = Vec::new();
    for hostname in ["node2", "node3"] {
        others.push(Boss::join(&founding.tokens.manager, &first.addr, hostname).await);
    }
    let hand = Hand::join(&founding.tokens.worker, &first.addr, "node4", None).await;
    let (mut agent, _) = Agent::open(&hand, &first).await.unwrap();
    let status = first
        .control()
        .get_status(GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.managers.len(), 3);
    assert!(!status.stale);
    for manager in &status.managers {
        let health = manager.health.as_ref().expect("each says how it does");
        assert!(
            manager.reachable && health.syncs > 0 && health.sync_p99_us > 0,
            "{manager:?}"
        );
    }
    // A follower answers stale reads itself, and refuses stale writes.
    let listed = others[0]
        .control()
        .list_nodes(stale(ListNodesRequest::default()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.nodes.len(), 4);
    let drain = UpdateNodeRequest {
        node: "node4".into(),
        availability: Some(Availability::Drain.into()),
        ..UpdateNodeRequest::default()
    };
    let (code, text) = refused(others[0].control().update_node(stale(drain.clone())).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(
        text.contains("--stale is for commands that only look"),
        "{text}"
    );
    // It looks, though not everybody may: there is no such config.
    let config = ReadConfigRequest {
        name: "none".into(),
    };
    let (code, text) = refused(others[0].control().read_config(stale(config)).await);
    assert_eq!(code, Code::NotFound, "{text}");
    let second = others[0]
        .control()
        .get_status(stale(GetStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert!(second.stale);
    assert_eq!(second.answered_by, api::convert::id_bytes(others[0].id.0));

    for other in &mut others {
        other.kill().await;
    }
    let (code, _) = refused(
        first
            .control()
            .list_nodes(ListNodesRequest::default())
            .await,
    );
    assert_eq!(code, Code::Unavailable);
    let (code, _) = refused(first.control().update_node(drain).await);
    assert_eq!(code, Code::Unavailable);
    let listed = first
        .control()
        .list_nodes(stale(ListNodesRequest::default()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.nodes.len(), 4);
    let status = first
        .control()
        .get_status(stale(GetStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    let up = status.managers.iter().filter(|m| m.reachable).count();
    assert_eq!((status.stale, up), (true, 1));
    let down = status.managers.iter().find(|m| !m.reachable).unwrap();
    assert!(
        down.health.is_none() && !down.trouble.is_empty(),
        "{down:?}"
    );
    // Nothing was dispatched: neither an assignment nor an acknowledgement.
    agent.beat(7).await;
    while let Ok(Ok(())) = timeout(Duration::from_millis(300), agent.next()).await {}
    assert!(agent.tasks.is_empty() && agent.heard < 7);
}
