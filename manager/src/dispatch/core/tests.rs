mod known;

use super::*;
use crate::testing::{self, cluster_state, running_on};
use api::model::{NetworkAttachment, NodeStatus, ServiceId, TaskState, TaskStatus, Timestamp};
use api::state::{Op, Transaction};
use known::{Known, full};
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// Something that may happen; refused where it can't.
#[derive(Debug, Clone)]
enum Step {
    Task {
        service: u128,
        node: Option<u128>,
        addr: u8,
    },
    Assign {
        nth: usize,
        node: u128,
        addr: u8,
    },
    Status(usize, TaskState),
    Desired(usize, TaskState),
    RemoveTask(usize),
    Service {
        id: u128,
        networks: u8,
        vip: bool,
        blobs: u8,
    },
    UpdateService {
        id: u128,
        networks: u8,
        alias: bool,
        blobs: u8,
    },
    Blob(u128),
    RemoveBlob(u128),
    RemoveService(u128),
    RemoveNetwork(u128),
    Network(u128),
    Move {
        node: u128,
        to: u8,
    },
    RemoveNode(u128),
    /// The sessions' side takes what has happened so far.
    Deliver,
    Open(u128),
    Close(u128),
    Resync,
}

fn step() -> impl Strategy<Value = Step> {
    let state = || proptest::sample::select(&TaskState::ALL[..]);
    let (node, service, network) = (1u128..4, 1u128..4, 1u128..4);
    prop_oneof![
        6 => (service.clone(), proptest::option::of(node.clone()), 2u8..30)
            .prop_map(|(service, node, addr)| Step::Task { service, node, addr }),
        3 => (0usize..12, node.clone(), 2u8..30).prop_map(|(nth, node, addr)| Step::Assign { nth, node, addr }),
        6 => (0usize..12, state()).prop_map(|(nth, state)| Step::Status(nth, state)),
        3 => (0usize..12, state()).prop_map(|(nth, state)| Step::Desired(nth, state)),
        2 => (0usize..12).prop_map(Step::RemoveTask),
        3 => (service.clone(), 0u8..8, any::<bool>(), 0u8..8)
            .prop_map(|(id, networks, vip, blobs)| Step::Service { id, networks, vip, blobs }),
        2 => (service.clone(), 0u8..8, any::<bool>(), 0u8..8)
            .prop_map(|(id, networks, alias, blobs)| Step::UpdateService { id, networks, alias, blobs }),
        3 => (1u128..4).prop_map(Step::Blob),
        1 => (1u128..4).prop_map(Step::RemoveBlob),
        1 => service.prop_map(Step::RemoveService),
        1 => network.clone().prop_map(Step::RemoveNetwork),
        3 => network.prop_map(Step::Network),
        1 => (node.clone(), 1u8..20).prop_map(|(node, to)| Step::Move { node, to }),
        1 => node.clone().prop_map(Step::RemoveNode),
        6 => Just(Step::Deliver),
        2 => node.clone().prop_map(Step::Open),
        1 => node.prop_map(Step::Close),
        1 => Just(Step::Resync),
    ]
}

fn attachments(bits: u8, alias: bool) -> Vec<NetworkAttachment> {
    (1u128..4)
        .filter(|network| bits & (1 << (network - 1)) != 0)
        .map(|network| NetworkAttachment {
            network: NetworkId(network),
            aliases: if alias { vec!["db".into()] } else { vec![] },
        })
        .collect()
}

/// Files of these secrets, those that are there.
fn references(state: &State, bits: u8) -> Vec<api::model::BlobRef> {
    (1u128..4)
        .filter(|id| bits & (1 << (id - 1)) != 0)
        .filter_map(|id| state.blobs().get(&api::model::BlobId(id)))
        .map(|blob| testing::reference(blob))
        .collect()
}

struct World {
    state: State,
    events: Vec<Event>,
    core: Core,
    known: BTreeMap<NodeId, Known>,
    next: u128,
}

