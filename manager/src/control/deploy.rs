//! What a deploy changes: pure, from the state and the file to one transaction.
//!
//! A stack's own network lives as long as something of the cluster is on it: one that no service of the
//! file uses is not made, and one that nothing is on any more is removed by the leader's sweep
//! ([`crate::leader`]), when the last task on it has ended. So does each version of its secrets and configs:
//! their content never changes, so a file with another one makes a further version of the same name, which the
//! services then refer to, and their tasks are replaced as for any other change.

mod blobs;

use super::{Refusal, lookup, networks, validate};
use api::model::{
    Blob, BlobId, BlobKey, BlobRef, EndpointMode, Network, NetworkAttachment, NetworkId,
    NetworkSpec, Service, ServiceId, ServiceSpec, Stack, StackService, StackSpec, Timestamp,
};
use api::proto::DeployStackReply;
use api::state::{Op, State, Transaction};
use std::collections::{BTreeMap, BTreeSet};

/// A deploy on its way: each op is tried on a copy of the state, so that the next one is made from what the
/// ones before it leave.
struct Plan {
    state: State,
    at: Timestamp,
    ops: Vec<Op>,
    problems: Vec<String>,
    reply: DeployStackReply,
}

/// The transaction that makes the stack what the file says; empty when it is so already.
///
/// # Errors
/// All that is wrong with the file or doesn't fit the cluster.
pub fn plan(
    state: &State,
    spec: &StackSpec,
    at: Timestamp,
    mut new_id: impl FnMut() -> u128,
) -> Result<(Vec<Op>, DeployStackReply), Refusal> {
    let mut problems = Vec::new();
    validate::stack(spec, &mut problems);
    if let Some(cluster) = state.cluster() {
        let services = spec.services.values();
        problems.extend(validate::leases(services.map(|s| &s.spec), &cluster.spec));
    }
    if !problems.is_empty() {
        return Err(Refusal::invalid(problems.join("\n")));
    }
    let mut plan = Plan {
        state: state.clone(),
        at,
        ops: Vec::new(),
        problems: Vec::new(),
        reply: DeployStackReply::default(),
    };
    plan.stack(spec);
    plan.removals(spec);
    let ids = Ids {
        networks: plan.networks(spec, &mut new_id),
        blobs: plan.blobs(spec, &mut new_id),
    };
    for (name, service) in &spec.services {
        plan.service(name, service, &ids, &mut new_id);
    }
    if plan.problems.is_empty() {
        Ok((plan.ops, plan.reply))
    } else {
        Err(Refusal::first(plan.problems.join("\n")))
    }
}

/// Of what services name.
struct Ids {
    networks: BTreeMap<String, NetworkId>,
    blobs: BTreeMap<BlobKey, BlobId>,
}

impl Plan {
    /// Tries the op and keeps it; or keeps why it can't be.
    fn push(&mut self, op: Op) -> bool {
        let revision = self.state.revision() + 1;
        match self.state.apply(
            revision,
            Transaction {
                at: self.at,
                ops: vec![op.clone()],
            },
        ) {
            Ok(_) => {
                self.ops.push(op);
                true
            }
            Err(error) => {
                self.problems.push(error.message);
                false
            }
        }
    }

    fn stack(&mut self, spec: &StackSpec) {
        let volumes: Vec<String> = spec.volumes.keys().cloned().collect();
        let old = self.state.stacks().get(spec.name.as_str());
        if old.is_none_or(|old| old.volumes != volumes) {
            let meta = api::model::Meta::default();
            self.push(Op::PutStack(Stack {
                name: spec.name.clone(),
                meta,
                volumes,
            }));
        }
    }

    fn removals(&mut self, spec: &StackSpec) {
        let gone: Vec<(ServiceId, String)> = self
            .state
            .services_of_stack(&spec.name)
            .filter(|service| !spec.services.contains_key(&service.spec.name))
            .map(|service| (service.id, service.spec.name.clone()))
            .collect();
        for (id, name) in gone {
            if self.push(Op::RemoveService(id)) {
                self.reply.removed.push(format!("service {name}"));
            }
        }
    }

    /// Makes the networks that are missing. The ids of all that services may name.
    fn networks(
        &mut self,
        spec: &StackSpec,
        new_id: &mut impl FnMut() -> u128,
    ) -> BTreeMap<String, NetworkId> {
        let mut ids = BTreeMap::new();
        for name in &spec.external_networks {
            match self.state.network_by_name(name) {
                Some(network) => drop(ids.insert(name.clone(), network.id)),
                None => {
                    let names = self.state.networks().values().map(|n| n.spec.name.as_str());
                    let hint = lookup::nearest(name, names).map(|near| format!(", or name {near}"));
                    self.problems.push(format!(
                        "network {name} is external and is not there: make it with `clusterctl network create -d overlay {name}`{}",
                        hint.unwrap_or_default()
                    ));
                }
            }
        }
        let used: BTreeSet<&String> = spec
            .services
            .values()
            .flat_map(|service| service.networks.keys())
            .collect();
        for (name, wanted) in spec.networks.iter().filter(|(name, _)| used.contains(name)) {
            let id = match self.state.network_by_name(name).cloned() {
                Some(there) => self.kept_network(&there, wanted),
                None => self.new_network(wanted, NetworkId(new_id())),
            };
            ids.extend(id.map(|id| (name.clone(), id)));
        }
        ids
    }

