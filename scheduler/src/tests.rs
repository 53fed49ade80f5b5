//! The rules, each by its name, and random clusters that never break an invariant.

use crate::{Decision, schedule};
use api::model::*;
use api::state::{Op, State, Transaction};
use ipnet::Ipv4Net;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A cluster in a test: its state, its clock, its ids.
pub(crate) struct World {
    pub state: State,
    pub now: Timestamp,
    revision: u64,
    next_id: u128,
}

impl World {
    pub fn new() -> Self {
        Self {
            state: State::new(),
            now: Timestamp(1_000_000),
            revision: 0,
            next_id: 1_000_000,
        }
    }

    pub fn apply(&mut self, ops: Vec<Op>) {
        self.revision += 1;
        let transaction = Transaction { at: self.now, ops };
        self.state
            .apply(self.revision, transaction)
            .expect("apply refused");
    }

    pub fn node(&mut self, n: u128) -> NodeId {
        let id = NodeId(n);
        let node = Node {
            id,
            meta: Meta::default(),
            spec: NodeSpec::default(),
            description: NodeDescription {
                hostname: format!("node{n}"),
                arch: "x86_64".into(),
                os: "linux".into(),
                ..NodeDescription::default()
            },
            status: NodeStatus {
                state: NodeState::Ready,
                ..NodeStatus::default()
            },
            addr: [10, 255, 0, u8::try_from(n).unwrap()].into(),
            port: 2377,
        };
        self.apply(vec![Op::CreateNode(Box::new(node))]);
        id
    }

    pub fn set_node(&mut self, id: NodeId, state: NodeState) {
        let status = NodeStatus {
            state,
            ..NodeStatus::default()
        };
        self.apply(vec![Op::SetNodeStatus {
            id,
            status,
            description: None,
            addr: None,
        }]);
    }

    pub fn set_availability(&mut self, id: NodeId, availability: Availability) {
        let node = self.state.nodes()[&id].clone();
        let spec = NodeSpec {
            availability,
            ..node.spec.clone()
        };
        self.apply(vec![Op::UpdateNode {
            id,
            spec,
            at_revision: node.meta.revision,
        }]);
    }

    pub fn network(&mut self, n: u128, subnet: &str) -> NetworkId {
        let id = NetworkId(n);
        let network = Network {
            id,
            meta: Meta::default(),
            spec: NetworkSpec {
                name: format!("net{n}"),
                ..NetworkSpec::default()
            },
            vni: 5000 + u32::try_from(n).unwrap(),
            subnet: subnet.parse().unwrap(),
        };
        self.apply(vec![Op::CreateNetwork(Box::new(network))]);
        id
    }

    pub fn service(
        &mut self,
        n: u128,
        replicas: u32,
        change: impl FnOnce(&mut ServiceSpec),
    ) -> ServiceId {
        let id = ServiceId(n);
        let mut spec = ServiceSpec {
            name: format!("svc{n}"),
            mode: ServiceMode::Replicated { replicas },
            ..ServiceSpec::default()
        };
        change(&mut spec);
        let service = Service {
            id,
            meta: Meta::default(),
            spec,
            template_revision: 0,
            vips: BTreeMap::new(),
        };
        self.apply(vec![Op::CreateService(Box::new(service))]);
        id
    }

    pub fn update(&mut self, id: ServiceId, change: impl FnOnce(&mut ServiceSpec)) {
        let service = self.state.services()[&id].clone();
        let mut spec = service.spec.clone();
        change(&mut spec);
        self.apply(vec![Op::UpdateService {
            id,
            spec: Box::new(spec),
            vips: service.vips.clone(),
            at_revision: service.meta.revision,
        }]);
    }

    /// One pass, and what came of it.
    pub fn pass(&mut self) -> Decision {
        let mut id = self.next_id;
        let decision = schedule(&self.state, self.now, &mut || {
            id += 1;
            id
        });
        self.next_id = id;
        for transaction in decision.transactions.clone() {
            self.revision += 1;
            self.state
                .apply(self.revision, transaction)
                .expect("a scheduled transaction was refused");
        }
        decision
    }

    pub fn tasks(&self, service: ServiceId) -> Vec<Task> {
        self.state
            .tasks_of_service(service)
            .map(|t| (**t).clone())
            .collect()
    }

    pub fn live(&self, service: ServiceId) -> Vec<Task> {
        self.tasks(service)
            .into_iter()
            .filter(crate::orchestrate::is_live)
            .collect()
    }