impl World {
    fn new() -> Self {
        let mut state = cluster_state();
        let nodes =
            (1..4).map(|id| Op::CreateNode(Box::new(testing::node(id, &format!("node{id}")))));
        testing::apply(&mut state, nodes.collect());
        Self {
            state,
            events: vec![],
            core: Core::default(),
            known: BTreeMap::new(),
            next: 100,
        }
    }

    fn attempt(&mut self, op: Op) {
        let revision = self.state.revision() + 1;
        let transaction = Transaction {
            at: Timestamp(0),
            ops: vec![op],
        };
        // Refused: it did not happen.
        if let Ok(events) = self.state.apply(revision, transaction) {
            self.events.extend(events);
        }
    }

    fn nth(&self, nth: usize) -> TaskId {
        self.state
            .tasks()
            .keys()
            .nth(nth)
            .copied()
            .unwrap_or(TaskId(0))
    }

    fn addresses(&self, service: ServiceId, last: u8) -> Vec<api::model::TaskAddress> {
        let Some(service) = self.state.services().get(&service) else {
            return vec![];
        };
        let on = service.spec.template.networks.iter().filter_map(|on| {
            let subnet = self.state.networks().get(&on.network)?.subnet;
            let addr = Ipv4Addr::from(u32::from(subnet.network()) + u32::from(last));
            Some(api::model::TaskAddress {
                network: on.network,
                addr,
            })
        });
        on.collect()
    }

