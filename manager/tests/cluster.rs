//! Three managers over TLS: joining, writing through each, who may what, losing the leader.

mod common;

use api::model::{ClusterSpec, Role};
use api::proto::dispatch_client::DispatchClient;
use api::proto::raft_client::RaftClient;
use api::proto::*;
use common::agent::Agent;
use common::{BOUND, Boss, Hand, description, enrol, eventually, refused};
use manager::dialer::{Dialer, unidentified};
use manager::identity::Material;
use manager::tls::{self, Tls};
use manager::{Founding, LEADER_KEY};
use std::sync::Arc;
use tonic::{Code, Status};

fn network(name: &str) -> CreateNetworkRequest {
    CreateNetworkRequest {
        spec: Some(NetworkSpec {
            name: name.into(),
            ..NetworkSpec::default()
        }),
    }
}

async fn names(boss: &Boss) -> Result<Vec<String>, Status> {
    let reply = boss
        .control()
        .list_networks(ListNetworksRequest::default())
        .await?
        .into_inner();
    Ok(reply
        .networks
        .into_iter()
        .filter_map(|row| row.network?.spec)
        .map(|spec| spec.name)
        .collect())
}

async fn three() -> (Vec<Boss>, Founding) {
    let (first, founding) = Boss::found(ClusterSpec::default()).await;
    let second = Boss::join(&founding.tokens.manager, &first.addr, "node2").await;
    // The third asks a manager that does not lead.
    let third = Boss::join(&founding.tokens.manager, &second.addr, "node3").await;
    (vec![first, second, third], founding)
}

