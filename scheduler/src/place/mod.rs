//! Where tasks go: filters that explain themselves, then the emptiest node.
//!
//! Groups, not tasks: the filters look at each node once for all new tasks of a service; a heap then gives
//! the emptiest node again and again.

mod filter;

use crate::allocate::Addresses;
use crate::orchestrate::{Wanted, is_live};
use api::model::{
    Node, NodeId, Protocol, PublishedPort, Service, ServiceId, Task, TaskAddress, TaskId,
    TaskState, TaskStatus, Timestamp,
};
use api::state::{Op, State};
use filter::Reasons;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// Tasks on a node: of the service in hand, and in all; then which node.
type Rank = Reverse<(u32, u32, NodeId)>;

struct Placer<'a> {
    state: &'a State,
    now: Timestamp,
    /// Live tasks of each node, as the pass goes on.
    load: BTreeMap<NodeId, u32>,
    addresses: Addresses<'a>,
    /// Ports given in this pass, and to which task.
    ports: BTreeMap<(NodeId, Protocol, u16), String>,
}

/// Finds nodes for what needs one, or says why there is none.
pub fn place(
    state: &State,
    now: Timestamp,
    wanted: BTreeMap<ServiceId, Vec<Wanted>>,
    ids: &mut dyn FnMut() -> u128,
    ops: &mut Vec<Op>,
) {
    if wanted.is_empty() {
        return;
    }
    let mut load: BTreeMap<NodeId, u32> = state.nodes().keys().map(|id| (*id, 0)).collect();
    for node in state
        .tasks()
        .values()
        .filter(|t| is_live(t))
        .filter_map(|t| t.node)
    {
        *load.entry(node).or_default() += 1;
    }
    let mut placer = Placer {
        state,
        now,
        load,
        addresses: Addresses::new(state),
        ports: BTreeMap::new(),
    };
    for (id, group) in wanted {
        if let Some(service) = state.services().get(&id) {
            placer.group(service, group, ids, ops);
        }
    }
}

