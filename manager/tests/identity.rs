//! Certificates over TLS: renewed, ended, revoked, of another root, asked for by who may not.

mod common;

use api::model::ClusterSpec;
use api::proto::ca_client::CaClient;
use api::proto::raft_client::RaftClient;
use api::proto::*;
use common::agent::Agent;
use common::{Boss, Hand, enrol, eventually, refused};
use manager::Founding;
use manager::certificate::Certificate;
use manager::identity::{KeyRequest, Material};
use manager::tls::is_vouched;
use tonic::{Code, Status};

async fn renew(hand: &Hand, boss: &Boss, csr_pem: String) -> Result<Renewed, Status> {
    let mut client = CaClient::new(hand.dialer.manager(&boss.addr));
    let renewed = client.renew(RenewRequest { csr_pem }).await?;
    Ok(renewed.into_inner())
}

fn known_key(hand: &Hand) -> String {
    let key = hand.material.lock().unwrap().key_pem.clone();
    KeyRequest::for_key(&key).unwrap().csr_pem
}

/// Takes what was renewed into use, as a node does.
fn adopt(hand: &Hand, renewed: &Renewed) {
    let mut material = hand.material.lock().unwrap();
    *material = Material {
        ca_pem: renewed.roots_pem.clone(),
        cert_pem: renewed.cert_pem.clone(),
        key_pem: material.key_pem.clone(),
    };
    hand.dialer.tls().reload(&material).unwrap();
    hand.dialer.forget_all();
}

fn end_of(pem: &str) -> api::model::Timestamp {
    Certificate::from_pem(pem).unwrap().not_after
}

