//! Users, and the control API: a call goes to any manager, from there to the leader, which reads, builds the
//! change with the product's own planning, and proposes it.

use crate::dice::Dice;
use crate::event::{Event, Timer};
use crate::leader::Passing;
use crate::manager::{Reading, Unmade, Waiter};
use crate::raft::By;
use crate::script::Wish;
use crate::sight::Sight;
use crate::stacks;
use crate::world::World;
use api::model::{
    Availability, Cluster, ClusterCa, ClusterId, ClusterSpec, JoinSecrets, Meta, Node,
    NodeDescription, NodeId, NodeSpec, NodeStatus, Role,
};
use api::state::{ErrorKind, Op, State, Transaction};
use manager::decisions::{removal, scaling};
use std::net::Ipv4Addr;

/// How often a user tries.
const TRIES: u32 = 12;
/// How often a change is made anew because the state has moved on.
const ATTEMPTS: u32 = 16;

/// A user's call.
#[derive(Debug, Clone)]
pub struct Call {
    /// What.
    pub wish: Wish,
    /// All its details.
    pub dice: u64,
    /// The machine that joins or goes.
    pub host: Option<usize>,
    /// The last revision that was acknowledged to anybody when this was asked.
    pub after: u64,
    /// The manager that was asked.
    pub home: usize,
    /// It is on its way to the leader.
    pub passed_on: bool,
    tries: u32,
    attempts: u32,
}

impl World {
    /// A node's address.
    #[must_use]
    pub fn addr(host: usize) -> (Ipv4Addr, u16) {
        let last = u8::try_from(host + 1).unwrap_or(u8::MAX);
        (Ipv4Addr::new(192, 168, 205, last), 2377)
    }

    /// What a node says of itself.
    #[must_use]
    pub fn description(&self, host: usize) -> NodeDescription {
        let disk = if host.is_multiple_of(2) { "ssd" } else { "hdd" };
        NodeDescription {
            hostname: format!("node{}", host + 1),
            os: "linux".into(),
            arch: "x86_64".into(),
            nano_cpus: 4_000_000_000,
            memory_bytes: 4 << 30,
            engine_labels: [("disk".to_owned(), disk.to_owned())].into(),
            ..NodeDescription::default()
        }
    }

    fn node(&self, host: usize) -> Node {
        let (addr, port) = Self::addr(host);
        let role = if host < self.script.managers {
            Role::Manager
        } else {
            Role::Worker
        };
        Node {
            id: self.hosts[host].node,
            meta: Meta::default(),
            spec: NodeSpec {
                role,
                ..NodeSpec::default()
            },
            description: NodeDescription::default(),
            status: NodeStatus::default(),
            addr,
            port,
            cert: api::model::NodeCert {
                role,
                ..Default::default()
            },
        }
    }

    /// The first leader makes the cluster.
    fn founding(&mut self) -> Vec<Op> {
        let cluster = Cluster {
            id: ClusterId(self.dice.id()),
            meta: Meta::default(),
            spec: ClusterSpec {
                task_history: 2,
                ..ClusterSpec::default()
            },
            ca: ClusterCa {
                cert_pem: "a certificate".into(),
                key_pem: "a key".into(),
            },
            retiring: None,
            revoked: Default::default(),
            lock: Default::default(),
            recovery: Default::default(),
            tokens: JoinSecrets {
                worker: "worker".into(),
                manager: "manager".into(),
            },
        };
        let nodes = (0..self.script.members).map(|host| Op::CreateNode(Box::new(self.node(host))));
        let nodes: Vec<Op> = nodes.collect();
        [Op::CreateCluster(Box::new(cluster))]
            .into_iter()
            .chain(nodes)
            .collect()
    }

    /// All that came before is applied.
    pub(crate) fn begin_to_lead(&mut self, host: usize) {
        let at = self.clock(host);
        let Some(manager) = &self.hosts[host].manager else {
            return;
        };
        let Some(term) = manager.lead.as_ref().map(|lead| lead.term) else {
            return;
        };
        if manager.state.cluster().is_none() {
            let ops = self.founding();
            self.propose(host, By::User, Transaction { at, ops }, Waiter::Nobody);
        }
        let Some(manager) = &self.hosts[host].manager else {
            return;
        };
        let hub = self.begin_hub(manager.ring.watch());
        let passing = Passing::new(manager.ring.watch());
        if let Some(lead) = self.hosts[host]
            .manager
            .as_mut()
            .and_then(|manager| manager.lead.as_mut())
        {
            (lead.hub, lead.pass) = (Some(hub), Some(passing));
        }
        self.later(host, 1, Timer::Hub { term });
        self.wake_leader(host);
    }

    /// A user does something.
    pub(crate) fn deed(&mut self, place: usize) {
        let Some(deed) = self.script.deeds.get(place).copied() else {
            return;
        };
        let mut dice = Dice::new(deed.dice);
        let mut call = Call {
            wish: deed.wish,
            dice: deed.dice,
            host: None,
            after: self.book.acknowledged,
            home: dice.place(self.script.managers),
            passed_on: false,
            tries: 0,
            attempts: 0,
        };
        if deed.wish == Wish::Join {
            let spare = (0..self.hosts.len()).find(|host| !self.hosts[*host].member);
            let Some(spare) = spare else { return };
            call.host = Some(spare);
        }
        if deed.wish == Wish::RemoveNode {
            let mut workers: Vec<usize> = (self.script.managers..self.hosts.len())
                .filter(|host| self.hosts[*host].member && !self.hosts[*host].gone)
                .collect();
            if workers.len() < 2 {
                return;
            }
            let host = workers.swap_remove(dice.place(workers.len()));
            // It burns down, and is removed for that.
            self.stop(host, true);
            (self.hosts[host].powered, self.hosts[host].gone) = (false, true);
            call.host = Some(host);
        }
        self.book.count("deeds");
        self.route(Box::new(call));
    }