    fn kept_network(&mut self, there: &Network, wanted: &NetworkSpec) -> Option<NetworkId> {
        let name = &wanted.name;
        if there.spec.stack != wanted.stack {
            let owner = there.spec.stack.as_ref().map_or_else(
                || "not of a stack".to_owned(),
                |stack| format!("of stack {stack}"),
            );
            self.problems.push(format!(
                "network {name} is there already and {owner}: declare it `external: true`, or name it otherwise"
            ));
            return None;
        }
        let changed = difference(&there.spec, wanted);
        if let Some(changed) = changed {
            self.problems.push(format!(
                "network {name} can't be changed while it is there ({changed}): remove the stack first, or name the network otherwise"
            ));
            return None;
        }
        self.reply.unchanged.push(format!("network {name}"));
        Some(there.id)
    }

    fn new_network(&mut self, wanted: &NetworkSpec, id: NetworkId) -> Option<NetworkId> {
        match networks::allocated(&self.state, id, wanted) {
            Ok(network) => {
                let made = self.push(Op::CreateNetwork(Box::new(network)));
                if made {
                    self.reply.created.push(format!("network {}", wanted.name));
                }
                made.then_some(id)
            }
            Err(refusal) => {
                self.problems.push(refusal.text);
                None
            }
        }
    }

    fn service(
        &mut self,
        name: &str,
        wanted: &StackService,
        ids: &Ids,
        new_id: &mut impl FnMut() -> u128,
    ) {
        let mut spec = wanted.spec.clone();
        for (network, aliases) in &wanted.networks {
            // One that is missing was told of already.
            let Some(id) = ids.networks.get(network) else {
                return;
            };
            spec.template.networks.push(NetworkAttachment {
                network: *id,
                aliases: aliases.clone(),
            });
        }
        for file in &wanted.blobs {
            let Some(blob) = ids.blobs.get(&file.source).copied() else {
                return;
            };
            let file = file.clone();
            spec.template.blobs.push(BlobRef { blob, file });
        }
        match self.state.service_by_name(name).cloned() {
            None => self.new_service(spec, ServiceId(new_id())),
            Some(there) if there.spec.stack != spec.stack => {
                let owner = there.spec.stack.as_ref().map_or_else(
                    || "not of a stack".to_owned(),
                    |stack| format!("of stack {stack}"),
                );
                self.problems.push(format!(
                    "service {name} is there already and {owner}: name it otherwise, or remove that one first"
                ));
            }
            Some(there) => self.kept_service(&there, spec),
        }
    }

    fn new_service(&mut self, spec: ServiceSpec, id: ServiceId) {
        let name = spec.name.clone();
        match vips(&self.state, &spec, &BTreeMap::new()) {
            Ok(vips) => {
                let meta = api::model::Meta::default();
                let service = Service {
                    id,
                    meta,
                    spec,
                    template_revision: 0,
                    vips,
                };
                if self.push(Op::CreateService(Box::new(service))) {
                    self.reply.created.push(format!("service {name}"));
                }
            }
            Err(refusal) => self.problems.push(refusal.text),
        }
    }

    fn kept_service(&mut self, there: &Service, mut spec: ServiceSpec) {
        // Not the file's: how often it was told to run anew.
        spec.template.force = there.spec.template.force;
        let name = spec.name.clone();
        if spec == there.spec {
            self.reply.unchanged.push(format!("service {name}"));
            return;
        }
        match vips(&self.state, &spec, &there.vips) {
            Ok(vips) => {
                let at_revision = there.meta.revision;
                let op = Op::UpdateService {
                    id: there.id,
                    spec: Box::new(spec),
                    vips,
                    at_revision,
                };
                if self.push(op) {
                    self.reply.updated.push(format!("service {name}"));
                }
            }
            Err(refusal) => self.problems.push(refusal.text),
        }
    }
}

fn vips(
    state: &State,
    spec: &ServiceSpec,
    old: &BTreeMap<NetworkId, std::net::Ipv4Addr>,
) -> Result<BTreeMap<NetworkId, std::net::Ipv4Addr>, Refusal> {
    match spec.endpoint_mode {
        EndpointMode::DnsRr => Ok(BTreeMap::new()),
        EndpointMode::Vip => Ok(scheduler::allocate::vips(state, spec, old)?),
    }
}

fn difference(there: &NetworkSpec, wanted: &NetworkSpec) -> Option<String> {
    let mut changes = Vec::new();
    if there.subnet != wanted.subnet {
        let show = |subnet: Option<ipnet::Ipv4Net>| {
            subnet.map_or_else(|| "any".to_owned(), |subnet| subnet.to_string())
        };
        changes.push(format!(
            "subnet {} to {}",
            show(there.subnet),
            show(wanted.subnet)
        ));
    }
    if there.internal != wanted.internal {
        changes.push(format!(
            "internal {} to {}",
            there.internal, wanted.internal
        ));
    }
    if there.attachable != wanted.attachable {
        changes.push(format!(
            "attachable {} to {}",
            there.attachable, wanted.attachable
        ));
    }
    if there.labels != wanted.labels {
        changes.push("labels".to_owned());
    }
    (!changes.is_empty()).then(|| changes.join(", "))
}

/// The networks of a stack.
pub fn networks_of_stack<'a>(
    state: &'a State,
    stack: &'a str,
) -> impl Iterator<Item = &'a Network> {
    state
        .networks()
        .values()
        .map(|network| &**network)
        .filter(move |network| network.spec.stack.as_deref() == Some(stack))
}

/// The secrets and configs of a stack.
pub fn blobs_of_stack<'a>(state: &'a State, stack: &'a str) -> impl Iterator<Item = &'a Blob> {
    state
        .blobs()
        .values()
        .map(|blob| &**blob)
        .filter(move |blob| blob.spec.stack.as_deref() == Some(stack))
}

#[cfg(test)]
mod tests;
