//! Random transactions that mostly make sense.
//!
//! Each change is made from a number and the state it is for: most pick objects that are there, places that
//! exist and revisions that are current, some don't. A few ids of each kind are enough for every collision.

use super::*;
use proptest::collection::vec;

/// Numbers of each transaction's changes.
pub(super) fn history() -> impl Strategy<Value = Vec<Vec<u128>>> {
    let seeds = prop_oneof![2 => vec(any::<u128>(), 1), 1 => vec(any::<u128>(), 2..5)];
    vec(seeds, 1..80)
}

/// The transaction of these numbers, for a state.
pub(super) fn transaction(state: &State, seeds: &[u128]) -> Transaction {
    let revision = state.revision() + 1;
    let at = Timestamp(i64::try_from(revision).unwrap_or(0));
    // Each change is made for what those before it leave.
    let mut ahead = state.clone();
    let mut ops = Vec::new();
    for seed in seeds {
        let mut draw = Draw(*seed);
        let kind = draw.below(KINDS);
        // A refused one takes the whole transaction with it, so most get some more tries.
        let tries = if draw.once_in(8) { 1 } else { 6 };
        for last in (0..tries).rev() {
            let made = op(&ahead, kind, &mut draw, revision);
            let mut next = ahead.clone();
            let taken = next
                .apply(
                    revision,
                    Transaction {
                        at,
                        ops: vec![made.clone()],
                    },
                )
                .is_ok();
            if taken || last == 0 {
                ahead = next;
                ops.push(made);
                break;
            }
            draw = Draw(seed.rotate_left(last * 21) ^ u128::from(last));
        }
    }
    Transaction { at, ops }
}

/// Draws choices from a number.
struct Draw(u128);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u128;
        let drawn = self.0 % bound;
        self.0 /= bound;
        usize::try_from(drawn).unwrap_or(0)
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        let index = self.below(all.len());
        all.get(index).cloned()
    }

    /// Mostly one of those, else any of 1 to `most`.
    fn id(&mut self, known: impl Iterator<Item = u128>, most: usize) -> u128 {
        let known: Vec<u128> = known.collect();
        let any = self.below(most) as u128 + 1;
        if self.once_in(12) {
            any
        } else {
            self.of(&known).unwrap_or(any)
        }
    }

    /// Mostly one of 1 to `most` that is not among those.
    fn free(&mut self, known: impl Iterator<Item = u128>, most: usize) -> u128 {
        let taken: Vec<u128> = known.collect();
        self.id((1..=most as u128).filter(|id| !taken.contains(id)), most)
    }

    fn revision(&mut self, current: Option<u64>, otherwise: u64) -> u64 {
        if self.once_in(12) {
            self.below(9) as u64
        } else {
            current.unwrap_or(otherwise)
        }
    }

    fn node(&mut self, state: &State) -> NodeId {
        NodeId(self.id(state.nodes().keys().map(|id| id.0), 3))
    }

    fn network(&mut self, state: &State) -> NetworkId {
        NetworkId(self.id(state.networks().keys().map(|id| id.0), 4))
    }

    fn service(&mut self, state: &State) -> ServiceId {
        ServiceId(self.id(state.services().keys().map(|id| id.0), 4))
    }

    fn blob(&mut self, state: &State) -> BlobId {
        BlobId(self.id(state.blobs().keys().map(|id| id.0), 4))
    }

    fn task(&mut self, state: &State, wanted: impl Fn(&Task) -> bool) -> TaskId {
        TaskId(self.id(
            state.tasks().values().filter(|t| wanted(t)).map(|t| t.id.0),
            10,
        ))
    }

    /// Mostly an address of the network.
    fn addr(&mut self, state: &State, network: NetworkId) -> Ipv4Addr {
        let subnet = state
            .networks()
            .get(&network)
            .map_or(1, |n| n.subnet.addr().octets()[2]);
        let subnet = if self.once_in(20) { 9 } else { subnet };
        let host = u8::try_from(self.below(8)).unwrap_or(0) + 2;
        [10, 0, subnet, host].into()
    }

    fn vips(&mut self, state: &State, spec: &ServiceSpec) -> BTreeMap<NetworkId, Ipv4Addr> {
        let networks = spec.template.networks.iter().map(|n| n.network);
        networks
            .map(|network| (network, self.addr(state, network)))
            .collect()
    }

    fn addresses(&mut self, state: &State) -> Vec<TaskAddress> {
        let mut one = || {
            let network = self.network(state);
            TaskAddress {
                network,
                addr: self.addr(state, network),
            }
        };
        let (first, second) = (one(), one());
        match self.below(3) {
            0 => vec![],
            1 => vec![first],
            _ => vec![first, second],
        }
    }

    fn ports(&mut self) -> Vec<PublishedPort> {
        let mut one = || PublishedPort {
            protocol: if self.once_in(2) {
                Protocol::Udp
            } else {
                Protocol::Tcp
            },
            published: 80 + u16::try_from(self.below(4)).unwrap_or(0),
            target: 80,
        };
        let (first, second) = (one(), one());
        match self.below(4) {
            0 | 1 => vec![],
            2 => vec![first],
            _ => vec![first, second],
        }
    }

    fn spec(&mut self, state: &State, name: &str) -> ServiceSpec {
        let image = if self.once_in(2) { "x" } else { "y" };
        let networks: Vec<u128> = (0..self.below(3)).map(|_| self.network(state).0).collect();
        let ports = self.ports();
        let mut blobs: Vec<u128> = (0..self.below(3)).map(|_| self.blob(state).0).collect();
        blobs.retain(|id| self.once_in(20) || state.blobs().contains_key(&BlobId(*id)));
        let spec = ServiceSpec {
            ports,
            stack: (image == "y").then(|| "s".to_owned()),
            ..spec(name, image, &networks)
        };
        with_blobs(spec, &blobs)
    }

    fn state(&mut self) -> TaskState {
        self.of(&TaskState::ALL).unwrap_or_default()
    }
}

