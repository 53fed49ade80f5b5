//! The state's invariants, each under random transactions.
//!
//! A few ids of each kind are enough for every collision. A revision of [`CURRENT`] stands for the one that
//! the object has when its transaction begins, so that most updates are up to date and some are not.

mod forward_only;
mod indexes;
mod one_holder;
mod references;
mod rules;
mod templates;
mod whole_or_nothing;

use super::*;
use crate::model::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::Ipv4Addr;

/// To be replaced by the revision that is current.
const CURRENT: u64 = u64::MAX;

/// Everything that [`State`] holds, for comparing.
type Contents = (
    Option<Arc<Cluster>>,
    BTreeMap<NodeId, Arc<Node>>,
    BTreeMap<NetworkId, Arc<Network>>,
    BTreeMap<ServiceId, Arc<Service>>,
    BTreeMap<String, Arc<Stack>>,
    BTreeMap<TaskId, Arc<Task>>,
    BTreeMap<(ServiceId, u64), Arc<TaskTemplate>>,
    Indexes,
);

/// All but the revision.
fn contents(state: &State) -> Contents {
    let s = state.clone();
    (s.cluster, s.nodes, s.networks, s.services, s.stacks, s.tasks, s.templates, s.indexes)
}

fn id() -> impl Strategy<Value = u128> {
    1u128..=3
}

fn task_id() -> impl Strategy<Value = TaskId> {
    (1u128..=6).prop_map(TaskId)
}

fn revision() -> impl Strategy<Value = u64> {
    prop_oneof![9 => Just(CURRENT), 1 => 0u64..10]
}

pub(super) fn node(id: u128) -> Node {
    Node {
        id: NodeId(id),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        description: NodeDescription::default(),
        status: NodeStatus::default(),
        addr: Ipv4Addr::LOCALHOST,
        port: 2377,
    }
}

/// The subnet of each number: 10.0.N.0/24.
pub(super) fn network(id: u128, name: &str, vni: u32, subnet: u8) -> Network {
    Network {
        id: NetworkId(id),
        meta: Meta::default(),
        spec: NetworkSpec { name: name.into(), ..NetworkSpec::default() },
        vni,
        subnet: ipnet::Ipv4Net::new_assert([10, 0, subnet, 0].into(), 24),
    }
}

pub(super) fn spec(name: &str, image: &str, networks: &[u128]) -> ServiceSpec {
    let attach = |id: &u128| NetworkAttachment { network: NetworkId(*id), aliases: Vec::new() };
    let mut spec = ServiceSpec { name: name.into(), ..ServiceSpec::default() };
    spec.template.container.image = image.into();
    spec.template.networks = networks.iter().map(attach).collect();
    spec
}

pub(super) fn service(id: u128, spec: ServiceSpec, vips: BTreeMap<NetworkId, Ipv4Addr>) -> Service {
    Service { id: ServiceId(id), meta: Meta::default(), spec, template_revision: 0, vips }
}

pub(super) fn task(id: u128, service: u128, template_revision: u64) -> Task {
    Task {
        id: TaskId(id),
        meta: Meta::default(),
        service: ServiceId(service),
        service_name: "a".into(),
        slot: 1,
        template_revision,
        node: None,
        desired: TaskState::Running,
        not_before: Timestamp(0),
        addresses: Vec::new(),
        ports: Vec::new(),
        status: TaskStatus::default(),
    }
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c"]).prop_map(String::from)
}

/// Mostly of networks that are there.
fn addr() -> impl Strategy<Value = Ipv4Addr> {
    (1u8..=3, 2u8..=4).prop_map(|(net, host)| [10, 0, net, host].into())
}

fn vips() -> impl Strategy<Value = BTreeMap<NetworkId, Ipv4Addr>> {
    btree_map(id().prop_map(NetworkId), addr(), 0..2)
}

fn address() -> impl Strategy<Value = TaskAddress> {
    (id(), addr()).prop_map(|(id, addr)| TaskAddress { network: NetworkId(id), addr })
}

fn port() -> impl Strategy<Value = PublishedPort> {
    (select(vec![Protocol::Tcp, Protocol::Udp]), 80u16..=81).prop_map(|(protocol, published)| PublishedPort {
        protocol,
        published,
        target: 80,
    })
}

fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let networks = prop_oneof![Just(vec![]), vec(id(), 1..3)];
    (name(), select(vec!["x", "y"]), networks, vec(port(), 0..2))
        .prop_map(|(name, image, networks, ports)| ServiceSpec { ports, ..spec(&name, image, &networks) })
}

fn task_state() -> impl Strategy<Value = TaskState> {
    select(TaskState::ALL.to_vec())
}

fn task_status() -> impl Strategy<Value = TaskStatus> {
    (task_state(), select(vec!["", "why"])).prop_map(|(state, message)| TaskStatus {
        state,
        message: message.into(),
        ..TaskStatus::default()
    })
}

fn new_task() -> impl Strategy<Value = Task> {
    let held = (vec(address(), 0..2), vec(port(), 0..2));
    (task_id(), id(), revision(), option::weighted(0.7, id()), held, select(vec![0usize, 2, 2, 10])).prop_map(
        |(id, service, revision, node, (addresses, ports), state)| {
            let bare = node.is_none();
            Task {
                node: node.map(NodeId),
                addresses: if bare { Vec::new() } else { addresses },
                ports: if bare { Vec::new() } else { ports },
                status: TaskStatus { state: TaskState::ALL[state], ..TaskStatus::default() },
                ..task(id.0, service, revision)
            }
        },
    )
}

