//! How a manager becomes a voter, and stops being one.

use crate::auth::Origin;
use crate::control::{propose_status, reason};
use crate::dialer::Dialer;
use crate::place::{Me, check_addr};
use crate::proxy::{Upstream, ask, retry_elsewhere};
use api::convert;
use api::model::{NodeId, Role};
use api::proto::raft_client::RaftClient;
use api::proto::{JoinRaftReply, JoinRaftRequest, LeaveRaftReply, LeaveRaftRequest};
use bytes::Bytes;
use raft_store::Handle;
use raft_store::wire::VERSION;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

/// How long another manager may take to take the lead over.
const TAKE_OVER: Duration = Duration::from_secs(1);
/// How long between two rounds over the managers.
const PAUSE: Duration = Duration::from_millis(250);
/// Under which a manager says its version as it joins.
const VERSION_KEY: &str = "clusterd-manager-version";

/// Asks the managers in turn, again and again while none can be reached, to take this one in. The log's index at which
/// it has become one of them.
pub async fn join_raft(
    dialer: &Dialer,
    managers: &[String],
    addr: &str,
    instance: &Bytes,
    bound: Duration,
) -> Result<u64, Status> {
    let deadline = Instant::now() + bound;
    let mut last = Status::failed_precondition("no manager is known that could take this one in");
    loop {
        for manager in managers.iter().filter(|manager| *manager != addr) {
            let mut client = RaftClient::new(dialer.manager(manager));
            let mut request = Request::new(JoinRaftRequest {
                addr: addr.to_owned(),
                instance: instance.clone(),
            });
            request.metadata_mut().insert(VERSION_KEY, VERSION.into());
            let asked = client.join_raft(request);
            match timeout_at(deadline, asked).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner().index),
                Ok(Err(status)) if is_passing(status.code()) => {
                    last = Status::unavailable(format!("{manager}: {}", reason(&status)));
                }
                Ok(Err(status)) => return Err(Status::new(status.code(), status.message())),
                Err(_) => {
                    return Err(Status::deadline_exceeded(format!(
                        "this manager was not taken in within {} s; is {addr} open to the other managers?",
                        bound.as_secs()
                    )));
                }
            }
        }
        if managers.is_empty() || Instant::now() + PAUSE >= deadline {
            return Err(last);
        }
        sleep(PAUSE).await;
    }
}

/// Refuses a manager that could not read what the others send it, or they what it sends.
pub fn check_version(metadata: &MetadataMap) -> Result<(), Status> {
    let told = metadata
        .get(VERSION_KEY)
        .and_then(|value| value.to_str().ok());
    // Those before there were versions don't say.
    let version = told.map_or(Some(1), |told| told.parse::<u32>().ok());
    let (has, cure) = match version {
        Some(VERSION) => return Ok(()),
        Some(version) if version > VERSION => {
            (version.to_string(), "upgrade the cluster's managers first")
        }
        Some(version) => (
            version.to_string(),
            "upgrade clusterd on the machine that joins",
        ),
        None => (
            format!("{told:?}"),
            "upgrade clusterd on the machine that joins",
        ),
    };
    Err(Status::failed_precondition(format!(
        "managers of this cluster speak version {VERSION} among each other, the clusterd that joins speaks {has}; {cure}"
    )))
}

fn is_passing(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Aborted | Code::Unknown)
}

/// Asks the leader to take a manager out.
pub async fn leave_raft(
    upstream: &Arc<dyn Upstream>,
    node: NodeId,
    instance: &Bytes,
    bound: Duration,
) -> Result<(), Status> {
    let mut client = RaftClient::new(ask(upstream.clone()));
    let mut request = Request::new(LeaveRaftRequest {
        node_id: convert::id_bytes(node.0),
        instance: instance.clone(),
    });
    // Where this manager leads, no certificate says who asks.
    request
        .extensions_mut()
        .insert(Origin::operator(Some(node)));
    match tokio::time::timeout(bound, client.leave_raft(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(Status::new(status.code(), status.message())),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "the managers did not agree within {} s; are most of them up?",
            bound.as_secs()
        ))),
    }
}