/// Names that mostly go with the ids, so that they seldom collide.
fn name(draw: &mut Draw, id: u128) -> String {
    let other = draw.below(4);
    if draw.once_in(12) {
        format!("n{other}")
    } else {
        format!("n{id}")
    }
}

/// Kinds of changes, the frequent ones several times.
const KINDS: usize = 46;

fn op(state: &State, kind: usize, draw: &mut Draw, revision: u64) -> Op {
    match kind {
        0 => Op::CreateCluster(Box::new(cluster(1))),
        1 => {
            let current = state.cluster().map(|c| c.meta.revision);
            let (id, at_revision) = (
                1 + u128::from(draw.once_in(12)),
                draw.revision(current, revision),
            );
            Op::UpdateCluster {
                cluster: Box::new(cluster(id)),
                at_revision,
            }
        }
        2..=4 => Op::CreateNode(Box::new(node(
            draw.free(state.nodes().keys().map(|id| id.0), 3),
        ))),
        5 => {
            let id = draw.node(state);
            let at_revision =
                draw.revision(state.nodes().get(&id).map(|n| n.meta.revision), revision);
            Op::UpdateNode {
                id,
                spec: NodeSpec::default(),
                at_revision,
            }
        }
        6 => {
            let state_now = if draw.once_in(2) {
                NodeState::Ready
            } else {
                NodeState::Down
            };
            let status = NodeStatus {
                state: state_now,
                ..NodeStatus::default()
            };
            Op::SetNodeStatus {
                id: draw.node(state),
                status,
                description: None,
                addr: None,
            }
        }
        7 if draw.once_in(2) => Op::SetNodeCert {
            id: draw.node(state),
            cert: NodeCert::default(),
        },
        7 => Op::RemoveNode(draw.node(state)),
        8..=10 => {
            let id = draw.free(state.networks().keys().map(|id| id.0), 4);
            let number = u8::try_from(id).unwrap_or(1);
            let vni = if draw.once_in(12) { 2 } else { number.into() };
            let subnet = if draw.once_in(12) { 2 } else { number };
            Op::CreateNetwork(Box::new(network(id, &name(draw, id), vni, subnet)))
        }
        11 => Op::RemoveNetwork(draw.network(state)),
        12..=14 => {
            let id = draw.free(state.services().keys().map(|id| id.0), 4);
            let name = name(draw, id);
            let spec = draw.spec(state, &name);
            let vips = draw.vips(state, &spec);
            Op::CreateService(Box::new(service(id, spec, vips)))
        }
        15..=18 => {
            let id = draw.service(state);
            let old = state.services().get(&id);
            let at_revision = draw.revision(old.map(|s| s.meta.revision), revision);
            let name = if draw.once_in(20) {
                "n0"
            } else {
                old.map_or("n0", |s| s.spec.name.as_str())
            };
            let spec = draw.spec(state, name);
            let vips = draw.vips(state, &spec);
            Op::UpdateService {
                id,
                spec: Box::new(spec),
                vips,
                at_revision,
            }
        }
        19 => Op::RemoveService(draw.service(state)),
        20 => Op::PutStack(Stack {
            name: name(draw, 1),
            ..Stack::default()
        }),
        21 => Op::RemoveStack(name(draw, 1)),
        22..=27 => Op::CreateTask(Box::new(new_task(state, draw, revision))),
        28..=31 => {
            let id = draw.task(state, |t| t.node.is_none());
            Op::AssignTask {
                id,
                node: draw.node(state),
                addresses: draw.addresses(state),
                ports: draw.ports(),
            }
        }
        32 => Op::SetTaskDesired {
            id: draw.task(state, |_| true),
            desired: draw.state(),
        },
        33..=36 => {
            let id = draw.task(state, |t| !t.status.state.is_ended());
            let message = if draw.once_in(2) { "why" } else { "" }.into();
            Op::SetTaskStatus {
                id,
                status: TaskStatus {
                    state: draw.state(),
                    message,
                    ..TaskStatus::default()
                },
            }
        }
        37..=39 => {
            let id = draw.free(state.blobs().keys().map(|id| id.0), 4);
            let name = name(draw, id);
            let version = u32::try_from(draw.below(3)).unwrap_or(0);
            let stack = (version > 0).then_some("s");
            Op::CreateBlob(Box::new(blob(id, &name, stack, version)))
        }
        40 => {
            let id = draw.blob(state);
            let current = state.blobs().get(&id).map(|b| b.meta.revision);
            let value = draw.below(2).to_string();
            Op::UpdateBlob {
                id,
                labels: [("l".to_owned(), value)].into(),
                at_revision: draw.revision(current, revision),
            }
        }
        41 | 42 => Op::RemoveBlob(draw.blob(state)),
        _ => Op::RemoveTask(draw.task(state, |t| t.node.is_none() || t.status.state.is_ended())),
    }
}