fn cluster(id: u128) -> Cluster {
    Cluster {
        id: ClusterId(id),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        ca: ClusterCa { cert_pem: String::new(), key_pem: String::new() },
        tokens: JoinSecrets { worker: String::new(), manager: String::new() },
    }
}

fn op() -> impl Strategy<Value = Op> {
    let state = select(vec![NodeState::Ready, NodeState::Down]);
    prop_oneof![
        1 => id().prop_map(|id| Op::CreateCluster(Box::new(cluster(id)))),
        1 => (id(), revision())
            .prop_map(|(id, at_revision)| Op::UpdateCluster { cluster: Box::new(cluster(id)), at_revision }),
        3 => id().prop_map(|id| Op::CreateNode(Box::new(node(id)))),
        1 => (id(), revision())
            .prop_map(|(id, at_revision)| Op::UpdateNode { id: NodeId(id), spec: NodeSpec::default(), at_revision }),
        1 => (id(), state).prop_map(|(id, state)| Op::SetNodeStatus {
            id: NodeId(id),
            status: NodeStatus { state, ..NodeStatus::default() },
            description: None,
            addr: None,
        }),
        1 => id().prop_map(|id| Op::RemoveNode(NodeId(id))),
        3 => (id(), name(), 0u32..=3, 1u8..=3)
            .prop_map(|(id, name, vni, net)| Op::CreateNetwork(Box::new(network(id, &name, vni, net)))),
        1 => id().prop_map(|id| Op::RemoveNetwork(NetworkId(id))),
        3 => (id(), service_spec(), vips())
            .prop_map(|(id, spec, vips)| Op::CreateService(Box::new(service(id, spec, vips)))),
        3 => (id(), service_spec(), vips(), revision()).prop_map(|(id, spec, vips, at_revision)| {
            Op::UpdateService { id: ServiceId(id), spec: Box::new(spec), vips, at_revision }
        }),
        1 => id().prop_map(|id| Op::RemoveService(ServiceId(id))),
        1 => name().prop_map(|name| Op::PutStack(Stack { name, ..Stack::default() })),
        1 => name().prop_map(Op::RemoveStack),
        6 => new_task().prop_map(|task| Op::CreateTask(Box::new(task))),
        4 => (task_id(), id(), vec(address(), 0..2), vec(port(), 0..2)).prop_map(|(id, node, addresses, ports)| {
            Op::AssignTask { id, node: NodeId(node), addresses, ports }
        }),
        2 => (task_id(), task_state()).prop_map(|(id, desired)| Op::SetTaskDesired { id, desired }),
        4 => (task_id(), task_status()).prop_map(|(id, status)| Op::SetTaskStatus { id, status }),
        2 => task_id().prop_map(Op::RemoveTask),
    ]
}

/// A history: short transactions, most of which are taken.
fn history() -> impl Strategy<Value = Vec<Vec<Op>>> {
    let ops = prop_oneof![3 => vec(op(), 1..2), 1 => vec(op(), 2..6)];
    vec(ops, 1..60)
}

/// Puts the current revisions in. The transaction will be applied at `revision`.
fn resolve(state: &State, revision: u64, mut ops: Vec<Op>) -> Transaction {
    for op in &mut ops {
        let (field, current) = match op {
            Op::UpdateCluster { at_revision, .. } => (at_revision, state.cluster().map(|c| c.meta.revision)),
            Op::UpdateNode { id, at_revision, .. } => {
                (at_revision, state.nodes().get(id).map(|n| n.meta.revision))
            }
            Op::UpdateService { id, at_revision, spec, .. } => {
                let service = state.services().get(id);
                if let Some(service) = service {
                    spec.name.clone_from(&service.spec.name);
                }
                (at_revision, service.map(|s| s.meta.revision))
            }
            Op::CreateTask(task) => {
                let current = state.services().get(&task.service).map(|s| s.template_revision);
                (&mut task.template_revision, current)
            }
            _ => continue,
        };
        if *field == CURRENT {
            *field = current.unwrap_or(revision);
        }
    }
    Transaction { at: Timestamp(i64::try_from(revision).unwrap_or(0)), ops }
}

/// Plays a history; after each transaction `check` sees the state before, the state now, and the outcome.
fn play(
    history: Vec<Vec<Op>>,
    mut check: impl FnMut(&State, &State, &Result<Vec<Event>, ApplyError>),
) -> State {
    let mut state = State::new();
    for ops in history {
        let revision = state.revision() + 1;
        let transaction = resolve(&state, revision, ops);
        let before = state.clone();
        let outcome = state.apply(revision, transaction);
        check(&before, &state, &outcome);
    }
    state
}

/// The state after these transactions, all of which have to be taken.
pub(super) fn state(transactions: Vec<Vec<Op>>) -> State {
    play(transactions, |_, _, outcome| {
        if let Err(error) = outcome {
            panic!("refused: {error}");
        }
    })
}