async fn kill_all(bosses: &mut [Boss]) {
    for boss in bosses {
        boss.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_through_any_manager_is_read_through_every_other() {
    let (mut bosses, _) = three().await;
    let status = bosses[2]
        .control()
        .get_status(GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.managers.len(), 3);
    assert!(status.managers.iter().all(|manager| manager.voter));
    let mut hostnames: Vec<_> = status
        .managers
        .iter()
        .map(|manager| manager.hostname.as_str())
        .collect();
    hostnames.sort_unstable();
    assert_eq!(hostnames, ["node1", "node2", "node3"]);
    let mut made = Vec::new();
    for (nth, boss) in bosses.iter().enumerate() {
        let name = format!("net{nth}");
        boss.control().create_network(network(&name)).await.unwrap();
        made.push(name);
        for reader in &bosses {
            assert_eq!(names(reader).await.unwrap(), made);
        }
    }
    // However many calls have been passed on by one connection before.
    let through = bosses.iter().find(|boss| !boss.leads()).unwrap();
    for _ in 0..250 {
        assert_eq!(names(through).await.unwrap(), made);
    }
    let (code, text) = refused(bosses[1].control().create_network(network("net0")).await);
    assert_eq!(code, Code::AlreadyExists);
    assert!(text.contains("network net0 is there already"), "{text}");
    let (code, text) = refused(
        bosses[1]
            .control()
            .remove_network(RemoveNetworkRequest {
                network: "net9".into(),
            })
            .await,
    );
    assert_eq!(
        (code, text.as_str()),
        (
            Code::NotFound,
            "no network \"net9\"; did you mean \"net0\"?"
        )
    );
    kill_all(&mut bosses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_leader_is_lost_another_serves_and_without_a_majority_the_reason_is_told() {
    let (mut bosses, founding) = three().await;
    bosses[0]
        .control()
        .create_network(network("before"))
        .await
        .unwrap();
    let at = bosses.iter().position(Boss::leads).unwrap();
    let mut lost = bosses.remove(at);
    lost.kill().await;
    // The proxy waits for the election: the call is made once.
    bosses[0]
        .control()
        .create_network(network("after"))
        .await
        .unwrap();
    for boss in &bosses {
        assert_eq!(names(boss).await.unwrap(), ["after", "before"]);
    }
    // A worker reaches whichever manager is left.
    let hand = Hand::join(&founding.tokens.worker, &bosses[1].addr, "node4", None).await;
    hand.control(&bosses[1])
        .list_nodes(ListNodesRequest::default())
        .await
        .unwrap();

    let mut second = bosses.remove(usize::from(!bosses[0].leads()));
    second.kill().await;
    let (code, text) = refused(bosses[0].control().create_network(network("never")).await);
    assert_eq!(code, Code::Unavailable);
    assert!(
        text.contains("managers can be reached, 2 are needed"),
        "{text}"
    );
    assert!(text.contains(&second.addr), "{text}");
    kill_all(&mut bosses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_may_look_and_nothing_else() {
    let (mut boss, founding) = Boss::found(ClusterSpec {
        worker_exec: false,
        ..ClusterSpec::default()
    })
    .await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let mut control = hand.control(&boss);
    let nodes = control
        .list_nodes(ListNodesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .nodes;
    assert_eq!(nodes.len(), 2);
    control.get_status(GetStatusRequest {}).await.unwrap();
    let told = (
        Code::PermissionDenied,
        "this node is a worker: run it on a manager (node1 127.0.0.1)".to_owned(),
    );
    assert_eq!(refused(control.create_network(network("x")).await), told);
    assert_eq!(
        refused(
            control
                .get_join_tokens(GetJoinTokensRequest::default())
                .await
        ),
        told
    );
    assert_eq!(
        refused(
            control
                .remove_stack(RemoveStackRequest { stack: "s".into() })
                .await
        ),
        told
    );
    let exec = tokio_stream::iter([ExecInput::default()]);
    let (code, text) = refused(control.exec(exec).await.map(drop));
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("--worker-exec=true"), "{text}");
    let (code, text) = refused(
        RaftClient::new(hand.dialer.manager(&boss.addr))
            .vote(VoteRequest::default())
            .await,
    );
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("for managers only"), "{text}");
    // What it says of itself is not believed.
    let mut forged = tonic::Request::new(network("x"));
    let claim = format!("operator:{}", boss.id).parse().unwrap();
    forged.metadata_mut().insert("x-cluster-caller", claim);
    assert_eq!(refused(control.create_network(forged).await), told);
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_certificates_and_tokens_are_refused() {
    let (mut boss, founding) = Boss::found(ClusterSpec::default()).await;
    // None.
    let config = Arc::new(tls::joiner_config(&boss.ca_pem).unwrap());
    let nobody = unidentified(&boss.addr, config);
    let (code, text) = refused(
        control_client::ControlClient::new(nobody)
            .get_status(GetStatusRequest {})
            .await,
    );
    assert_eq!(code, Code::Unauthenticated);
    assert!(
        text.contains("needs a certificate of this cluster"),
        "{text}"
    );
    // Another cluster's, even when it trusts this one's root.
    let other = Founding::new(
        ClusterSpec::default(),
        None,
        Default::default(),
        description("x"),
        [127, 0, 0, 1].into(),
        1,
        manager::now(),
    )
    .unwrap();
    let material = Material {
        ca_pem: boss.ca_pem.clone(),
        ..other.material.clone()
    };
    let stranger = Dialer::new(Tls::new(&material).unwrap());
    let mut client = control_client::ControlClient::new(stranger.manager(&boss.addr));
    assert!(client.get_status(GetStatusRequest {}).await.is_err());
    // And its own root does not vouch for this server.
    let stranger = Dialer::new(Tls::new(&other.material).unwrap());
    let text = stranger.probe(&boss.addr).await.unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "{} can't be reached: its certificate is not of this cluster",
            boss.addr
        )
    );
    // A node under another's name.
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let mut wrong = control_client::ControlClient::new(hand.dialer.node(&boss.addr, hand.id));
    let status = wrong.get_status(GetStatusRequest {}).await.unwrap_err();
    assert!(
        manager::dialer::root_cause(&status).contains("it is another node than"),
        "{status:?}"
    );

    // Tokens: wrong, of the other role after a rotation, and who guesses on.
    let asked = GetJoinTokensRequest {
        rotate_worker: true,
        rotate_manager: false,
    };
    let tokens = boss
        .control()
        .get_join_tokens(asked)
        .await
        .unwrap()
        .into_inner();
    assert_ne!(tokens.worker, founding.tokens.worker.to_string());
    assert_eq!(tokens.manager, founding.tokens.manager.to_string());
    let (code, text) = refused(enrol(&boss.addr, &founding.tokens.worker, "late", 9).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(
        text.contains("tokens were changed") && text.contains("clusterctl join-token worker"),
        "{text}"
    );
    enrol(&boss.addr, &tokens.worker.parse().unwrap(), "node3", 9)
        .await
        .unwrap();
    let mut last = Code::Ok;
    for _ in 0..20 {
        last = refused(enrol(&boss.addr, &founding.tokens.worker, "late", 9).await).0;
    }
    assert_eq!(last, Code::ResourceExhausted);
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removed_node_is_known_no_more() {
    let (mut boss, founding) = Boss::found(ClusterSpec::default()).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    hand.control(&boss)
        .get_status(GetStatusRequest {})
        .await
        .unwrap();
    boss.control()
        .remove_node(RemoveNodeRequest {
            node: "node2".into(),
            force: false,
        })
        .await
        .unwrap();
    let (code, text) = refused(hand.control(&boss).get_status(GetStatusRequest {}).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("was removed from the cluster"), "{text}");
    let (_, text) = refused(
        boss.control()
            .remove_node(RemoveNodeRequest {
                node: "node1".into(),
                force: true,
            })
            .await,
    );
    assert!(text.contains("the only manager"), "{text}");
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_join_that_was_broken_off_leaves_no_node_behind() {
    let (mut boss, founding) = Boss::found(ClusterSpec::default()).await;
    for _ in 0..3 {
        enrol(&boss.addr, &founding.tokens.worker, "node2", 4242)
            .await
            .unwrap();
    }
    assert_eq!(boss.nodes(&[]).await.len(), 2);
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_leader_leaves_and_the_last_manager_can_not() {
    let (mut bosses, founding) = three().await;
    let at = bosses.iter().position(Boss::leads).unwrap();
    let mut leader = bosses.remove(at);
    leader.manager.as_ref().unwrap().leave(BOUND).await.unwrap();
    leader.kill().await;
    let managers = eventually("the leader is out", async || {
        let status = bosses[0]
            .control()
            .get_status(GetStatusRequest {})
            .await
            .ok()?
            .into_inner();
        (status.managers.len() == 2).then_some(status.managers)
    })
    .await;
    assert!(managers.iter().all(|manager| manager.voter));
    // A follower leaves, told by itself.
    let at = bosses.iter().position(|boss| !boss.leads()).unwrap();
    let mut follower = bosses.remove(at);
    follower
        .manager
        .as_ref()
        .unwrap()
        .leave(BOUND)
        .await
        .unwrap();
    follower.kill().await;
    let last = &bosses[0];
    let (code, text) = refused(last.manager.as_ref().unwrap().leave(BOUND).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("the only manager"), "{text}");
    // And it still takes in others.
    let mut again = Boss::join(&founding.tokens.manager, &last.addr, "node5").await;
    again.kill().await;
    kill_all(&mut bosses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_with_a_follower_names_the_leader() {
    let (mut bosses, founding) = three().await;
    let hand = Hand::join(&founding.tokens.worker, &bosses[0].addr, "node4", None).await;
    assert_eq!(hand.identity.role, Role::Worker);
    let leader = bosses
        .iter()
        .find(|boss| boss.leads())
        .unwrap()
        .addr
        .clone();
    for boss in bosses.iter().filter(|boss| !boss.leads()) {
        let hello = AgentMessage {
            message: Some(agent_message::Message::Hello(Hello::default())),
        };
        let mut client = DispatchClient::new(hand.dialer.manager(&boss.addr));
        let status = client
            .session(tokio_stream::iter([hello]))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(
            status.metadata().get(LEADER_KEY).unwrap().to_str().unwrap(),
            leader
        );
    }
    kill_all(&mut bosses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_without_a_majority_tells_no_node_what_to_run() {
    let (mut bosses, founding) = three().await;
    let at = bosses.iter().position(Boss::leads).unwrap();
    let mut leader = bosses.remove(at);
    let hand = Hand::join(&founding.tokens.worker, &leader.addr, "node4", None).await;
    // The node is known and ready: for its next session nothing has to be written.
    drop(Agent::open(&hand, &leader).await.unwrap());
    kill_all(&mut bosses).await;
    // Another may lead by now, as far as this one can know. Ends for want of a majority, or of heartbeats.
    let _ = refused(Agent::open(&hand, &leader).await.map(drop));
    leader.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_retires_hands_the_lead_over() {
    let (mut bosses, _) = three().await;
    let at = bosses.iter().position(Boss::leads).unwrap();
    let mut leader = bosses.remove(at);
    leader.manager.as_ref().unwrap().retire().await;
    assert!(!leader.leads());
    leader.kill().await;
    bosses[1]
        .control()
        .create_network(network("after"))
        .await
        .unwrap();
    assert_eq!(names(&bosses[0]).await.unwrap(), ["after"]);
    kill_all(&mut bosses).await;
}
