//! Random clusters, services and events.

use super::world::{World, attached, tcp};
use crate::survey::is_live;
use api::model::*;
use api::state::{Op, Transaction};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Step {
    Pass,
    /// Each change by itself, and some of them lost.
    Partly(u64),
    /// A new leader's clock may be behind.
    Tick(i64),
    Report(usize, usize),
    Obey,
    Node(usize, usize),
    Availability(usize, usize),
    RemoveNode(usize),
    Label(usize),
    Scale(usize, u32),
    Update(usize, usize),
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let n = any::<usize>;
    prop_oneof![
        6 => Just(Step::Pass),
        1 => any::<u64>().prop_map(Step::Partly),
        2 => (-2_000i64..6_000).prop_map(Step::Tick),
        6 => (n(), n()).prop_map(|(t, s)| Step::Report(t, s)),
        2 => Just(Step::Obey),
        2 => (n(), n()).prop_map(|(n, s)| Step::Node(n, s)),
        1 => (n(), n()).prop_map(|(n, a)| Step::Availability(n, a)),
        1 => n().prop_map(Step::RemoveNode),
        1 => n().prop_map(Step::Label),
        2 => (n(), 0u32..8).prop_map(|(s, r)| Step::Scale(s, r)),
        1 => (n(), n()).prop_map(|(s, u)| Step::Update(s, u)),
        1 => n().prop_map(Step::Remove),
    ]
}

fn policy() -> impl Strategy<Value = RestartPolicy> {
    use RestartCondition::{Any, None as Never, OnFailure};
    (
        prop_oneof![4 => Just(Any), 1 => Just(OnFailure), 1 => Just(Never)],
        proptest::option::weighted(0.3, 0u64..4_000),
        proptest::option::weighted(0.3, 0u32..4),
        proptest::option::of(0u64..20_000),
    )
        .prop_map(
            |(condition, delay_ms, max_attempts, window_ms)| RestartPolicy {
                condition,
                delay_ms,
                max_attempts,
                window_ms,
            },
        )
}

fn pick<T: Clone>(list: &[T], n: usize) -> Option<T> {
    list.get(n % list.len().max(1)).cloned()
}

const ENDS: [TaskState; 8] = [
    TaskState::Preparing,
    TaskState::Running,
    TaskState::Running,
    TaskState::Failed,
    TaskState::Failed,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Rejected,
];

struct Run {
    world: World,
    services: Vec<ServiceId>,
    nodes: u128,
}

impl Run {
    fn new(policies: &[RestartPolicy], history: u32) -> Self {
        let mut world = World::of(3);
        world.settings(|spec| spec.task_history = history);
        let (wide, narrow) = (
            world.network(1, "10.1.0.0/24"),
            world.network(2, "10.2.0.0/28"),
        );
        let mut services = Vec::new();
        for (n, policy) in (1..).zip(policies) {
            services.push(world.service(n, 3, |spec| {
                spec.template.restart = policy.clone();
                match n {
                    1 => {
                        spec.template.networks = attached(wide);
                        spec.template.disconnect.exclusive = true;
                    }
                    2 => spec.template.networks = [attached(wide), attached(narrow)].concat(),
                    3 => spec.ports = vec![tcp(80)],
                    _ => {
                        spec.template.placement.constraints =
                            vec!["node.labels.disk!=hdd".parse().unwrap()];
                    }
                }
            }));
        }
        Self {
            world,
            services,
            nodes: 3,
        }
    }