/// Placed, waiting or, seldom, ended already.
fn new_task(state: &State, draw: &mut Draw, revision: u64) -> Task {
    let id = draw.free(state.tasks().keys().map(|id| id.0), 10);
    let service = draw.service(state);
    let version = draw.revision(
        state.services().get(&service).map(|s| s.template_revision),
        revision,
    );
    let mut task = task(id, service.0, version);
    if draw.once_in(12) {
        task.status.state = TaskState::Failed;
    }
    if draw.once_in(2) {
        task.node = Some(draw.node(state));
        task.addresses = draw.addresses(state);
        task.ports = draw.ports();
        task.status.state = task.status.state.max(TaskState::Assigned);
    }
    task
}

/// The other tests say little if what they play is mostly refused, or never gets far.
#[test]
fn most_transactions_are_taken_and_each_kind_of_change_is() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut kinds: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let (mut taken, mut all, mut waiting) = (0, 0, 0);
    for _ in 0..100 {
        let history = history()
            .new_tree(&mut runner)
            .expect("a history")
            .current();
        let mut state = State::new();
        for seeds in history {
            let transaction = transaction(&state, &seeds);
            let outcome = state.apply(state.revision() + 1, transaction.clone());
            all += 1;
            taken += u32::from(outcome.is_ok());
            for op in &transaction.ops {
                let shown = format!("{op:?}");
                let kind = shown
                    .split(['(', ' '])
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let count = kinds.entry(kind).or_default();
                if outcome.is_ok() {
                    count.0 += 1
                } else {
                    count.1 += 1
                }
            }
            let outdated = |t: &&Arc<Task>| {
                let service = state.services().get(&t.service);
                t.node.is_none()
                    && service.is_some_and(|s| s.template_revision != t.template_revision)
            };
            waiting += state.tasks().values().filter(outdated).count();
        }
    }
    assert!(taken * 2 > all, "{taken} of {all} were taken: {kinds:#?}");
    assert!(waiting > 0, "no task ever waited with an old version");
    assert_eq!(kinds.len(), 22);
    for (kind, (ok, refused)) in &kinds {
        assert!(
            ok > refused || *ok > 30,
            "{kind}: {ok} taken, {refused} refused"
        );
        assert!(*refused > 0, "{kind} was never refused");
    }
}