    /// Tries again in a while, if the user is patient enough.
    pub(crate) fn call_again(&mut self, mut call: Box<Call>, ms: u64) {
        call.passed_on = false;
        let host = call.home;
        self.at(self.now + ms, Event::Call { host, call });
    }

    fn route(&mut self, mut call: Box<Call>) {
        call.tries += 1;
        if call.tries > TRIES {
            self.book.count("calls given up");
            return;
        }
        let home = call.home;
        let leader = self.hosts[home]
            .manager
            .as_ref()
            .and_then(|manager| manager.raft.leader);
        match leader {
            _ if !self.runs(home) || self.hosts[home].paused > 0 => {
                call.home = (home + 1) % self.script.managers;
                self.call_again(call, 500);
            }
            Some(leader) if self.net.talk(home, leader) => {
                call.passed_on = true;
                let at = self.now + self.net.takes(&mut self.dice);
                self.at(at, Event::Call { host: leader, call });
            }
            _ => self.call_again(call, 500),
        }
    }

    /// A call comes to a manager.
    pub(crate) fn called(&mut self, host: usize, call: Call) {
        let call = Box::new(call);
        if !call.passed_on {
            self.route(call);
        } else if self.runs(host) {
            self.read(host, Reading::Call(call));
        } else {
            self.call_again(call, 1_000);
        }
    }

    /// It is sure that this manager led when it was asked.
    pub(crate) fn change(&mut self, host: usize, call: Box<Call>) {
        let at = self.clock(host);
        let Some(manager) = &self.hosts[host].manager else {
            return;
        };
        let state = &manager.state;
        self.book.see(&Sight::Read {
            after: call.after,
            saw: state.revision(),
        });
        if state.cluster().is_none() {
            self.call_again(call, 500);
            return;
        }
        let node = call.host.map(|host| self.node(host));
        match build(state, &call, node, at) {
            Some(ops) if !ops.is_empty() => {
                let change = Transaction { at, ops };
                self.propose(host, By::User, change, Waiter::Call(call));
            }
            // Refused, or nothing to change.
            _ => self.done(&call),
        }
    }

    /// What came of it.
    pub(crate) fn changed(
        &mut self,
        host: usize,
        mut call: Box<Call>,
        outcome: Result<(u64, u64), Unmade>,
    ) {
        match outcome {
            Ok((index, id)) => {
                self.book.acknowledged = self.book.acknowledged.max(index);
                let raft = self.hosts[host].manager.as_ref().map(|m| &m.raft);
                let term = raft.map_or(0, |raft| raft.term());
                self.book.see(&Sight::Acknowledged { index, id, term });
                self.book.count("acknowledged writes");
                self.done(&call);
            }
            Err(Unmade::Refused(refused))
                if call.attempts < ATTEMPTS && refused.kind != ErrorKind::Invalid =>
            {
                call.attempts += 1;
                self.read(host, Reading::Call(call));
            }
            Err(Unmade::Refused(_)) => {}
            Err(Unmade::NotLeader) => self.call_again(call, 300),
            // It may still be made; asking again finds out.
            Err(Unmade::Unknown) => self.call_again(call, 500),
        }
    }

    fn done(&mut self, call: &Call) {
        if let (Wish::Join, Some(host)) = (call.wish, call.host)
            && !self.hosts[host].member
        {
            self.hosts[host].member = true;
            self.start(host);
        }
    }
}

/// The change that a call asks for, from the state; none when it is refused.
fn build(
    state: &State,
    call: &Call,
    node: Option<Node>,
    at: api::model::Timestamp,
) -> Option<Vec<Op>> {
    let mut dice = Dice::new(call.dice);
    match call.wish {
        Wish::Read => Some(Vec::new()),
        Wish::Deploy => stacks::deploy(state, &mut dice, at),
        Wish::Scale => {
            let names: Vec<&String> = state.services().values().map(|s| &s.spec.name).collect();
            let name = names.get(dice.place(names.len()))?;
            let replicas = u32::try_from(dice.below(6)).unwrap_or(0);
            scaling(state, name, replicas).ok().map(|(ops, _)| ops)
        }
        Wish::Remove => {
            let names: Vec<&str> = state.stacks().keys().map(|name| &**name).collect();
            let name = names.get(dice.place(names.len()))?;
            removal(state, name).ok().map(|(ops, _)| ops)
        }
        Wish::Drain => {
            let availability = if dice.chance(70) {
                Availability::Drain
            } else {
                Availability::Pause
            };
            available(state, &mut dice, availability)
        }
        Wish::Activate => available(state, &mut dice, Availability::Active),
        Wish::Join => {
            let node = node?;
            let known = state.nodes().contains_key(&node.id);
            let ops = (!known).then(|| Op::CreateNode(Box::new(node)));
            Some(ops.into_iter().collect())
        }
        Wish::RemoveNode => {
            let id = node?.id;
            let there = state.nodes().contains_key(&id);
            Some(there.then_some(Op::RemoveNode(id)).into_iter().collect())
        }
    }
}

fn available(state: &State, dice: &mut Dice, availability: Availability) -> Option<Vec<Op>> {
    let differs = |node: &&std::sync::Arc<Node>| node.spec.availability != availability;
    let ids: Vec<NodeId> = state
        .nodes()
        .values()
        .filter(differs)
        .map(|n| n.id)
        .collect();
    let node = state.nodes().get(ids.get(dice.place(ids.len()))?)?;
    Some(vec![Op::UpdateNode {
        id: node.id,
        spec: NodeSpec {
            availability,
            ..node.spec.clone()
        },
        at_revision: node.meta.revision,
    }])
}