    fn step(&mut self, step: Step) {
        let world = &mut self.world;
        let nodes: Vec<_> = world.state.nodes().keys().copied().collect();
        match step {
            Step::Pass => self.pass(),
            Step::Partly(lost) => {
                let decision = world.decide(1);
                check_transactions(world, &decision.transactions);
                let kept = decision.transactions.into_iter().enumerate();
                let kept = kept
                    .filter(|(n, _)| lost >> (n % 64) & 1 == 0)
                    .map(|(_, t)| t);
                world.commit_all(kept.collect::<Vec<_>>());
            }
            Step::Tick(ms) => world.now.0 += ms,
            Step::Report(n, how) => {
                let ids: Vec<_> = world
                    .state
                    .tasks()
                    .values()
                    .filter(|t| t.node.is_some())
                    .map(|t| t.id)
                    .collect();
                if let (Some(id), Some(state)) = (pick(&ids, n), pick(&ENDS, how)) {
                    world.report(id, state);
                }
            }
            Step::Obey => drop(world.obey()),
            Step::Node(n, how) => {
                let states = [
                    NodeState::Ready,
                    NodeState::Ready,
                    NodeState::Down,
                    NodeState::Unknown,
                ];
                if let (Some(id), Some(state)) = (pick(&nodes, n), pick(&states, how)) {
                    // Shorter and longer than the lease of the exclusive service.
                    world.silent(id, state, (n as u64 % 2) * 60_000);
                }
            }
            Step::Availability(n, how) => {
                let all = [
                    Availability::Active,
                    Availability::Pause,
                    Availability::Drain,
                ];
                if let (Some(id), Some(availability)) = (pick(&nodes, n), pick(&all, how)) {
                    world.set_availability(id, availability);
                }
            }
            Step::RemoveNode(n) => {
                if let Some(id) = pick(&nodes, n) {
                    world.apply(vec![Op::RemoveNode(id)]);
                    self.nodes += 1;
                    world.node(self.nodes);
                }
            }
            Step::Label(n) => {
                if let Some(id) = pick(&nodes, n) {
                    world.update_node(id, |spec| {
                        if spec.labels.remove("disk").is_none() {
                            spec.labels.insert("disk".into(), "hdd".into());
                        }
                    });
                }
            }
            Step::Scale(n, replicas) => {
                if let Some(id) = pick(&self.services, n) {
                    world.scale(id, replicas);
                }
            }
            Step::Update(n, how) => {
                if let Some(id) = pick(&self.services, n) {
                    world.update(id, |spec| match how % 3 {
                        0 => spec.template.force += 1,
                        1 => spec.template.restart.condition = RestartCondition::OnFailure,
                        _ => {
                            spec.ports = if spec.ports.is_empty() {
                                vec![tcp(81)]
                            } else {
                                vec![]
                            }
                        }
                    });
                }
            }
            Step::Remove(n) => {
                if self.services.len() > 1 {
                    let id = self.services.remove(n % self.services.len());
                    world.apply(vec![Op::RemoveService(id)]);
                }
            }
        }
    }

    fn pass(&mut self) {
        let decision = self.world.decide(256);
        check_transactions(&self.world, &decision.transactions);
        self.world.pass();
    }
}

/// Nothing begins in a slot that still has something on a node which is not down, or of an exclusive service on one
/// that is, within its lease; and each task goes where the
/// service has fewest.
fn check_transactions(world: &World, transactions: &[Transaction]) {
    let ops: Vec<&Op> = transactions.iter().flat_map(|t| &t.ops).collect();
    let mut live: BTreeSet<TaskId> = world
        .state
        .tasks()
        .values()
        .filter(|t| is_live(t))
        .map(|t| t.id)
        .collect();
    for op in &ops {
        if let Op::SetTaskDesired { id, .. } | Op::RemoveTask(id) = op {
            live.remove(id);
        }
    }
    let mut own: BTreeMap<(ServiceId, NodeId), usize> = BTreeMap::new();
    for task in live.iter().map(|id| &world.state.tasks()[id]) {
        if let Some(node) = task.node {
            *own.entry((task.service, node)).or_default() += 1;
        }
    }
    for op in ops {
        let (service, slot, node) = match op {
            Op::CreateTask(task) => (task.service, task.slot, task.node),
            Op::AssignTask { id, node, .. } => {
                let task = &world.state.tasks()[id];
                (task.service, task.slot, Some(*node))
            }
            _ => continue,
        };
        let Some(node) = node else { continue };
        let others = world.state.tasks_of_service(service).filter(|t| {
            let down = t.node.is_some_and(|n| {
                world
                    .state
                    .nodes()
                    .get(&n)
                    .is_none_or(|n| n.status.state == NodeState::Down)
            });
            let gone = down && !world.state.may_still_run(t);
            t.slot == slot && t.node.is_some() && !gone && !t.status.state.is_ended()
        });
        assert_eq!(others.count(), 0, "{service} runs slot {slot} twice");
        let spec = &world.state.services()[&service].spec;
        let suitable = world.state.nodes().values().filter(|n| {
            n.status.state == NodeState::Ready
                && n.spec.availability == Availability::Active
                && spec
                    .template
                    .placement
                    .constraints
                    .iter()
                    .all(|c| crate::place::holds(n, c))
        });
        let count = |id: NodeId| own.get(&(service, id)).copied().unwrap_or(0);
        let suitable: Vec<_> = suitable.map(|n| n.id).collect();
        assert!(
            suitable.contains(&node),
            "{service} is placed where it may not be"
        );
        if spec.ports.is_empty() {
            let fewest = suitable.iter().map(|id| count(*id)).min();
            assert_eq!(Some(count(node)), fewest, "{service} is not spread");
        }
        *own.entry((service, node)).or_default() += 1;
    }
}