    pub fn report(&mut self, id: TaskId, state: TaskState) {
        let status = TaskStatus {
            state,
            at: self.now,
            ..TaskStatus::default()
        };
        self.apply(vec![Op::SetTaskStatus { id, status }]);
    }

    /// Every node that is up does what is asked of it, and the leader looks, until nothing changes.
    pub fn settle(&mut self) {
        for _ in 0..2_000 {
            let decision = self.pass();
            let mut news = !decision.transactions.is_empty();
            for task in self.state.tasks().values().cloned().collect::<Vec<_>>() {
                let up = task.node.is_some_and(|n| {
                    self.state
                        .nodes()
                        .get(&n)
                        .is_some_and(|n| n.status.state == NodeState::Ready)
                });
                if !up || task.status.state.is_ended() {
                    continue;
                }
                if task.desired > TaskState::Running {
                    self.report(task.id, TaskState::Shutdown);
                    news = true;
                } else if task.status.state < TaskState::Running {
                    self.report(task.id, TaskState::Running);
                    news = true;
                }
            }
            match (news, decision.next) {
                (true, _) => {}
                (false, Some(next)) => self.now = next,
                (false, None) => return,
            }
        }
        panic!("it does not settle");
    }
}

#[test]
fn tasks_are_spread_evenly() {
    let mut world = World::new();
    let nodes: Vec<_> = (1..=3).map(|n| world.node(n)).collect();
    let service = world.service(1, 9, |_| {});
    world.settle();
    for node in nodes {
        assert_eq!(
            world
                .live(service)
                .iter()
                .filter(|t| t.node == Some(node))
                .count(),
            3
        );
    }
}

#[test]
fn a_refusal_names_each_rule_and_how_many_nodes() {
    let mut world = World::new();
    let (one, _) = (world.node(1), world.node(2));
    world.set_availability(one, Availability::Drain);
    let service = world.service(1, 1, |spec| {
        spec.template.placement.constraints = vec!["node.labels.disk==ssd".parse().unwrap()];
    });
    world.pass();
    let task = &world.tasks(service)[0];
    assert_eq!(task.status.state, TaskState::Pending);
    assert_eq!(
        task.status.message,
        "no suitable node: 1 of 2 nodes fails node.labels.disk==ssd; 1 of 2 nodes is drained"
    );
    assert!(
        world.pass().transactions.is_empty(),
        "the same refusal is not told again"
    );
    world.set_availability(one, Availability::Active);
    let node = world.state.nodes()[&one].clone();
    let spec = NodeSpec {
        labels: [("disk".into(), "ssd".into())].into(),
        ..node.spec.clone()
    };
    world.apply(vec![Op::UpdateNode {
        id: one,
        spec,
        at_revision: node.meta.revision,
    }]);
    world.settle();
    assert_eq!(world.live(service)[0].node, Some(one));
}

#[test]
fn constraints_mean_what_swarms_mean() {
    let mut world = World::new();
    world.node(7);
    let holds = |world: &World, text: &str| {
        let service = Service {
            id: ServiceId(1),
            meta: Meta::default(),
            spec: ServiceSpec {
                template: TaskTemplate {
                    placement: Placement {
                        constraints: vec![text.parse().unwrap()],
                    },
                    ..TaskTemplate::default()
                },
                ..ServiceSpec::default()
            },
            template_revision: 0,
            vips: BTreeMap::new(),
        };
        crate::place::explain(&world.state.nodes()[&NodeId(7)], &service).is_ok()
    };
    for yes in [
        "node.hostname==NODE7",
        "node.role == worker",
        "node.platform.arch==amd64",
        "node.platform.os==Linux",
        "node.ip==10.255.0.0/24",
        "node.ip!=10.254.0.1",
        "node.labels.x!=1",
    ] {
        assert!(holds(&world, yes), "{yes}");
    }
    for no in [
        "node.hostname!=node7",
        "node.role==manager",
        "node.labels.x==1",
        "engine.labels.x==1",
        "node.ip==10.255.0.9",
    ] {
        assert!(!holds(&world, no), "{no}");
    }
}

#[test]
fn a_published_port_is_held_once_a_node() {
    let mut world = World::new();
    world.node(1);
    world.node(2);
    let port = PublishedPort {
        protocol: Protocol::Tcp,
        published: 80,
        target: 80,
    };
    let service = world.service(1, 3, |spec| spec.ports = vec![port]);
    world.settle();
    let placed = world
        .tasks(service)
        .iter()
        .filter(|t| t.node.is_some())
        .count();
    assert_eq!(placed, 2);
    let pending = world
        .tasks(service)
        .into_iter()
        .find(|t| t.node.is_none())
        .unwrap();
    assert!(
        pending.status.message.contains("has port 80/tcp taken"),
        "{}",
        pending.status.message
    );
}

