//! Managers that come back with another address: the others learn it, and all goes on.

mod common;

use api::convert;
use api::model::{ClusterSpec, NodeId};
use api::proto::machine_server::{Machine, MachineServer};
use api::proto::raft_client::RaftClient;
use api::proto::{
    GetJoinTokensRequest, GetStatusRequest, JoinRaftRequest, LeaveRaftRequest, NoteManagersReply,
    NoteManagersRequest, SetAddressReply, SetAddressRequest,
};
use bytes::Bytes;
use common::agent::Agent;
use common::{Boss, Hand, eventually, refused};
use manager::Founding;
use tokio::sync::mpsc;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

async fn three() -> (Vec<Boss>, Founding) {
    let (first, founding) = Boss::found(ClusterSpec::default()).await;
    let second = Boss::join(&founding.tokens.manager, &first.addr, "node2").await;
    let third = Boss::join(&founding.tokens.manager, &first.addr, "node3").await;
    (vec![first, second, third], founding)
}

/// Waits until somebody leads and knows each of these where it is, and a majority takes a change.
async fn all_is_well(bosses: &[Boss]) {
    eventually("the managers find each other where they are", async || {
        let leader = bosses.iter().find(|boss| boss.leads())?;
        let status = leader.control().get_status(GetStatusRequest {}).await;
        let status = status.ok()?.into_inner();
        let is_there = |boss: &Boss| {
            let id = convert::id_bytes(boss.id.0);
            let known = status.managers.iter().find(|m| m.node_id == id);
            known.is_some_and(|m| m.addr == boss.addr && m.reachable && m.voter)
        };
        bosses.iter().all(is_there).then_some(())
    })
    .await;
    eventually("a change is taken", async || {
        let leader = bosses.iter().find(|boss| boss.leads())?;
        let request = GetJoinTokensRequest {
            rotate_worker: true,
            ..GetJoinTokensRequest::default()
        };
        leader.control().get_join_tokens(request).await.ok()
    })
    .await;
}

async fn end(bosses: &mut [Boss]) {
    for boss in bosses {
        boss.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_a_leader_and_a_single_manager_may_move() {
    let (mut bosses, _) = three().await;
    let follower = bosses.iter().position(|boss| !boss.leads()).unwrap();
    bosses[follower].comes_back_elsewhere().await;
    all_is_well(&bosses).await;
    let leader = bosses.iter().position(Boss::leads).unwrap();
    bosses[leader].comes_back_elsewhere().await;
    all_is_well(&bosses).await;
    end(&mut bosses).await;

    let (mut only, _) = Boss::found(ClusterSpec::default()).await;
    only.comes_back_elsewhere().await;
    all_is_well(std::slice::from_ref(&only)).await;
    only.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn managers_that_have_all_moved_find_each_other_when_told_where_one_is() {
    let (mut bosses, _) = three().await;
    let identities: Vec<_> = bosses
        .iter()
        .map(|boss| boss.manager.as_ref().unwrap().identity())
        .collect();
    end(&mut bosses).await;
    for (boss, identity) in bosses.iter_mut().zip(identities) {
        boss.starts_elsewhere(identity, "").await;
    }
    let first = bosses[0].addr.clone();
    for boss in &bosses[1..] {
        boss.manager.as_ref().unwrap().hint(first.clone());
    }
    all_is_well(&bosses).await;
    end(&mut bosses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_of_a_manager_takes_neither_its_place_nor_it_out() {
    let (mut bosses, _) = three().await;
    let at = bosses.iter().position(|boss| !boss.leads()).unwrap();
    let identity = bosses[at].manager.as_ref().unwrap().identity();
    bosses[at].kill().await;
    bosses[at].starts_elsewhere(identity, "this one").await;
    all_is_well(&bosses).await;
    let real = &bosses[at];
    let leader = bosses.iter().find(|boss| boss.leads()).unwrap();
    let mut as_real = RaftClient::new(real.dialer.node(&leader.addr, leader.id));
    let join = |instance: &'static str| JoinRaftRequest {
        addr: "127.0.0.1:9".into(),
        instance: Bytes::from_static(instance.as_bytes()),
    };
    let leave = |node: NodeId, instance: &'static str| LeaveRaftRequest {
        node_id: convert::id_bytes(node.0),
        instance: Bytes::from_static(instance.as_bytes()),
    };
    for refusal in [
        refused(as_real.join_raft(join("a copy")).await),
        refused(as_real.leave_raft(leave(real.id, "a copy")).await),
    ] {
        assert_eq!(refusal.0, Code::AlreadyExists, "{}", refusal.1);
        assert!(refusal.1.contains("cloned disk"), "{}", refusal.1);
    }
    // And nobody but itself, or a person, takes a manager out.
    let (code, text) = refused(as_real.leave_raft(leave(leader.id, "this one")).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("node demote"), "{text}");
    all_is_well(&bosses).await;
    end(&mut bosses).await;
}

/// What a worker hears of managers outside of a session.
struct Ear(mpsc::Sender<Vec<String>>);

#[tonic::async_trait]
impl Machine for Ear {
    async fn note_managers(
        &self,
        request: Request<NoteManagersRequest>,
    ) -> Result<Response<NoteManagersReply>, Status> {
        let _ = self.0.try_send(request.into_inner().managers);
        Ok(Response::new(NoteManagersReply {}))
    }

    async fn set_address(
        &self,
        _: Request<SetAddressRequest>,
    ) -> Result<Response<SetAddressReply>, Status> {
        Err(Status::failed_precondition("it has no such address"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_does_not_call_is_told_where_the_managers_have_gone() {
    let (mut boss, founding) = Boss::found(ClusterSpec::default()).await;
    let (tx, mut heard) = mpsc::channel(4);
    let routes = Routes::new(MachineServer::new(Ear(tx)));
    let worker = &founding.tokens.worker;
    let hand = Hand::join(worker, &boss.addr, "node2", Some(routes)).await;
    let (agent, _) = Agent::open(&hand, &boss).await.unwrap();
    drop(agent);
    boss.comes_back_elsewhere().await;
    let managers = tokio::time::timeout(common::BOUND, heard.recv());
    assert_eq!(managers.await.unwrap().unwrap(), [boss.addr.clone()]);
    // What the node says on an address is told to who asked.
    let asked = api::proto::SetNodeAddressRequest {
        node: "node2".into(),
        addr: "10.1.2.3".into(),
    };
    let (_, text) = refused(boss.control().set_node_address(asked).await);
    assert!(text.contains("node2: it has no such address"), "{text}");
    boss.kill().await;
}
