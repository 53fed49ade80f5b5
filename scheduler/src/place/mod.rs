//! Where tasks go: filters that explain themselves, then spread.
//!
//! Groups, not tasks: for all new tasks of a service its constraints are held against each node once; a heap
//! then gives the best node again and again. Nothing is ever freed in a pass, so who finds no place finds none
//! until the next, and is told why when all others have been placed: the next pass would say the same.

mod filters;
mod spread;

use crate::allocate::{Addresses, Ports};
use crate::orchestrate::{Placed, Wanted};
use crate::survey::{Group, Survey, is_live};
use crate::transactions::Batch;
use api::model::{
    NetworkId, PublishedPort, Service, Task, TaskAddress, TaskId, TaskState, TaskStatus, Timestamp,
};
use api::state::Op;
use filters::{Reasons, Test, Verb, takes_tasks};
use spread::{Rank, Spread};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names in one reason at most.
const NAMES_MAX: usize = 3;

pub(crate) struct Placer<'s, 'a> {
    survey: &'s Survey<'a>,
    now: Timestamp,
    /// Live tasks of each node, as the pass goes on.
    load: Vec<u32>,
    /// Of the service in hand; all 0 between two.
    own: Vec<u32>,
    /// Nodes that take tasks.
    open: Vec<u32>,
    /// Made when the first task needs one.
    addresses: Option<Addresses<'a>>,
    ports: Ports<'a>,
    /// Services and those of their tasks that found no node.
    refused: Vec<(&'a Arc<Service>, Vec<Wanted<'a>>)>,
}

/// What a task gets.
struct Place {
    site: u32,
    addresses: Vec<TaskAddress>,
}

impl<'s, 'a> Placer<'s, 'a> {
    pub fn new(survey: &'s Survey<'a>, now: Timestamp) -> Self {
        let open = survey
            .sites
            .iter()
            .zip(0u32..)
            .filter(|(site, _)| takes_tasks(site.node).is_ok());
        Self {
            survey,
            now,
            load: survey.sites.iter().map(|site| site.load).collect(),
            own: vec![0; survey.sites.len()],
            open: open.map(|(_, at)| at).collect(),
            addresses: None,
            ports: Ports::new(survey.state),
            refused: Vec::new(),
        }
    }

    /// Tasks that leave these nodes: it is known before anything is placed.
    pub fn leave(&mut self, sites: &[u32]) {
        for site in sites {
            if let Some(load) = self.load.get_mut(*site as usize) {
                *load = load.saturating_sub(1);
            }
        }
    }

    /// Finds nodes for a service's tasks.
    pub fn place(
        &mut self,
        group: Group<'_, 'a>,
        stopping: &[u32],
        wanted: Vec<Wanted<'a>>,
        ids: &mut dyn FnMut() -> u128,
        batch: &mut Batch,
    ) -> Placed {
        let mut placed = Placed::default();
        if wanted.is_empty() {
            return placed;
        }
        let service = group.service;
        let networks = networks(service);
        let mut spread = self.candidates(&group, stopping);
        let name: Arc<str> = service.spec.name.as_str().into();
        let mut refused = Vec::new();
        for wanted in wanted {
            // Once there is no place for one of them, there is for none.
            let place = if refused.is_empty() {
                self.find(service, &networks, &mut spread)
            } else {
                None
            };
            let Some(place) = place else {
                placed.stuck |= wanted.displaced;
                refused.push(wanted);
                continue;
            };
            placed.any = true;
            let Some(site) = self.survey.sites.get(place.site as usize) else {
                continue;
            };
            self.ports
                .take(site.node.id, &service.spec.ports, &name, wanted.slot);
            let (node, addresses, ports) =
                (site.node.id, place.addresses, service.spec.ports.clone());
            let op = match wanted.pending {
                Some(task) => Op::AssignTask {
                    id: task.id,
                    node,
                    addresses,
                    ports,
                },
                None => {
                    let status = self.status(TaskState::Assigned, String::new());
                    let task = new_task(service, &name, wanted.slot, ids(), status);
                    Op::CreateTask(Box::new(Task {
                        node: Some(node),
                        addresses,
                        ports,
                        ..task
                    }))
                }
            };
            batch.whole(with(wanted.before, op), wanted.after);
        }
        if !refused.is_empty() {
            self.refused.push((service, refused));
        }
        placed
    }

    fn candidates(&mut self, group: &Group<'_, 'a>, stopping: &[u32]) -> Spread {
        let own = group
            .entries
            .iter()
            .filter(|e| is_live(e.task))
            .filter_map(|e| e.site);
        for site in own.clone() {
            if let Some(count) = self.own.get_mut(site as usize) {
                *count += 1;
            }
        }
        for site in stopping {
            if let Some(count) = self.own.get_mut(*site as usize) {
                *count = count.saturating_sub(1);
            }
        }
        let tests = tests(group.service);
        let count = |counts: &[u32], site: u32| counts.get(site as usize).copied().unwrap_or(0);
        let fits = |site: &u32| {
            tests.is_empty()
                || self
                    .survey
                    .sites
                    .get(*site as usize)
                    .is_some_and(|s| tests.iter().all(|t| t.holds(s.node)))
        };
        let ranks = self.open.iter().copied().filter(fits).map(|site| Rank {
            own: count(&self.own, site),
            all: count(&self.load, site),
            site,
        });
        let spread = Spread::new(ranks);
        for site in own {
            if let Some(count) = self.own.get_mut(site as usize) {
                *count = 0;
            }
        }
        spread
    }