    fn deliver(&mut self) {
        let events = std::mem::take(&mut self.events);
        for (node, message) in self.core.advance(&self.state, events.iter()) {
            assert!(!message.full);
            self.known
                .get_mut(&node)
                .expect("a message without a session")
                .take(message);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Task {
                service,
                node,
                addr,
            } => {
                let Some(of) = self.state.services().get(&ServiceId(service)).cloned() else {
                    return;
                };
                self.next += 1;
                let addresses = if node.is_some() {
                    self.addresses(of.id, addr)
                } else {
                    vec![]
                };
                let state = if node.is_some() {
                    TaskState::Assigned
                } else {
                    TaskState::Pending
                };
                self.attempt(Op::CreateTask(Box::new(Task {
                    id: TaskId(self.next),
                    meta: api::model::Meta::default(),
                    service: of.id,
                    service_name: of.spec.name.as_str().into(),
                    slot: 1,
                    template_revision: of.template_revision,
                    node: node.map(NodeId),
                    desired: TaskState::Running,
                    not_before: Timestamp(0),
                    addresses,
                    ports: vec![],
                    status: TaskStatus {
                        state,
                        ..TaskStatus::default()
                    },
                })));
            }
            Step::Assign { nth, node, addr } => {
                let Some(task) = self.state.tasks().get(&self.nth(nth)).cloned() else {
                    return;
                };
                let addresses = self.addresses(task.service, addr);
                self.attempt(Op::AssignTask {
                    id: task.id,
                    node: NodeId(node),
                    addresses,
                    ports: vec![],
                });
            }
            Step::Status(nth, state) => {
                let status = TaskStatus {
                    state,
                    ..TaskStatus::default()
                };
                self.attempt(Op::SetTaskStatus {
                    id: self.nth(nth),
                    status,
                });
            }
            Step::Desired(nth, desired) => {
                self.attempt(Op::SetTaskDesired {
                    id: self.nth(nth),
                    desired,
                });
            }
            Step::RemoveTask(nth) => self.attempt(Op::RemoveTask(self.nth(nth))),
            Step::Service {
                id,
                networks,
                vip,
                blobs,
            } => {
                let mut service = testing::service(id, &format!("shop_s{id}"));
                service.spec.template.networks = attachments(networks, false);
                service.spec.template.blobs = references(&self.state, blobs);
                if vip {
                    let last = 200 + u8::try_from(id).unwrap();
                    for on in &service.spec.template.networks {
                        if let Some(network) = self.state.networks().get(&on.network) {
                            let addr = u32::from(network.subnet.network()) + u32::from(last);
                            service.vips.insert(on.network, Ipv4Addr::from(addr));
                        }
                    }
                }
                self.attempt(Op::CreateService(Box::new(service)));
            }
            Step::UpdateService {
                id,
                networks,
                alias,
                blobs,
            } => {
                let Some(there) = self.state.services().get(&ServiceId(id)).cloned() else {
                    return;
                };
                let mut spec = there.spec.clone();
                spec.template.networks = attachments(networks, alias);
                spec.template.blobs = references(&self.state, blobs);
                self.attempt(Op::UpdateService {
                    id: there.id,
                    spec: Box::new(spec),
                    vips: BTreeMap::new(),
                    at_revision: there.meta.revision,
                });
            }
            Step::RemoveService(id) => self.attempt(Op::RemoveService(ServiceId(id))),
            Step::Blob(id) => {
                let blob = testing::blob(id, &format!("secret{id}"));
                self.attempt(Op::CreateBlob(Box::new(blob)));
            }
            Step::RemoveBlob(id) => self.attempt(Op::RemoveBlob(api::model::BlobId(id))),
            Step::RemoveNetwork(id) => self.attempt(Op::RemoveNetwork(NetworkId(id))),
            Step::Network(id) => {
                let network = testing::network(id, &format!("net{id}"), None);
                self.attempt(Op::CreateNetwork(Box::new(network)));
            }
            Step::Move { node, to } => self.attempt(Op::SetNodeStatus {
                id: NodeId(node),
                status: NodeStatus::default(),
                description: None,
                addr: Some((Ipv4Addr::new(192, 0, 2, to), 2377)),
            }),
            Step::RemoveNode(id) => self.attempt(Op::RemoveNode(NodeId(id))),
            Step::Deliver => self.deliver(),
            Step::Open(id) => {
                let message = self.core.open(&self.state, NodeId(id));
                assert!(message.full);
                self.known.entry(NodeId(id)).or_default().take(message);
            }
            Step::Close(id) => {
                self.core.close(NodeId(id));
                self.known.remove(&NodeId(id));
            }
            Step::Resync => {
                self.events.clear();
                for (node, message) in self.core.resync(&self.state) {
                    self.known.get_mut(&node).unwrap().take(message);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn added_up_differences_are_the_full_view(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for id in 1..3 {
            world.step(Step::Open(id));
        }
        for step in steps {
            let whole = matches!(step, Step::Deliver | Step::Resync);
            world.step(step);
            if whole {
                for (node, known) in std::mem::take(&mut world.known) {
                    let known = known.normal();
                    prop_assert_eq!(&known, &full(&world.state, node).normal());
                    world.known.insert(node, known);
                }
            }
        }
        world.deliver();
        for (node, known) in world.known {
            prop_assert_eq!(known.normal(), full(&world.state, node).normal());
        }
    }
}

/// Two nodes on one network, a third on none.
fn small() -> World {
    let mut world = World::new();
    let mut service = testing::service(1, "shop_web");
    service.spec.template.networks = attachments(1, true);
    testing::apply(
        &mut world.state,
        vec![
            Op::CreateNetwork(Box::new(testing::network(1, "demo", None))),
            Op::CreateService(Box::new(service)),
            Op::CreateService(Box::new(testing::service(2, "shop_lone"))),
        ],
    );
    running_on(&mut world.state, 1, 1, 1, 1, &[(1, 5)]);
    running_on(&mut world.state, 2, 1, 2, 2, &[(1, 6)]);
    running_on(&mut world.state, 3, 2, 1, 3, &[]);
    for id in 1..4 {
        world.step(Step::Open(id));
    }
    world
}

#[test]
fn a_changed_endpoint_reaches_the_nodes_on_its_network_and_no_other() {
    let mut world = small();
    let status = TaskStatus {
        state: TaskState::Failed,
        ..TaskStatus::default()
    };
    world.attempt(Op::SetTaskStatus {
        id: TaskId(2),
        status,
    });
    let events = std::mem::take(&mut world.events);
    let messages = world.core.advance(&world.state, events.iter());
    let to: Vec<_> = messages.iter().map(|(node, _)| *node).collect();
    assert_eq!(to, [NodeId(1), NodeId(2)]);
    assert_eq!(messages[0].1.endpoints_removed.len(), 1);
    assert!(messages[0].1.tasks_removed.is_empty());
    assert_eq!(messages[1].1.tasks_removed, [convert::id_bytes(2)]);
    assert_eq!(messages[1].1.networks_removed, [convert::id_bytes(1)]);
}

#[test]
fn a_nodes_own_reports_are_not_told_back() {
    let mut world = small();
    let status = TaskStatus {
        message: "still running".into(),
        state: TaskState::Running,
        ..TaskStatus::default()
    };
    world.attempt(Op::SetTaskStatus {
        id: TaskId(1),
        status,
    });
    let events = std::mem::take(&mut world.events);
    assert_eq!(events.len(), 1);
    assert_eq!(world.core.advance(&world.state, events.iter()), []);
}

/// Of two services that use two secrets, on three nodes.
#[test]
fn a_secret_is_told_to_the_nodes_of_its_tasks_and_to_no_other() {
    let mut world = World::new();
    let secrets = [1, 2].map(|id| testing::blob(id, &format!("secret{id}")));
    let ops = secrets.clone().map(|b| Op::CreateBlob(Box::new(b)));
    testing::apply(&mut world.state, ops.to_vec());
    for (id, name) in [(1, "shop_web"), (2, "shop_db")] {
        let mut service = testing::service(id, name);
        let used = secrets.iter().filter(|b| id == 2 || b.id == BlobId(1));
        service.spec.template.blobs = used.map(testing::reference).collect();
        testing::apply(&mut world.state, vec![Op::CreateService(Box::new(service))]);
    }
    for id in 1..4 {
        world.step(Step::Open(id));
    }
    let run = |world: &mut World, id, service, node| {
        let events = testing::running(&mut world.state, id, service, 1, node);
        world.events.extend(events);
        world.deliver();
    };
    let end = |world: &mut World, id| {
        let status = TaskStatus {
            state: TaskState::Complete,
            ..TaskStatus::default()
        };
        let id = TaskId(id);
        world.attempt(Op::SetTaskStatus { id, status });
        world.deliver();
    };
    let known = |world: &World| {
        [1, 2, 3].map(|node| {
            let blobs = world.known[&NodeId(node)].blobs.keys();
            blobs
                .map(|id| convert::blob_id(id).unwrap().0)
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(known(&world), [vec![], vec![], vec![]]);
    run(&mut world, 11, 1, 1);
    assert_eq!(known(&world), [vec![1], vec![], vec![]]);
    run(&mut world, 12, 2, 2);
    run(&mut world, 13, 2, 1);
    assert_eq!(known(&world), [vec![1, 2], vec![1, 2], vec![]]);
    // One that has its task's secrets is told them once, and forgets what its last task of them used.
    end(&mut world, 13);
    assert_eq!(known(&world), [vec![1], vec![1, 2], vec![]]);
    end(&mut world, 11);
    end(&mut world, 12);
    assert_eq!(known(&world), [vec![], vec![], vec![]]);
}

#[test]
fn tables_are_kept_only_while_some_node_is_on_them() {
    let mut world = small();
    assert_eq!(world.core.tables.len(), 1);
    world.step(Step::Close(1));
    assert_eq!(world.core.tables.len(), 1);
    world.step(Step::Close(2));
    assert_eq!(world.core.tables.len(), 0);
}