#[test]
fn a_full_network_says_so() {
    let mut world = World::new();
    world.node(1);
    let network = world.network(1, "10.1.0.0/29");
    let service = world.service(1, 9, |spec| {
        spec.template.networks = vec![NetworkAttachment {
            network,
            aliases: vec![],
        }];
    });
    world.settle();
    let tasks = world.tasks(service);
    assert_eq!(tasks.iter().filter(|t| t.node.is_some()).count(), 5);
    let pending = tasks.iter().find(|t| t.node.is_none()).unwrap();
    assert_eq!(
        pending.status.message,
        "network net1 has no free address (of 5)"
    );
}

#[test]
fn an_address_just_freed_is_not_given_at_once() {
    let mut world = World::new();
    world.node(1);
    let network = world.network(1, "10.1.0.0/24");
    let service = world.service(1, 1, |spec| {
        spec.template.networks = vec![NetworkAttachment {
            network,
            aliases: vec![],
        }];
    });
    world.settle();
    let first = world.live(service)[0].clone();
    world.report(first.id, TaskState::Failed);
    world.settle();
    assert_ne!(world.live(service)[0].addresses, first.addresses);
}

#[test]
fn the_tasks_of_a_lost_node_are_replaced_at_once_and_end_when_it_returns() {
    let mut world = World::new();
    let (one, two) = (world.node(1), world.node(2));
    let service = world.service(1, 4, |_| {});
    world.settle();
    world.set_node(one, NodeState::Unknown);
    assert!(
        world.pass().transactions.is_empty(),
        "a leader that has just begun knows nothing"
    );
    world.set_node(one, NodeState::Down);
    world.settle();
    let live = world.live(service);
    assert_eq!(
        (
            live.len(),
            live.iter().filter(|t| t.node == Some(two)).count()
        ),
        (4, 4)
    );
    world.set_node(one, NodeState::Ready);
    world.settle();
    assert_eq!(world.live(service).len(), 4);
    assert!(
        world
            .tasks(service)
            .iter()
            .filter(|t| t.node == Some(one))
            .all(|t| t.status.state.is_ended())
    );
}

#[test]
fn a_drained_nodes_tasks_end_before_they_begin_elsewhere() {
    let mut world = World::new();
    let (one, two) = (world.node(1), world.node(2));
    world.set_availability(two, Availability::Pause);
    let service = world.service(1, 1, |_| {});
    world.settle();
    world.set_availability(two, Availability::Active);
    world.set_availability(one, Availability::Drain);
    world.pass();
    assert!(
        world.live(service).is_empty(),
        "begun before the old one ended"
    );
    world.settle();
    assert_eq!(world.live(service)[0].node, Some(two));
}

#[test]
fn restarts_wait_longer_each_time_and_are_bounded() {
    let mut world = World::new();
    world.node(1);
    let service = world.service(1, 1, |spec| spec.template.restart.max_attempts = Some(4));
    world.settle();
    let mut delays = Vec::new();
    for _ in 0..4 {
        let task = world.live(service)[0].id;
        world.report(task, TaskState::Failed);
        let next = world.pass().next.expect("no restart is due");
        delays.push(next.since_ms(world.now));
        world.now = next;
        world.settle();
    }
    assert_eq!(delays, [100, 200, 400, 800]);
    let task = world.live(service)[0].id;
    world.report(task, TaskState::Failed);
    world.settle();
    assert!(world.live(service).is_empty(), "more attempts than allowed");
}

#[test]
fn endless_failures_wait_five_seconds() {
    let mut world = World::new();
    world.node(1);
    let service = world.service(1, 1, |_| {});
    world.settle();
    let mut last = 0;
    for _ in 0..12 {
        let task = world.live(service)[0].id;
        world.report(task, TaskState::Failed);
        let next = world.pass().next.unwrap();
        last = next.since_ms(world.now);
        world.now = next;
        world.settle();
    }
    assert_eq!(last, 5_000);
    assert!(world.tasks(service).len() <= 7, "the history is bounded");
}