    /// The best node for one more task of a service, and its addresses.
    fn find(
        &mut self,
        service: &Service,
        networks: &[NetworkId],
        spread: &mut Spread,
    ) -> Option<Place> {
        if !networks.is_empty() {
            let addresses = self.addresses();
            if networks
                .iter()
                .any(|network| addresses.check(*network).is_err())
            {
                return None;
            }
        }
        let ports = &service.spec.ports;
        while let Some(rank) = spread.best() {
            let site = self.survey.sites.get(rank.site as usize)?;
            if !self.ports.are_free(site.node.id, ports) {
                // They stay taken for the rest of the pass.
                continue;
            }
            spread.put_back(rank);
            if let Some(load) = self.load.get_mut(rank.site as usize) {
                *load += 1;
            }
            let mut addresses = Vec::with_capacity(networks.len());
            for network in networks {
                let addr = self.addresses().take(*network).ok()?;
                addresses.push(TaskAddress {
                    network: *network,
                    addr,
                });
            }
            return Some(Place {
                site: rank.site,
                addresses,
            });
        }
        None
    }

    fn addresses(&mut self) -> &mut Addresses<'a> {
        let state = self.survey.state;
        self.addresses.get_or_insert_with(|| {
            let mut addresses = Addresses::new(state);
            let services = state.services().values().map(AsRef::as_ref);
            addresses.remember(services, state.tasks().values().map(AsRef::as_ref));
            addresses
        })
    }

    /// Tells those that found no node why: what is not told yet.
    pub fn tell(mut self, ids: &mut dyn FnMut() -> u128, batch: &mut Batch) {
        for (service, refused) in std::mem::take(&mut self.refused) {
            let name: Arc<str> = service.spec.name.as_str().into();
            let why = self.refusal(service).unwrap_or_default();
            for wanted in refused {
                let told = wanted.pending.is_some_and(|task| {
                    task.status.state == TaskState::Pending && task.status.message == why
                });
                let op = match wanted.pending {
                    // The same words again would make the log grow for nothing.
                    Some(_) if told => None,
                    Some(task) => {
                        let status = self.status(TaskState::Pending, why.clone());
                        Some(Op::SetTaskStatus {
                            id: task.id,
                            status,
                        })
                    }
                    None => {
                        let status = self.status(TaskState::Pending, why.clone());
                        Some(Op::CreateTask(Box::new(new_task(
                            service,
                            &name,
                            wanted.slot,
                            ids(),
                            status,
                        ))))
                    }
                };
                if let Some(op) = op {
                    batch.whole(with(wanted.before, op), wanted.after);
                }
            }
        }
    }

    /// Why a task of a service would find no node now.
    pub fn refusal(&mut self, service: &Service) -> Option<String> {
        let mut reasons = Reasons::new(self.survey.sites.len());
        let tests = tests(service);
        let mut failed = vec![0; tests.len()];
        let mut taken: BTreeMap<PublishedPort, (usize, Vec<String>)> = BTreeMap::new();
        let mut suitable = false;
        for site in &self.survey.sites {
            if let Err(why) = takes_tasks(site.node) {
                reasons.add(Verb::Is, why.into(), 1);
            } else if let Some(at) = tests.iter().position(|test| !test.holds(site.node)) {
                failed
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|count| *count += 1);
            } else if let Some((port, holder)) = self.ports.taken(site.node.id, &service.spec.ports)
            {
                let (count, holders) = taken.entry(port).or_default();
                *count += 1;
                if holders.len() <= NAMES_MAX && !holders.contains(&holder) {
                    holders.push(holder);
                }
            } else {
                suitable = true;
            }
        }
        if suitable {
            let networks = networks(service);
            let addresses = self.addresses();
            return networks
                .iter()
                .find_map(|id| addresses.check(*id).err())
                .map(|refusal| refusal.to_string());
        }
        for (test, count) in tests.iter().zip(failed) {
            reasons.add(Verb::Fails, test.constraint.to_string(), count);
        }
        for (port, (count, mut holders)) in taken {
            let more = if holders.len() > NAMES_MAX {
                " and others"
            } else {
                ""
            };
            holders.truncate(NAMES_MAX);
            let (number, protocol) = (port.published, port.protocol.as_str());
            let holders = holders.join(", ");
            let what = format!("port {number}/{protocol} taken by {holders}{more}");
            reasons.add(Verb::Has, what, count);
        }
        Some(reasons.text())
    }

    fn status(&self, state: TaskState, message: String) -> TaskStatus {
        TaskStatus {
            state,
            at: self.now,
            message,
            ..TaskStatus::default()
        }
    }
}

fn tests(service: &Service) -> Vec<Test<'_>> {
    service
        .spec
        .template
        .placement
        .constraints
        .iter()
        .map(Test::new)
        .collect()
}

/// Each once, in the order of the template.
fn networks(service: &Service) -> Vec<NetworkId> {
    let mut networks = Vec::new();
    for on in &service.spec.template.networks {
        if !networks.contains(&on.network) {
            networks.push(on.network);
        }
    }
    networks
}

/// What has to happen with a change, and then the change.
fn with(mut before: Vec<Op>, op: Op) -> impl ExactSizeIterator<Item = Op> {
    before.push(op);
    before.into_iter()
}

fn new_task(service: &Service, name: &Arc<str>, slot: u32, id: u128, status: TaskStatus) -> Task {
    Task {
        id: TaskId(id),
        meta: api::model::Meta::default(),
        service: service.id,
        service_name: name.clone(),
        slot,
        template_revision: service.template_revision,
        node: None,
        desired: TaskState::Running,
        not_before: Timestamp::default(),
        addresses: Vec::new(),
        ports: Vec::new(),
        status,
    }
}

/// Whether a constraint holds for a node.
#[cfg(test)]
pub(crate) fn holds(node: &api::model::Node, constraint: &api::model::Constraint) -> bool {
    Test::new(constraint).holds(node)
}
