//! At which of its addresses a node is to be reached. The node itself decides whether it has it; it is asked where it
//! is known to be, and where it is said to be.

use super::{Control, Refusal, lookup, reason};
use crate::dispatch::managers;
use api::convert;
use api::model::{Node, NodeState};
use api::proto::machine_client::MachineClient;
use api::proto::{
    NoteManagersRequest, SetAddressRequest, SetNodeAddressReply, SetNodeAddressRequest,
};
use api::state::State;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status};

/// How long a node may take to answer.
const BOUND: Duration = Duration::from_secs(4);

/// The address, if a node could be there.
fn read(text: &str) -> Result<Ipv4Addr, Refusal> {
    let addr: Ipv4Addr = text.trim().parse().map_err(|_| {
        Refusal::invalid(format!(
            "{text:?} is no IPv4 address; give one that the machine has, such as 192.168.205.10"
        ))
    })?;
    let what = match addr {
        _ if addr.is_unspecified() => "stands for any address",
        _ if addr.is_loopback() => "is every machine's own loopback",
        _ if addr.is_multicast() => "is a multicast address",
        _ if addr.is_broadcast() => "is the broadcast address",
        _ => return Ok(addr),
    };
    Err(Refusal::invalid(format!(
        "{addr} {what}: other nodes can't reach a node there"
    )))
}

/// Another node that is there already, if it may be.
fn holder<'a>(state: &'a State, node: &Node, addr: Ipv4Addr) -> Option<&'a Node> {
    state.nodes().values().map(|other| &**other).find(|other| {
        other.id != node.id && other.addr == addr && other.status.state == NodeState::Ready
    })
}

pub async fn set(
    control: &Control,
    request: SetNodeAddressRequest,
) -> Result<SetNodeAddressReply, Status> {
    let addr = read(&request.addr)?;
    let node = control
        .read(|state| {
            let node = lookup::node(state, &request.node)?;
            match holder(state, &node, addr) {
                Some(other) => Err(Refusal::taken(format!(
                    "node {} is at {addr}: two nodes can't have one address",
                    lookup::name(other)
                ))),
                None => Ok(node),
            }
        })
        .await??;
    let asks = SetAddressRequest { addr: addr.into() };
    let mut silent = Vec::new();
    let mut places = vec![node.addr, addr];
    places.dedup();
    for place in places {
        let at = format!("{place}:{}", node.port);
        let mut client = MachineClient::new(control.dialer.node(&at, node.id));
        match timeout(BOUND, client.set_address(asks)).await {
            Ok(Ok(_)) => {
                let managers = managers(&control.handle);
                // One that has a session knows them.
                let told = client.note_managers(NoteManagersRequest { managers });
                let _ = timeout(BOUND, told).await;
                return Ok(SetNodeAddressReply {
                    node_id: convert::id_bytes(node.id.0),
                });
            }
            Ok(Err(status)) if status.code() == Code::Unavailable => silent.push(reason(&status)),
            Ok(Err(status)) => {
                return Err(Status::new(
                    status.code(),
                    format!("node {}: {}", lookup::name(&node), status.message()),
                ));
            }
            Err(_) => silent.push(format!("{at} does not answer")),
        }
    }
    Err(Status::unavailable(format!(
        "node {} can't be reached ({}); run `clusterctl node update self --addr {addr}` on it",
        lookup::name(&node),
        silent.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{apply, node, state_of};
    use api::model::{NodeId, NodeStatus};
    use api::state::Op;

    #[test]
    fn what_is_no_place_for_a_node_is_refused_by_name() {
        for (text, why) in [
            ("nonsense", "no IPv4 address"),
            ("10.0.0.1:2377", "no IPv4 address"),
            ("fe80::1", "no IPv4 address"),
            ("0.0.0.0", "any address"),
            ("127.0.0.1", "loopback"),
            ("224.0.0.5", "multicast"),
            ("255.255.255.255", "broadcast"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(
                refused.text.contains(why) && refused.text.contains(text),
                "{refused}"
            );
        }
        assert_eq!(read(" 10.1.2.3 ").unwrap(), Ipv4Addr::new(10, 1, 2, 3));
    }

    #[test]
    fn an_address_is_another_nodes_while_that_is_there() {
        let mut state = state_of(vec![
            Op::CreateNode(Box::new(node(1, "node1"))),
            Op::CreateNode(Box::new(node(2, "node2"))),
        ]);
        let mut set = |to| {
            let status = NodeStatus {
                state: to,
                ..NodeStatus::default()
            };
            apply(
                &mut state,
                vec![Op::SetNodeStatus {
                    id: NodeId(2),
                    status,
                    description: None,
                    addr: Some((Ipv4Addr::new(10, 7, 7, 7), 2377)),
                }],
            );
            let first = state.nodes()[&NodeId(1)].clone();
            let held = |addr| holder(&state, &first, addr).map(|node| node.id);
            (held([10, 7, 7, 7].into()), held([10, 7, 7, 8].into()))
        };
        assert_eq!(set(NodeState::Ready), (Some(NodeId(2)), None));
        assert_eq!(set(NodeState::Down), (None, None));
    }
}