/// On the leader: makes a node one of the managers. Returns once it is a voter.
pub async fn take_in(
    me: &Me,
    node: NodeId,
    request: &JoinRaftRequest,
) -> Result<JoinRaftReply, Status> {
    let (handle, addr) = (&me.handle, request.addr.as_str());
    handle
        .linearizable()
        .await
        .map_err(|e| propose_status(e, false))?;
    let known = handle
        .read(|state| state.nodes().get(&node).cloned())
        .ok_or_else(|| {
            Status::permission_denied(format!("node {node} is not of this cluster (any more)"))
        })?;
    if known.spec.role != Role::Manager {
        return Err(Status::permission_denied(format!(
            "node {node} is a worker: only managers hold the state"
        )));
    }
    check_addr(addr)?;
    me.refuse_copy(node, addr, &request.instance).await?;
    tracing::info!(%node, addr, "a manager comes in");
    handle
        .add_manager(node, addr.to_owned())
        .await
        .map_err(|e| propose_status(e, false))?;
    Ok(JoinRaftReply {
        index: handle.members_index(),
        managers: handle
            .managers()
            .into_iter()
            .map(|manager| manager.peer.addr)
            .collect(),
    })
}

/// On the leader: gives the lead to the manager that is furthest, and waits until it has it.
pub async fn hand_over(handle: &Handle, me: NodeId) -> Result<(), Status> {
    let managers = handle.managers();
    let next = managers
        .iter()
        .filter(|manager| manager.voter && manager.peer.node_id != me)
        .min_by_key(|manager| (!manager.reachable, manager.lag))
        .ok_or_else(|| Status::failed_precondition("there is no other manager that could lead"))?;
    let mut leadership = handle.leadership();
    handle
        .transfer_leadership(next.peer.node_id)
        .await
        .map_err(|e| propose_status(e, false))?;
    // Not taken in time: the next try asks again.
    let _ = timeout(TAKE_OVER, leadership.wait_for(|now| !now.own)).await;
    Ok(())
}

/// On the leader: makes a node a manager no more. Should it be the leader itself, it hands the lead over and
/// has the call made again there.
pub async fn take_out(
    me: &Me,
    asks: NodeId,
    request: &LeaveRaftRequest,
) -> Result<LeaveRaftReply, Status> {
    let node =
        convert::node_id(&request.node_id).map_err(|e| Status::invalid_argument(e.to_string()))?;
    if asks != node {
        return Err(Status::permission_denied(format!(
            "node {asks} can't take manager {node} out: `clusterctl node demote` or `clusterctl node rm` does"
        )));
    }
    let handle = &me.handle;
    handle
        .linearizable()
        .await
        .map_err(|e| propose_status(e, false))?;
    let managers = handle.managers();
    if !managers.iter().any(|manager| manager.peer.node_id == node) {
        return Ok(LeaveRaftReply {});
    }
    let others = managers
        .iter()
        .filter(|manager| manager.voter && manager.peer.node_id != node);
    if others.count() == 0 {
        return Err(Status::failed_precondition(
            "this is the only manager: without it there is no cluster; take out the other nodes first, then leave with --force",
        ));
    }
    // A copy that goes must not take the real one along.
    me.refuse_copy(node, "", &request.instance).await?;
    if node == me.node {
        hand_over(handle, me.node).await?;
        return Err(retry_elsewhere("the lead is being handed over"));
    }
    tracing::info!(%node, "a manager goes out");
    handle
        .remove_manager(node)
        .await
        .map_err(|e| propose_status(e, true))?;
    Ok(LeaveRaftReply {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_of_another_version_is_refused_with_the_cure() {
        let told = |version: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(VERSION_KEY, version.parse().unwrap());
            check_version(&metadata).map_err(|status| status.message().to_owned())
        };
        assert_eq!(told(&VERSION.to_string()), Ok(()));
        assert!(
            check_version(&MetadataMap::new()).is_ok(),
            "the first version said none"
        );
        let newer = told("7").unwrap_err();
        assert!(
            newer.contains("speaks 7; upgrade the cluster's managers first"),
            "{newer}"
        );
        let older = told("0").unwrap_err();
        assert!(
            older.contains("speaks 0; upgrade clusterd on the machine"),
            "{older}"
        );
        assert!(told("x").is_err());
    }
}