#[test]
fn a_restart_policy_is_kept_to() {
    for (condition, end, again) in [
        (RestartCondition::None, TaskState::Failed, false),
        (RestartCondition::OnFailure, TaskState::Complete, false),
        (RestartCondition::OnFailure, TaskState::Failed, true),
        (RestartCondition::Any, TaskState::Complete, true),
        (RestartCondition::Any, TaskState::Rejected, true),
    ] {
        let mut world = World::new();
        world.node(1);
        let service = world.service(1, 1, |spec| spec.template.restart.condition = condition);
        world.settle();
        let task = world.live(service)[0].id;
        world.report(task, end);
        world.settle();
        assert_eq!(
            !world.live(service).is_empty(),
            again,
            "{condition:?} {end:?}"
        );
    }
}

#[test]
fn an_update_goes_one_at_a_time_and_waits_for_each() {
    let mut world = World::new();
    world.node(1);
    world.node(2);
    let service = world.service(1, 4, |_| {});
    world.settle();
    world.update(service, |spec| spec.template.container.image = "new".into());
    let current = world.state.services()[&service].template_revision;
    world.pass();
    assert_eq!(world.live(service).len(), 3, "one at a time");
    assert!(world.pass().transactions.is_empty(), "the next one waits");
    world.settle();
    let live = world.live(service);
    assert_eq!(live.len(), 4);
    assert!(live.iter().all(|t| t.template_revision == current));
}

#[test]
fn scaling_down_takes_what_does_not_run_first_and_leaves_nothing() {
    let mut world = World::new();
    world.node(1);
    world.node(2);
    let service = world.service(1, 4, |_| {});
    world.settle();
    let failing = world.live(service)[0].clone();
    world.report(failing.id, TaskState::Failed);
    world.pass();
    world.update(service, |spec| {
        spec.mode = ServiceMode::Replicated { replicas: 3 }
    });
    world.settle();
    let live = world.live(service);
    assert_eq!(live.len(), 3);
    assert!(!live.iter().any(|t| t.slot == failing.slot));
    world.update(service, |spec| {
        spec.mode = ServiceMode::Replicated { replicas: 0 }
    });
    world.settle();
    assert!(world.tasks(service).is_empty());
}

#[test]
fn a_removed_service_leaves_no_task() {
    let mut world = World::new();
    world.node(1);
    let service = world.service(1, 3, |_| {});
    world.settle();
    world.apply(vec![Op::RemoveService(service)]);
    world.settle();
    assert!(world.state.tasks().is_empty());
}

#[test]
fn networks_get_subnets_that_overlap_nothing() {
    let mut world = World::new();
    let pool: Ipv4Net = "10.0.0.0/20".parse().unwrap();
    let routes = vec![pool];
    let spec = NetworkSpec {
        name: "a".into(),
        ..NetworkSpec::default()
    };
    let (vni, subnet) = crate::allocate::network(&world.state, &spec, &routes).unwrap();
    assert_eq!((vni, subnet.to_string().as_str()), (4096, "10.0.16.0/20"));
    world.network(1, "10.0.16.0/24");
    let (_, subnet) = crate::allocate::network(&world.state, &spec, &routes).unwrap();
    assert_eq!(subnet.to_string(), "10.0.32.0/20");
    let wished = NetworkSpec {
        subnet: Some("10.0.16.0/22".parse().unwrap()),
        ..spec.clone()
    };
    let refused = crate::allocate::network(&world.state, &wished, &[])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("overlaps 10.0.16.0/24 of network net1"),
        "{refused}"
    );
    let all: Vec<Ipv4Net> = vec!["10.0.0.0/8".parse().unwrap()];
    assert!(
        crate::allocate::network(&world.state, &spec, &all)
            .unwrap_err()
            .to_string()
            .contains("no free /20")
    );
}

#[derive(Debug, Clone)]
enum Step {
    Pass,
    Tick(u64),
    Report(usize, u8),
    Node(usize, bool),
    Availability(usize, u8),
    Scale(usize, u32),
    Update(usize),
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Pass),
        1 => (1u64..6_000).prop_map(Step::Tick),
        6 => (any::<usize>(), 0u8..5).prop_map(|(t, s)| Step::Report(t, s)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(n, up)| Step::Node(n, up)),
        1 => (any::<usize>(), 0u8..3).prop_map(|(n, a)| Step::Availability(n, a)),
        1 => (any::<usize>(), 0u32..8).prop_map(|(s, r)| Step::Scale(s, r)),
        1 => any::<usize>().prop_map(Step::Update),
        1 => any::<usize>().prop_map(Step::Remove),
    ]
}