impl Placer<'_> {
    fn group(
        &mut self,
        service: &Arc<Service>,
        group: Vec<Wanted>,
        ids: &mut dyn FnMut() -> u128,
        ops: &mut Vec<Op>,
    ) {
        let mut own: BTreeMap<NodeId, u32> = BTreeMap::new();
        for node in self
            .state
            .tasks_of_service(service.id)
            .filter(|t| is_live(t))
            .filter_map(|t| t.node)
        {
            *own.entry(node).or_default() += 1;
        }
        let mut reasons = Reasons::new(self.state.nodes().len());
        let mut heap: BinaryHeap<Rank> = BinaryHeap::new();
        for node in self.state.nodes().values() {
            match filter::check(node, &service.spec.template.placement) {
                Ok(()) => {
                    let all = self.load.get(&node.id).copied().unwrap_or(0);
                    heap.push(Reverse((
                        own.get(&node.id).copied().unwrap_or(0),
                        all,
                        node.id,
                    )));
                }
                Err(why) => reasons.add(why),
            }
        }
        for wanted in group {
            match self.one(service, wanted.slot, &mut heap, &mut reasons) {
                Ok((node, addresses, ports)) => {
                    ops.push(self.placed(service, &wanted, node, addresses, ports, ids));
                }
                Err(why) => ops.extend(self.refused(service, &wanted, why, ids)),
            }
        }
    }

    fn one(
        &mut self,
        service: &Service,
        slot: u32,
        heap: &mut BinaryHeap<Rank>,
        reasons: &mut Reasons,
    ) -> Result<(NodeId, Vec<TaskAddress>, Vec<PublishedPort>), String> {
        let ports = &service.spec.ports;
        while let Some(Reverse((own, all, node))) = heap.pop() {
            if let Some(why) = self.port_taken(node, ports) {
                // It stays taken for the whole group.
                reasons.add(why);
                continue;
            }
            let addresses = match self.take_addresses(service) {
                Ok(addresses) => addresses,
                Err(why) => {
                    heap.push(Reverse((own, all, node)));
                    return Err(why);
                }
            };
            let name = || format!("{}.{slot}", service.spec.name);
            self.ports.extend(
                ports
                    .iter()
                    .map(|p| ((node, p.protocol, p.published), name())),
            );
            *self.load.entry(node).or_default() += 1;
            heap.push(Reverse((own + 1, all + 1, node)));
            return Ok((node, addresses, ports.clone()));
        }
        Err(reasons.text())
    }

    fn port_taken(&self, node: NodeId, ports: &[PublishedPort]) -> Option<String> {
        ports.iter().find_map(|port| {
            let (number, protocol) = (port.published, port.protocol.as_str());
            let holder = match self.state.port_holder(node, port.protocol, port.published) {
                Some(id) => self
                    .state
                    .tasks()
                    .get(&id)
                    .map_or_else(|| id.to_string(), |t| t.name()),
                None => self
                    .ports
                    .get(&(node, port.protocol, port.published))?
                    .clone(),
            };
            Some(format!("has port {number}/{protocol} taken by {holder}"))
        })
    }

    fn take_addresses(&mut self, service: &Service) -> Result<Vec<TaskAddress>, String> {
        let mut taken: Vec<TaskAddress> = Vec::new();
        for attachment in &service.spec.template.networks {
            match self.addresses.take(attachment.network) {
                Ok(addr) => taken.push(TaskAddress {
                    network: attachment.network,
                    addr,
                }),
                Err(refusal) => {
                    for held in taken {
                        self.addresses.give_back(held.network, held.addr);
                    }
                    return Err(refusal.to_string());
                }
            }
        }
        Ok(taken)
    }

    fn placed(
        &self,
        service: &Service,
        wanted: &Wanted,
        node: NodeId,
        addresses: Vec<TaskAddress>,
        ports: Vec<PublishedPort>,
        ids: &mut dyn FnMut() -> u128,
    ) -> Op {
        if let Some(id) = wanted.pending {
            return Op::AssignTask {
                id,
                node,
                addresses,
                ports,
            };
        }
        let status = TaskStatus {
            state: TaskState::Assigned,
            at: self.now,
            ..TaskStatus::default()
        };
        let task = Task {
            node: Some(node),
            addresses,
            ports,
            ..new_task(service, wanted.slot, ids(), status)
        };
        Op::CreateTask(Box::new(task))
    }

    fn refused(
        &self,
        service: &Service,
        wanted: &Wanted,
        why: String,
        ids: &mut dyn FnMut() -> u128,
    ) -> Option<Op> {
        let status = TaskStatus {
            state: TaskState::Pending,
            at: self.now,
            message: why,
            ..TaskStatus::default()
        };
        let Some(id) = wanted.pending else {
            return Some(Op::CreateTask(Box::new(new_task(
                service,
                wanted.slot,
                ids(),
                status,
            ))));
        };
        // Told once: the same words again would make the log grow for nothing.
        let known = self
            .state
            .tasks()
            .get(&id)
            .is_some_and(|t| t.status.message == status.message);
        (!known).then_some(Op::SetTaskStatus { id, status })
    }
}

fn new_task(service: &Service, slot: u32, id: u128, status: TaskStatus) -> Task {
    Task {
        id: TaskId(id),
        meta: Default::default(),
        service: service.id,
        service_name: service.spec.name.as_str().into(),
        slot,
        template_revision: service.template_revision,
        node: None,
        desired: TaskState::Running,
        not_before: Timestamp(0),
        addresses: Vec::new(),
        ports: Vec::new(),
        status,
    }
}

/// Whether a task of a service may run on a node, and if not, why.
///
/// # Errors
/// The reason, as it stands after "1 of 2 nodes".
pub fn explain(node: &Node, service: &Service) -> Result<(), String> {
    filter::check(node, &service.spec.template.placement)
}
