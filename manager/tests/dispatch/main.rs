//! A scripted agent: assignments, statuses, heartbeats, and a stack's whole life.

#[path = "../common/mod.rs"]
mod common;
mod secrets;

use api::model::{ClusterSpec, NodeState, ServiceMode, TaskState};
use api::proto::agent_message::Message as FromAgent;
use api::proto::*;
use bytes::Bytes;
use common::agent::Agent;
use common::{Boss, Hand, eventually};
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Code;

fn patient() -> ClusterSpec {
    ClusterSpec {
        dead_after_ms: 60_000,
        ..ClusterSpec::default()
    }
}

fn stack(replicas: u32) -> StackSpec {
    let mut spec = api::model::ServiceSpec {
        name: "shop_web".into(),
        stack: Some("shop".into()),
        mode: ServiceMode::Replicated { replicas },
        ..Default::default()
    };
    spec.template.container.image = "busybox".into();
    let own = api::model::NetworkSpec {
        name: "shop_back".into(),
        stack: Some("shop".into()),
        ..Default::default()
    };
    let service = api::model::StackService {
        spec,
        networks: BTreeMap::from([
            ("demo".to_owned(), vec!["web".to_owned()]),
            ("shop_back".to_owned(), vec!["web".to_owned()]),
        ]),
        ..Default::default()
    };
    StackSpec::from(&api::model::StackSpec {
        name: "shop".into(),
        networks: BTreeMap::from([("shop_back".to_owned(), own)]),
        external_networks: vec!["demo".into()],
        services: BTreeMap::from([("shop_web".to_owned(), service)]),
        ..Default::default()
    })
}