/// What holds at all times.
fn check(world: &World) {
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    let mut live = BTreeSet::new();
    for task in world
        .state
        .tasks()
        .values()
        .filter(|t| !t.status.state.is_ended())
    {
        assert!(
            task.addresses
                .iter()
                .all(|a| addresses.insert((a.network, a.addr))),
            "an address given twice"
        );
        for port in &task.ports {
            assert!(
                ports.insert((task.node, port.protocol, port.published)),
                "a port given twice"
            );
        }
        if is_live(task) {
            assert!(
                live.insert((task.service, task.slot)),
                "two live tasks in a slot"
            );
        }
    }
}

/// What holds when all is calm.
fn check_settled(run: &Run, history: u32) {
    let world = &run.world;
    assert_eq!(world.decide_nothing(), None);
    for id in &run.services {
        let service = &world.state.services()[id];
        let ServiceMode::Replicated { replicas } = service.spec.mode;
        let mut slots: BTreeMap<u32, Vec<Task>> = BTreeMap::new();
        for task in world.tasks(*id) {
            slots.entry(task.slot).or_default().push(task);
        }
        assert_eq!(
            slots.len(),
            replicas as usize,
            "{} has other slots than replicas",
            service.spec.name
        );
        let running = world.running(*id);
        let finished = slots
            .values()
            .filter(|tasks| !tasks.iter().any(is_live))
            .count();
        let waiting = world.live(*id).iter().filter(|t| t.node.is_none()).count();
        assert_eq!(running + finished + waiting, replicas as usize);
        let restart = &service.spec.template.restart;
        if restart.condition == RestartCondition::Any && restart.max_attempts.is_none() {
            assert_eq!(finished, 0, "{} has slots without tasks", service.spec.name);
        }
        // Only a port or the small network can be in the way.
        if service.spec.ports.is_empty() && *id != ServiceId(2) {
            assert_eq!(waiting, 0, "{} has tasks without a node", service.spec.name);
        }
        let kept = history
            .max(7)
            .max(restart.max_attempts.map_or(0, |max| max + 1));
        for tasks in slots.values() {
            let ended = tasks.iter().filter(|t| t.status.state.is_ended()).count();
            assert!(ended <= kept as usize, "{ended} ended tasks in a slot");
        }
    }
    let services: BTreeSet<_> = world.state.tasks().values().map(|t| t.service).collect();
    assert!(
        services.iter().all(|id| run.services.contains(id)),
        "tasks of removed services"
    );
}

impl World {
    fn decide_nothing(&self) -> Option<crate::Decision> {
        let decision = crate::schedule(&self.state, self.now, &mut || 0);
        (!decision.transactions.is_empty() || decision.next.is_some()).then_some(decision)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_happens_the_invariants_hold_and_it_settles(
        policies in proptest::collection::vec(policy(), 4),
        history in 0u32..4,
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let mut run = Run::new(&policies, history);
        for step in steps {
            run.step(step);
            check(&run.world);
        }
        for id in run.world.state.nodes().keys().copied().collect::<Vec<_>>() {
            run.world.set_node(id, NodeState::Ready);
            run.world.update_node(id, |spec| *spec = NodeSpec::default());
        }
        run.world.settle();
        check(&run.world);
        check_settled(&run, history);
    }
}