fn pick<T: Copy>(list: &[T], n: usize) -> Option<T> {
    (!list.is_empty()).then(|| list[n % list.len()])
}

fn check(world: &World) {
    let mut held = BTreeSet::new();
    let mut slots: BTreeMap<(ServiceId, u32), usize> = BTreeMap::new();
    for task in world.state.tasks().values() {
        if task.status.state.is_ended() {
            continue;
        }
        for address in &task.addresses {
            assert!(held.insert(*address), "{address:?} is held twice");
        }
        let down = task.node.is_some_and(|n| {
            world
                .state
                .nodes()
                .get(&n)
                .is_none_or(|n| n.status.state == NodeState::Down)
        });
        if !down && task.desired < TaskState::Remove {
            *slots.entry((task.service, task.slot)).or_default() += 1;
        }
    }
    for (slot, count) in slots {
        let returned = world
            .state
            .tasks_of_service(slot.0)
            .filter(|t| {
                t.slot == slot.1 && t.desired == TaskState::Shutdown && !t.status.state.is_ended()
            })
            .count();
        assert!(count <= 1 + returned, "{slot:?} has {count} tasks");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_the_invariants_hold_and_it_settles(steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        let nodes: Vec<_> = (1..=4).map(|n| world.node(n)).collect();
        let network = world.network(1, "10.1.0.0/26");
        let port = PublishedPort { protocol: Protocol::Tcp, published: 80, target: 80 };
        let mut services: Vec<_> = (1..=3u128).map(|n| world.service(n, 3, |spec| {
            spec.template.networks = vec![NetworkAttachment { network, aliases: vec![] }];
            if n == 3 { spec.ports = vec![port]; }
        })).collect();
        for step in steps {
            match step {
                Step::Pass => {
                    // One pass may lead to the next (what is asked to end is then replaced), not for ever.
                    let quiet = (0..5).any(|_| world.pass().transactions.is_empty());
                    prop_assert!(quiet, "passes go on and on though nothing happens");
                }
                Step::Tick(ms) => world.now = world.now.plus_ms(ms),
                Step::Report(n, how) => {
                    let ids: Vec<_> = world.state.tasks().values().filter(|t| t.node.is_some()).map(|t| t.id).collect();
                    let states = [TaskState::Preparing, TaskState::Running, TaskState::Failed, TaskState::Complete, TaskState::Shutdown];
                    if let Some(id) = pick(&ids, n) {
                        world.report(id, states[usize::from(how)]);
                    }
                }
                Step::Node(n, up) => {
                    let state = if up { NodeState::Ready } else { NodeState::Down };
                    world.set_node(pick(&nodes, n).unwrap(), state);
                }
                Step::Availability(n, how) => {
                    let all = [Availability::Active, Availability::Pause, Availability::Drain];
                    world.set_availability(pick(&nodes, n).unwrap(), all[usize::from(how)]);
                }
                Step::Scale(n, replicas) => if let Some(id) = pick(&services, n) {
                    world.update(id, |spec| spec.mode = ServiceMode::Replicated { replicas });
                },
                Step::Update(n) => if let Some(id) = pick(&services, n) {
                    world.update(id, |spec| spec.template.force += 1);
                },
                Step::Remove(n) => if services.len() > 1 {
                    let id = services.remove(n % services.len());
                    world.apply(vec![Op::RemoveService(id)]);
                },
            }
            check(&world);
        }
        for node in &nodes {
            world.set_node(*node, NodeState::Ready);
            world.set_availability(*node, Availability::Active);
        }
        world.settle();
        check(&world);
        for id in services {
            let ServiceMode::Replicated { replicas } = world.state.services()[&id].spec.mode;
            let wanted = if id == ServiceId(3) { replicas.min(4) } else { replicas };
            let running = world.live(id).iter().filter(|t| t.status.state == TaskState::Running).count();
            prop_assert_eq!(running, wanted as usize, "service {} does not run", id);
        }
    }
}

/// `cargo test -p scheduler --release -- --ignored --nocapture large`
#[test]
#[ignore = "a measurement: it prints how long a large pass takes"]
fn large() {
    let mut world = World::new();
    for n in 1..=200u128 {
        world.node(n);
    }
    for n in 1..=1_000 {
        world.service(n, 100, |_| {});
    }
    let began = std::time::Instant::now();
    let decision = world.pass();
    println!(
        "{} transactions for 100,000 tasks on 200 nodes in {:?}",
        decision.transactions.len(),
        began.elapsed()
    );
}