async fn network_names(boss: &Boss) -> Vec<String> {
    let reply = boss
        .control()
        .list_networks(ListNetworksRequest::default())
        .await
        .unwrap()
        .into_inner();
    reply
        .networks
        .into_iter()
        .map(|row| row.network.unwrap().spec.unwrap().name)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stack_lives_and_goes() {
    let (mut boss, founding) = Boss::found(patient()).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let (mut agent, welcome) = Agent::open(&hand, &boss).await.unwrap();
    assert_eq!(welcome.managers, [boss.addr.clone()]);
    let mut control = boss.control();

    let refused = control
        .deploy_stack(DeployStackRequest {
            spec: Some(stack(2)),
        })
        .await
        .unwrap_err();
    assert!(
        refused
            .message()
            .contains("clusterctl network create -d overlay demo"),
        "{refused}"
    );
    let demo = NetworkSpec {
        name: "demo".into(),
        ..NetworkSpec::default()
    };
    control
        .create_network(CreateNetworkRequest { spec: Some(demo) })
        .await
        .unwrap();
    let reply = control
        .deploy_stack(DeployStackRequest {
            spec: Some(stack(2)),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(reply.created, ["network shop_back", "service shop_web"]);

    agent
        .until("two tasks", |agent| agent.tasks.len() == 2)
        .await;
    agent
        .until("their networks", |agent| {
            agent.networks.len() == 2 && agent.endpoints.len() == 2
        })
        .await;
    assert!(
        agent
            .services
            .values()
            .all(|service| service.names == ["shop_web", "web"])
    );
    assert!(agent.endpoints.values().all(|endpoint| !endpoint.ready));
    assert!(
        agent
            .tasks
            .values()
            .all(|assigned| assigned.stack.as_deref() == Some("shop"))
    );
    let ids: Vec<Bytes> = agent.tasks.keys().cloned().collect();
    agent.report(&ids, TaskState::Running).await;
    agent
        .until("endpoints in the answers", |agent| {
            agent.endpoints.values().all(|e| e.ready)
        })
        .await;
    let status = control
        .get_status(GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.tasks_running, status.tasks_wanted), (2, 2));

    let again = control
        .deploy_stack(DeployStackRequest {
            spec: Some(stack(2)),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.unchanged, ["network shop_back", "service shop_web"]);
    let after = control
        .get_status(GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        after.revision, status.revision,
        "an unchanged file was written"
    );

    let scale = ScaleServiceRequest {
        service: "shop_web".into(),
        replicas: 1,
    };
    control.scale_service(scale).await.unwrap();
    let shutdown = i32::from(api::proto::TaskState::Shutdown);
    agent
        .until("one is to end", |agent| {
            ids.iter().any(|id| agent.desired(id) >= Some(shutdown))
        })
        .await;
    let ending = ids
        .iter()
        .find(|id| agent.desired(id) >= Some(shutdown))
        .unwrap()
        .clone();
    agent
        .report(std::slice::from_ref(&ending), TaskState::Shutdown)
        .await;
    agent
        .until("its end is known", |agent| {
            !agent.tasks.contains_key(&ending)
        })
        .await;

    let removed = control
        .remove_stack(RemoveStackRequest {
            stack: "shop".into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(removed.removed, ["service shop_web", "network shop_back"]);
    let left: Vec<Bytes> = agent.tasks.keys().cloned().collect();
    agent
        .until("the last is to end", |agent| {
            agent.desired(&left[0]) >= Some(shutdown)
        })
        .await;
    assert!(
        network_names(&boss).await.contains(&"shop_back".to_owned()),
        "a task still holds it"
    );
    agent.report(&left, TaskState::Shutdown).await;
    agent
        .until("nothing is left", |agent| {
            agent.tasks.is_empty() && agent.networks.is_empty()
        })
        .await;
    eventually("the stack's tasks are gone", async || {
        let request = ListTasksRequest {
            ids: removed.tasks.clone(),
            ..ListTasksRequest::default()
        };
        let tasks = boss
            .control()
            .list_tasks(request)
            .await
            .unwrap()
            .into_inner()
            .tasks;
        tasks.is_empty().then_some(())
    })
    .await;
    eventually("its network is gone", async || {
        (network_names(&boss).await == ["demo"]).then_some(())
    })
    .await;
    control
        .remove_network(RemoveNetworkRequest {
            network: "demo".into(),
        })
        .await
        .unwrap();
    boss.kill().await;
}

async fn state_of(boss: &Boss, hostname: &str) -> NodeState {
    let rows = boss.nodes(&[hostname]).await;
    let status = rows[0].node.as_ref().unwrap().status.clone().unwrap();
    api::model::NodeStatus::try_from(status).unwrap().state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_silent_node_is_down_until_it_comes_back() {
    let spec = ClusterSpec {
        heartbeat_ms: 100,
        dead_after_ms: 1_500,
        ..ClusterSpec::default()
    };
    let (mut boss, founding) = Boss::found(spec).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    assert_eq!(state_of(&boss, "node2").await, NodeState::Unknown);
    let (mut agent, welcome) = Agent::open(&hand, &boss).await.unwrap();
    assert_eq!((welcome.heartbeat_ms, welcome.dead_after_ms), (100, 1_500));
    assert_eq!(state_of(&boss, "node2").await, NodeState::Ready);
    // It says nothing any more.
    eventually("the node is down", async || {
        (state_of(&boss, "node2").await == NodeState::Down).then_some(())
    })
    .await;
    let ended = loop {
        match agent.next().await {
            Ok(()) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::DeadlineExceeded, "{ended}");
    let (agent, _) = Agent::open(&hand, &boss).await.unwrap();
    assert_eq!(state_of(&boss, "node2").await, NodeState::Ready);
    // With heartbeats it stays.
    for _ in 0..20 {
        agent
            .tx
            .send(AgentMessage {
                message: Some(FromAgent::Heartbeat(Heartbeat { sequence: 1, at: 0 })),
            })
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(state_of(&boss, "node2").await, NodeState::Ready);
    }
    boss.kill().await;
}

/// How a session ends, whatever is told before.
async fn last_word(agent: &mut Agent) -> Code {
    loop {
        if let Err(status) = agent.next().await {
            return status.code();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_newer_session_replaces_the_one_before() {
    let (mut boss, founding) = Boss::found(patient()).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let (mut old, _) = Agent::open(&hand, &boss).await.unwrap();
    let (new, _) = Agent::open(&hand, &boss).await.unwrap();
    assert_eq!(last_word(&mut old).await, Code::Aborted);
    assert_eq!(new.fulls, 1);
    // A node that is removed is told so.
    let request = RemoveNodeRequest {
        node: "node2".into(),
        force: true,
    };
    boss.control().remove_node(request).await.unwrap();
    let mut new = new;
    assert_eq!(last_word(&mut new).await, Code::PermissionDenied);
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_moves_to_the_next_leader() {
    let (first, founding) = Boss::found(patient()).await;
    let mut bosses = vec![first];
    for hostname in ["node2", "node3"] {
        bosses.push(Boss::join(&founding.tokens.manager, &bosses[0].addr.clone(), hostname).await);
    }
    let hand = Hand::join(&founding.tokens.worker, &bosses[0].addr, "node4", None).await;
    let (mut agent, _) = Agent::open(&hand, &bosses[0]).await.unwrap();
    let demo = NetworkSpec {
        name: "demo".into(),
        ..NetworkSpec::default()
    };
    bosses[0]
        .control()
        .create_network(CreateNetworkRequest { spec: Some(demo) })
        .await
        .unwrap();
    bosses[0]
        .control()
        .deploy_stack(DeployStackRequest {
            spec: Some(stack(3)),
        })
        .await
        .unwrap();
    agent
        .until("three tasks", |agent| agent.tasks.len() == 3)
        .await;
    let ids: Vec<Bytes> = agent.tasks.keys().cloned().collect();
    agent.report(&ids, TaskState::Running).await;
    bosses.remove(0).kill().await;
    while agent.next().await.is_ok() {}
    let (agent, _) = eventually("a session with the next leader", async || {
        for boss in &bosses {
            if let Ok(opened) = Agent::open(&hand, boss).await {
                return Some(opened);
            }
        }
        None
    })
    .await;
    assert_eq!(agent.tasks.len(), 3);
    let ready = |assigned: &AssignedTask| {
        assigned
            .task
            .as_ref()
            .and_then(|task| task.status.as_ref())
            .map(|status| status.state)
    };
    let running = i32::from(api::proto::TaskState::Running);
    assert!(
        agent
            .tasks
            .values()
            .all(|assigned| ready(assigned) == Some(running))
    );
    for boss in &mut bosses {
        boss.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_says_goodbye_is_a_member_no_more() {
    let (mut boss, founding) = Boss::found(patient()).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let (mut agent, _) = Agent::open(&hand, &boss).await.unwrap();
    agent
        .tx
        .send(AgentMessage {
            message: Some(FromAgent::Goodbye(Goodbye {})),
        })
        .await
        .unwrap();
    while agent.next().await.is_ok() {}
    assert_eq!(boss.nodes(&[]).await.len(), 1);
    boss.kill().await;
}