async fn founded(expiry_ms: u64) -> (Boss, Founding) {
    let spec = ClusterSpec {
        cert_expiry_ms: expiry_ms,
        ..ClusterSpec::default()
    };
    Boss::found(spec).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_certificate_that_has_ended_gets_its_node_a_new_one_and_nothing_else() {
    let (mut boss, founding) = founded(3_000).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "worker", None).await;
    hand.control(&boss)
        .get_status(GetStatusRequest {})
        .await
        .unwrap();
    let first = hand.material.lock().unwrap().cert_pem.clone();
    // The connection is from before the end; the manager's own certificate ends, too.
    eventually("the certificate ends", || async {
        // To the second after: TLS counts a certificate's last second in.
        (manager::now() >= end_of(&first).plus_ms(1_000)).then_some(())
    })
    .await;
    let (code, text) = refused(hand.control(&boss).get_status(GetStatusRequest {}).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("has ended"), "{text}");
    hand.dialer.forget_all();
    let (_, text) = refused(hand.control(&boss).get_status(GetStatusRequest {}).await);
    assert!(text.contains("has ended"), "{text}");
    // Another key than the one it joined with gets nothing.
    let stolen = KeyRequest::generate().unwrap();
    let (code, text) = refused(renew(&hand, &boss, stolen.csr_pem).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("another key"), "{text}");
    let (code, _) = refused(renew(&hand, &boss, "nonsense".into()).await);
    assert_eq!(code, Code::InvalidArgument);

    let renewed = renew(&hand, &boss, known_key(&hand)).await.unwrap();
    assert!(end_of(&renewed.cert_pem) > end_of(&first));
    adopt(&hand, &renewed);
    // The manager has not renewed its own, which only those believe whose own has ended.
    let (code, text) = refused(hand.control(&boss).get_status(GetStatusRequest {}).await);
    assert_eq!(code, Code::Unavailable);
    assert!(
        text.contains("has expired") || text.contains("connect"),
        "{text}"
    );
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_role_is_what_the_state_says_and_no_certificate_gives_more() {
    let (mut boss, founding) = founded(3_600_000).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "worker", None).await;
    type Wanted = api::proto::Role;
    let role = |role: Wanted| SetNodeRoleRequest {
        node: hand.id.to_string(),
        role: role.into(),
    };
    // A worker promotes nobody, itself least, and asks for no seat among the managers.
    let (code, _) = refused(
        hand.control(&boss)
            .set_node_role(role(Wanted::Manager))
            .await,
    );
    assert_eq!(code, Code::PermissionDenied);
    let renewed = renew(&hand, &boss, known_key(&hand)).await.unwrap();
    assert_eq!(renewed.role, "worker");
    let mut raft = RaftClient::new(hand.dialer.manager(&boss.addr));
    let request = JoinRaftRequest {
        addr: "127.0.0.1:1".into(),
        ..JoinRaftRequest::default()
    };
    let (code, _) = refused(raft.join_raft(request.clone()).await);
    assert_eq!(code, Code::PermissionDenied);

    let (mut agent, _) = Agent::open(&hand, &boss).await.unwrap();
    agent
        .until("its standing", |agent| agent.standing.is_some())
        .await;
    boss.control()
        .set_node_role(role(Wanted::Manager))
        .await
        .unwrap();
    agent
        .until("the promotion", |agent| {
            agent.standing.as_ref().is_some_and(|s| s.role == "manager")
        })
        .await;
    let renewed = renew(&hand, &boss, known_key(&hand)).await.unwrap();
    assert_eq!(renewed.role, "manager");
    adopt(&hand, &renewed);
    let (code, text) = refused(raft.join_raft(request.clone()).await);
    assert_eq!(
        code,
        Code::PermissionDenied,
        "the old connection is a worker's: {text}"
    );

    // Taken back: the certificate says manager, the state doesn't.
    boss.control()
        .set_node_role(role(Wanted::Worker))
        .await
        .unwrap();
    let mut raft = RaftClient::new(hand.dialer.manager(&boss.addr));
    let (code, text) = refused(raft.join_raft(request).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("for managers only"), "{text}");
    let (code, text) = refused(
        hand.control(&boss)
            .remove_network(RemoveNetworkRequest::default())
            .await,
    );
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("this node is a worker"), "{text}");
    // And the only manager can't be demoted.
    let own = SetNodeRoleRequest {
        node: boss.id.to_string(),
        role: Wanted::Worker.into(),
    };
    let (_, text) = refused(boss.control().set_node_role(own).await);
    assert!(text.contains("stays a manager"), "{text}");
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removed_node_loses_its_open_connections_to_every_manager() {
    let (mut first, founding) = founded(3_600_000).await;
    let mut second = Boss::join(&founding.tokens.manager, &first.addr, "node2").await;
    let hand = Hand::join(&founding.tokens.worker, &first.addr, "worker", None).await;
    let (mut agent, _) = Agent::open(&hand, &first).await.unwrap();
    for boss in [&first, &second] {
        hand.control(boss)
            .get_status(GetStatusRequest {})
            .await
            .unwrap();
    }
    first
        .control()
        .remove_node(RemoveNodeRequest {
            node: hand.id.to_string(),
            force: true,
        })
        .await
        .unwrap();
    while agent.next().await.is_ok() {}
    for boss in [&first, &second] {
        eventually("no call is served any more", || async {
            hand.control(boss)
                .get_status(GetStatusRequest {})
                .await
                .err()
        })
        .await;
        hand.dialer.forget_all();
        let asked = hand.control(boss).get_status(GetStatusRequest {}).await;
        let (code, text) = refused(asked);
        assert_eq!(code, Code::PermissionDenied);
        assert!(text.contains("was removed from the cluster"), "{text}");
        refused(renew(&hand, boss, known_key(&hand)).await);
    }
    second.kill().await;
    first.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_ca_is_replaced_under_open_sessions_and_joins_go_on() {
    let (mut boss, founding) = founded(3_600_000).await;
    let hand = Hand::join(&founding.tokens.worker, &boss.addr, "worker", None).await;
    let (mut agent, _) = Agent::open(&hand, &boss).await.unwrap();
    let old = boss.ca_pem.clone();
    let begun = boss
        .control()
        .rotate_ca(RotateCaRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(begun.laggards.len(), 2);
    // Again is the same again.
    let again = boss
        .control()
        .rotate_ca(RotateCaRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.digest, begun.digest);
    agent
        .until("the new root", |agent| {
            let standing = agent.standing.as_ref();
            standing.is_some_and(|s| s.issuer == begun.digest && s.held_issuer != s.issuer)
        })
        .await;
    // Who comes meanwhile, with a token of before, is of the new root already.
    let (issued, joined) = enrol(&boss.addr, &founding.tokens.worker, "late", 9)
        .await
        .unwrap();
    is_vouched(&begun.cert_pem, &issued.cert_pem, manager::now()).unwrap();
    is_vouched(&old, &issued.cert_pem, manager::now()).unwrap();
    assert!(
        joined.ca_pem.contains(old.trim()),
        "what vouches for the token stays"
    );

    let renewed = renew(&hand, &boss, known_key(&hand)).await.unwrap();
    is_vouched(&begun.cert_pem, &renewed.cert_pem, manager::now()).unwrap();
    adopt(&hand, &renewed);
    let (agent, _) = Agent::open(&hand, &boss).await.unwrap();
    let left = boss
        .control()
        .get_ca(GetCaRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        left.laggards.len(),
        1,
        "the manager itself is left: {left:?}"
    );
    assert!(!left.retiring_digest.is_empty());
    // The manager, by its own agent's session.
    let manager = Hand::of(&boss, &founding.material);
    let renewed = renew(&manager, &boss, known_key(&manager)).await.unwrap();
    assert_eq!(renewed.role, "manager");
    adopt(&manager, &renewed);
    let (_own, _) = Agent::open(&manager, &boss).await.unwrap();
    eventually("the old root is gone", || async {
        let ca = boss
            .control()
            .get_ca(GetCaRequest {})
            .await
            .unwrap()
            .into_inner();
        ca.retiring_digest.is_empty().then_some(())
    })
    .await;
    let tokens = boss
        .control()
        .get_join_tokens(GetJoinTokensRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(tokens.worker.contains(&begun.digest), "{}", tokens.worker);
    drop(agent);
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_clusters_certificate_and_a_ca_that_is_none_get_nowhere() {
    let (mut boss, _) = founded(3_600_000).await;
    let (mut other, theirs) = founded(3_600_000).await;
    let stranger = Hand::join(&theirs.tokens.worker, &other.addr, "stranger", None).await;
    let (code, _) = refused(renew(&stranger, &boss, known_key(&stranger)).await);
    assert_eq!(code, Code::Unavailable);
    // It trusts this cluster now, which does not trust it.
    let forged = Material {
        ca_pem: format!("{}{}", boss.ca_pem, other.ca_pem),
        ..stranger.material.lock().unwrap().clone()
    };
    stranger.dialer.tls().reload(&forged).unwrap();
    stranger.dialer.forget_all();
    refused(renew(&stranger, &boss, known_key(&stranger)).await);
    refused(
        stranger
            .control(&boss)
            .get_status(GetStatusRequest {})
            .await,
    );

    let own = stranger.material.lock().unwrap().clone();
    let request = RotateCaRequest {
        ca_cert_pem: own.cert_pem,
        ca_key_pem: own.key_pem,
    };
    let (code, text) = refused(boss.control().rotate_ca(request).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("is no CA's"), "{text}");
    let half = RotateCaRequest {
        ca_cert_pem: own.ca_pem,
        ca_key_pem: String::new(),
    };
    let (_, text) = refused(boss.control().rotate_ca(half).await);
    assert!(text.contains("give both"), "{text}");
    other.kill().await;
    boss.kill().await;
}
