//! Small states for tests.

use api::model::{
    Blob, BlobFile, BlobId, BlobKind, BlobRef, BlobSpec, Cluster, ClusterCa, ClusterId,
    ClusterSpec, ContainerSpec, EndpointMode, JoinSecrets, Meta, Network, NetworkId, NetworkSpec,
    Node, NodeDescription, NodeId, NodeSpec, NodeState, NodeStatus, Service, ServiceId,
    ServiceMode, ServiceSpec, Task, TaskAddress, TaskId, TaskState, TaskStatus, TaskTemplate,
    Timestamp,
};
use api::state::{Event, Op, State, Transaction};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub fn node(id: u128, hostname: &str) -> Node {
    Node {
        id: NodeId(id),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        description: NodeDescription {
            hostname: hostname.into(),
            ..NodeDescription::default()
        },
        status: NodeStatus {
            state: NodeState::Ready,
            ..NodeStatus::default()
        },
        addr: Ipv4Addr::from(0xc000_0200 + u32::try_from(id).unwrap()),
        port: 2377,
        cert: api::model::NodeCert::default(),
    }
}

pub fn service(id: u128, name: &str) -> Service {
    let container = ContainerSpec {
        image: "busybox".into(),
        ..ContainerSpec::default()
    };
    Service {
        id: ServiceId(id),
        meta: Meta::default(),
        spec: ServiceSpec {
            name: name.into(),
            stack: None,
            labels: BTreeMap::new(),
            mode: ServiceMode::Replicated { replicas: 1 },
            endpoint_mode: EndpointMode::Vip,
            ports: vec![],
            template: TaskTemplate {
                container,
                ..TaskTemplate::default()
            },
        },
        template_revision: 0,
        vips: BTreeMap::new(),
    }
}

pub fn network(id: u128, name: &str, stack: Option<&str>) -> Network {
    let nth = u8::try_from(id).unwrap();
    Network {
        id: NetworkId(id),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: name.into(),
            stack: stack.map(Into::into),
            ..NetworkSpec::default()
        },
        vni: 4096 + u32::from(nth),
        subnet: format!("10.{nth}.0.0/24").parse().unwrap(),
    }
}

/// A secret of nobody's.
pub fn blob(id: u128, name: &str) -> Blob {
    Blob {
        id: BlobId(id),
        meta: Meta::default(),
        version: 0,
        spec: BlobSpec {
            kind: BlobKind::Secret,
            name: name.into(),
            stack: None,
            labels: BTreeMap::new(),
            data: format!("content of {name}").into_bytes().into(),
        },
    }
}

/// A service's file of it.
pub fn reference(blob: &Blob) -> BlobRef {
    BlobRef {
        blob: blob.id,
        file: BlobFile {
            source: blob.spec.key(),
            target: blob.spec.kind.target(&blob.spec.name),
            uid: 0,
            gid: 0,
            mode: 0o444,
        },
    }
}

/// Applies the ops, each of which has to be taken.
pub fn apply(state: &mut State, ops: Vec<Op>) -> Vec<Event> {
    let revision = state.revision() + 1;
    state
        .apply(
            revision,
            Transaction {
                at: Timestamp(i64::try_from(revision).unwrap()),
                ops,
            },
        )
        .unwrap()
}

/// A cluster with its defaults.
pub fn cluster_state() -> State {
    let cluster = Cluster {
        id: ClusterId(1),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        ca: ClusterCa {
            cert_pem: String::new(),
            key_pem: String::new(),
        },
        retiring: None,
        revoked: BTreeMap::new(),
        lock: Default::default(),
        tokens: JoinSecrets {
            worker: "w".into(),
            manager: "m".into(),
        },
        recovery: Default::default(),
    };
    let mut state = State::new();
    apply(&mut state, vec![Op::CreateCluster(Box::new(cluster))]);
    state
}

pub fn state_of(ops: Vec<Op>) -> State {
    let mut state = cluster_state();
    apply(&mut state, ops);
    state
}

/// A running task on no network.
pub fn running(state: &mut State, id: u128, service: u128, slot: u32, node: u128) -> Vec<Event> {
    running_on(state, id, service, slot, node, &[])
}

/// A running task: on each network with that last byte of its address.
pub fn running_on(
    state: &mut State,
    id: u128,
    service: u128,
    slot: u32,
    node: u128,
    on: &[(u128, u8)],
) -> Vec<Event> {
    let of = state.services()[&ServiceId(service)].clone();
    let addresses = on.iter().map(|(network, last)| {
        let subnet = state.networks()[&NetworkId(*network)].subnet;
        let addr = Ipv4Addr::from(u32::from(subnet.network()) + u32::from(*last));
        TaskAddress {
            network: NetworkId(*network),
            addr,
        }
    });
    let task = Task {
        id: TaskId(id),
        meta: Meta::default(),
        service: of.id,
        service_name: of.spec.name.as_str().into(),
        slot,
        template_revision: of.template_revision,
        node: Some(NodeId(node)),
        desired: TaskState::Running,
        not_before: Timestamp(0),
        addresses: addresses.collect(),
        ports: vec![],
        status: TaskStatus {
            state: TaskState::Running,
            ..TaskStatus::default()
        },
    };
    apply(state, vec![Op::CreateTask(Box::new(task))])
}
