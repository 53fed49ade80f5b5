//! A cluster in a test: its state, its clock, its ids.

use crate::survey::is_live;
use crate::{Decision, pass};
use api::model::*;
use api::state::{Op, State, Transaction};
use std::collections::BTreeMap;

pub struct World {
    pub state: State,
    pub now: Timestamp,
    revision: u64,
    next_id: u128,
}

pub fn attached(network: NetworkId) -> Vec<NetworkAttachment> {
    vec![NetworkAttachment {
        network,
        aliases: vec![],
    }]
}

pub fn tcp(published: u16) -> PublishedPort {
    PublishedPort {
        protocol: Protocol::Tcp,
        published,
        target: 80,
    }
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

    /// With so many nodes that take tasks: 1, 2, ...
    pub fn of(nodes: u128) -> Self {
        let mut world = Self::new();
        for n in 1..=nodes {
            world.node(n);
        }
        world
    }

    pub fn apply(&mut self, ops: Vec<Op>) {
        self.commit(Transaction { at: self.now, ops });
    }

    fn commit(&mut self, transaction: Transaction) {
        self.revision += 1;
        let shown = format!("{transaction:?}");
        if let Err(error) = self.state.apply(self.revision, transaction) {
            panic!("refused: {error:?}\n{shown}");
        }
    }

    pub fn settings(&mut self, change: impl FnOnce(&mut ClusterSpec)) {
        let mut spec = ClusterSpec::default();
        change(&mut spec);
        let cluster = Cluster {
            id: ClusterId(1),
            meta: Meta::default(),
            spec,
            ca: ClusterCa {
                cert_pem: String::new(),
                key_pem: String::new(),
            },
            retiring: None,
            tokens: JoinSecrets {
                worker: String::new(),
                manager: String::new(),
            },
            recovery: Default::default(),
            revoked: Default::default(),
            lock: Default::default(),
        };
        self.apply(vec![Op::CreateCluster(Box::new(cluster))]);
    }

    pub fn node(&mut self, n: u128) -> NodeId {
        let id = NodeId(n);
        let low = u16::try_from(n).unwrap().to_be_bytes();
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
            addr: [192, 168, low[0], low[1]].into(),
            port: 2377,
            cert: NodeCert::default(),
        };
        self.apply(vec![Op::CreateNode(Box::new(node))]);
        id
    }

    pub fn set_node(&mut self, id: NodeId, state: NodeState) {
        self.silent(id, state, 0);
    }

    /// Nothing has been heard of a node for so long.
    pub fn silent(&mut self, id: NodeId, state: NodeState, silent_ms: u64) {
        let status = NodeStatus {
            state,
            silent_ms,
            ..NodeStatus::default()
        };
        self.apply(vec![Op::SetNodeStatus {
            id,
            status,
            description: None,
            addr: None,
        }]);
    }

    pub fn update_node(&mut self, id: NodeId, change: impl FnOnce(&mut NodeSpec)) {
        let node = self.state.nodes()[&id].clone();
        let mut spec = node.spec.clone();
        change(&mut spec);
        self.apply(vec![Op::UpdateNode {
            id,
            spec,
            at_revision: node.meta.revision,
        }]);
    }

    pub fn set_availability(&mut self, id: NodeId, availability: Availability) {
        self.update_node(id, |spec| spec.availability = availability);
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

    pub fn scale(&mut self, id: ServiceId, replicas: u32) {
        self.update(id, |spec| spec.mode = ServiceMode::Replicated { replicas });
    }

    /// What a pass would decide, in transactions of so many changes.
    pub fn decide(&mut self, chunk: usize) -> Decision {
        let next_id = &mut self.next_id;
        let mut ids = || {
            *next_id += 1;
            *next_id
        };
        pass(&self.state, self.now, &mut ids, chunk)
    }

    pub fn commit_all(&mut self, transactions: impl IntoIterator<Item = Transaction>) {
        for transaction in transactions {
            self.commit(transaction);
        }
    }

    /// One pass, and what came of it; another would do nothing.
    pub fn pass(&mut self) -> Decision {
        let decision = self.decide(256);
        self.commit_all(decision.transactions.clone());
        let again = self.decide(256);
        assert!(
            again.transactions.is_empty(),
            "a second pass still finds this to do: {again:?}"
        );
        assert_eq!(again.next, decision.next);
        decision
    }

    pub fn tasks(&self, service: ServiceId) -> Vec<Task> {
        self.state
            .tasks_of_service(service)
            .map(|t| (**t).clone())
            .collect()
    }

    /// In order of their slots.
    pub fn live(&self, service: ServiceId) -> Vec<Task> {
        let mut live: Vec<_> = self.tasks(service).into_iter().filter(is_live).collect();
        live.sort_by_key(|t| t.slot);
        live
    }

    pub fn live_slots(&self, service: ServiceId) -> Vec<u32> {
        self.live(service).iter().map(|t| t.slot).collect()
    }

    pub fn slot(&self, service: ServiceId, slot: u32) -> Task {
        self.live(service)
            .into_iter()
            .find(|t| t.slot == slot)
            .expect("a live task in the slot")
    }

    pub fn on(&self, service: ServiceId, node: NodeId) -> usize {
        self.live(service)
            .iter()
            .filter(|t| t.node == Some(node))
            .count()
    }

    pub fn running(&self, service: ServiceId) -> usize {
        self.live(service)
            .iter()
            .filter(|t| t.status.state == TaskState::Running)
            .count()
    }

    pub fn report(&mut self, id: TaskId, state: TaskState) {
        let status = TaskStatus {
            state,
            at: self.now,
            ..TaskStatus::default()
        };
        self.apply(vec![Op::SetTaskStatus { id, status }]);
    }

    /// Every node that is up does what is asked of it. Whether there was anything.
    pub fn obey(&mut self) -> bool {
        let mut news = false;
        for task in self.state.tasks().values().cloned().collect::<Vec<_>>() {
            let node = task.node.and_then(|n| self.state.nodes().get(&n));
            let up = node.is_some_and(|n| n.status.state == NodeState::Ready);
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
        news
    }

    /// The leader looks and the nodes obey, until nothing changes; time goes to whatever is due.
    pub fn settle(&mut self) {
        for _ in 0..2_000 {
            let decision = self.pass();
            match (
                self.obey() || !decision.transactions.is_empty(),
                decision.next,
            ) {
                (true, _) => {}
                (false, Some(next)) => self.now = next,
                (false, None) => return,
            }
        }
        panic!("it does not settle");
    }
}
