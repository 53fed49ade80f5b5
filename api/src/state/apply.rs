//! Taking a transaction, whole or not at all.

mod blobs;
mod networks;
mod tasks;

use super::{ApplyError, ErrorKind, Event, Holder, Op, State, Transaction};
use crate::model::{
    Meta, NetworkId, Node, NodeId, Role, Service, ServiceId, ServiceSpec, Stack, Task, TaskId,
    TaskState, TaskStatus, Timestamp,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

type Outcome = Result<(), ApplyError>;

/// One transaction on its way: what it has changed so far, so that it can be taken back.
struct Run<'a> {
    state: &'a mut State,
    events: Vec<Event>,
    at: Timestamp,
    revision: u64,
}

fn refuse(kind: ErrorKind, message: String) -> Outcome {
    Err(ApplyError::new(kind, message))
}

fn missing(what: &str, id: impl std::fmt::Display) -> ApplyError {
    ApplyError::new(
        ErrorKind::NotFound,
        format!("{what} {id} is not there (any more)"),
    )
}

impl State {
    /// Applies the transaction at a log index. The events say what changed.
    ///
    /// # Errors
    /// Names the first rule it breaks; the state is then as it was, but for its revision.
    pub fn apply(
        &mut self,
        revision: u64,
        transaction: Transaction,
    ) -> Result<Vec<Event>, ApplyError> {
        self.revision = revision;
        let mut run = Run {
            at: transaction.at,
            revision,
            events: Vec::new(),
            state: self,
        };
        for op in transaction.ops {
            if let Err(error) = run.op(op) {
                let done = std::mem::take(&mut run.events);
                for event in done.into_iter().rev() {
                    self.revert(event);
                }
                return Err(error);
            }
        }
        Ok(run.events)
    }

    /// Notes that the log has reached `revision` with an entry that holds no transaction.
    pub fn pass(&mut self, revision: u64) {
        self.revision = revision;
    }
}

impl Run<'_> {
    fn op(&mut self, op: Op) -> Outcome {
        match op {
            Op::CreateCluster(mut cluster) => {
                if let Some(there) = &self.state.cluster {
                    return refuse(
                        ErrorKind::Taken,
                        format!("cluster {} is there already", there.id),
                    );
                }
                cluster.meta = self.fresh();
                self.set_cluster(*cluster);
                Ok(())
            }
            Op::UpdateCluster {
                mut cluster,
                at_revision,
            } => {
                let old = self
                    .state
                    .cluster
                    .clone()
                    .ok_or_else(|| missing("cluster", cluster.id))?;
                if cluster.id != old.id {
                    return refuse(
                        ErrorKind::Invalid,
                        format!("this is cluster {}, not {}", old.id, cluster.id),
                    );
                }
                same_revision("the cluster's settings", old.meta.revision, at_revision)?;
                cluster.meta = self.touched(old.meta);
                self.set_cluster(*cluster);
                Ok(())
            }
            Op::CreateNode(mut node) => {
                if self.state.nodes.contains_key(&node.id) {
                    return refuse(
                        ErrorKind::Taken,
                        format!("node {} is there already", node.id),
                    );
                }
                node.meta = self.fresh();
                self.set_node(*node);
                Ok(())
            }
            Op::UpdateNode {
                id,
                spec,
                at_revision,
            } => {
                let old = self.node(id)?;
                same_revision(&format!("node {id}"), old.meta.revision, at_revision)?;
                let manages = |node: &Node| node.spec.role == Role::Manager;
                let is_last = || {
                    let mut others = self.state.nodes.values().filter(|node| node.id != id);
                    !others.any(|node| manages(node))
                };
                if manages(&old) && spec.role == Role::Worker && is_last() {
                    return refuse(
                        ErrorKind::Invalid,
                        format!("node {id} is the last manager: promote another first"),
                    );
                }
                self.set_node(Node {
                    spec,
                    meta: self.touched(old.meta),
                    ..(*old).clone()
                });
                Ok(())
            }
            Op::SetNodeStatus {
                id,
                status,
                description,
                addr,
            } => {
                let old = self.node(id)?;
                // A status is no change of the spec, so it leaves the revision that updates compare.
                let mut node = Node {
                    status,
                    ..(*old).clone()
                };
                if let Some(description) = description {
                    node.description = description;
                }
                if let Some((addr, port)) = addr {
                    (node.addr, node.port) = (addr, port);
                }
                self.set_node(node);
                Ok(())
            }
            Op::SetNodeCert { id, cert } => {
                let old = self.node(id)?;
                self.set_node(Node {
                    cert,
                    ..(*old).clone()
                });
                Ok(())
            }
            Op::RemoveNode(id) => self.remove_node(id),
            Op::CreateNetwork(network) => self.create_network(*network),
            Op::RemoveNetwork(id) => self.remove_network(id),
            Op::CreateBlob(blob) => self.create_blob(*blob),
            Op::UpdateBlob {
                id,
                labels,
                at_revision,
            } => self.update_blob(id, labels, at_revision),
            Op::RemoveBlob(id) => self.remove_blob(id),
            Op::CreateService(service) => self.create_service(*service),
            Op::UpdateService {
                id,
                spec,
                vips,
                at_revision,
            } => self.update_service(id, *spec, vips, at_revision),
            Op::RemoveService(id) => self.remove_service(id),
            Op::PutStack(stack) => {
                let meta = match self.state.stacks.get(stack.name.as_str()) {
                    Some(old) => self.touched(old.meta),
                    None => self.fresh(),
                };
                let name = stack.name.clone();
                let event = self
                    .state
                    .set_stack(&name, Some(Arc::new(Stack { meta, ..stack })));
                self.events.push(event);
                Ok(())
            }
            Op::RemoveStack(name) => {
                if !self.state.stacks.contains_key(name.as_str()) {
                    return Err(missing("stack", name));
                }
                let event = self.state.set_stack(&name, None);
                self.events.push(event);
                Ok(())
            }
            Op::CreateTask(task) => self.create_task(*task),
            Op::AssignTask {
                id,
                node,
                addresses,
                ports,
            } => self.assign_task(id, node, addresses, ports),
            Op::SetTaskDesired { id, desired } => {
                let old = self.task(id)?;
                if desired > old.desired {
                    self.set_task(Task {
                        desired,
                        ..(*old).clone()
                    });
                }
                Ok(())
            }
            Op::SetTaskStatus { id, status } => {
                self.set_task_status(id, status);
                Ok(())
            }
            Op::RemoveTask(id) => self.remove_task(id),
        }
    }

    fn fresh(&self) -> Meta {
        Meta {
            created_at: self.at,
            updated_at: self.at,
            revision: self.revision,
        }
    }

    fn touched(&self, old: Meta) -> Meta {
        Meta {
            updated_at: self.at,
            revision: self.revision,
            ..old
        }
    }

    fn set_cluster(&mut self, cluster: crate::model::Cluster) {
        let new = Some(Arc::new(cluster));
        let old = std::mem::replace(&mut self.state.cluster, new.clone());
        self.events.push(Event::Cluster(old, new));
    }

    fn set_node(&mut self, node: Node) {
        let event = self.state.set_node(node.id, Some(Arc::new(node)));
        self.events.push(event);
    }

    fn set_task(&mut self, mut task: Task) {
        task.meta = self.touched(task.meta);
        let event = self.state.set_task(task.id, Some(Arc::new(task)));
        self.events.push(event);
    }

    fn node(&self, id: NodeId) -> Result<Arc<Node>, ApplyError> {
        self.state
            .nodes
            .get(&id)
            .cloned()
            .ok_or_else(|| missing("node", id))
    }

    fn task(&self, id: TaskId) -> Result<Arc<Task>, ApplyError> {
        self.state
            .tasks
            .get(&id)
            .cloned()
            .ok_or_else(|| missing("task", id))
    }

    fn service(&self, id: ServiceId) -> Result<Arc<Service>, ApplyError> {
        self.state
            .services
            .get(&id)
            .cloned()
            .ok_or_else(|| missing("service", id))
    }

    fn remove_node(&mut self, id: NodeId) -> Outcome {
        let node = self.node(id)?;
        if let Some(cluster) = self.state.cluster.clone() {
            let mut cluster = (*cluster).clone();
            // It may have got one at this very moment.
            let until = self.at.plus_ms(cluster.spec.cert_expiry_ms);
            cluster.revoke(id, until.max(node.cert.not_after), self.at);
            // Whoever has read the cluster before has to read it again, or it would be forgotten.
            cluster.meta = self.touched(cluster.meta);
            self.set_cluster(cluster);
        }
        let tasks: Vec<_> = self
            .state
            .tasks_of_node(id)
            .filter(|t| !t.status.state.is_ended())
            .cloned()
            .collect();
        for task in tasks {
            let status = TaskStatus {
                state: TaskState::Orphaned,
                at: self.at,
                message: "its node was removed from the cluster".into(),
                ..task.status.clone()
            };
            self.set_task(Task {
                status,
                ..(*task).clone()
            });
        }
        let event = self.state.set_node(id, None);
        self.events.push(event);
        Ok(())
    }

    fn create_service(&mut self, mut service: Service) -> Outcome {
        let name = &service.spec.name;
        if self.state.services.contains_key(&service.id)
            || self.state.service_by_name(name).is_some()
        {
            return refuse(ErrorKind::Taken, format!("service {name} is there already"));
        }
        self.check_networks(&service.spec)?;
        self.check_blobs(&service.spec.template)?;
        self.check_vips(service.id, &service.vips)?;
        service.meta = self.fresh();
        service.template_revision = self.revision;
        self.put_template(service.id, &service.spec);
        let event = self.state.set_service(service.id, Some(Arc::new(service)));
        self.events.push(event);
        Ok(())
    }

    fn update_service(
        &mut self,
        id: ServiceId,
        spec: ServiceSpec,
        vips: BTreeMap<NetworkId, Ipv4Addr>,
        at_revision: u64,
    ) -> Outcome {
        let old = self.service(id)?;
        same_revision(
            &format!("service {}", old.spec.name),
            old.meta.revision,
            at_revision,
        )?;
        if spec.name != old.spec.name {
            return refuse(
                ErrorKind::Invalid,
                format!("service {} can't be renamed", old.spec.name),
            );
        }
        self.check_networks(&spec)?;
        self.check_blobs(&spec.template)?;
        self.check_vips(id, &vips)?;
        // Published ports are the template's matter too: a running task can't change them.
        let changed = spec.template != old.spec.template || spec.ports != old.spec.ports;
        let template_revision = if changed {
            self.revision
        } else {
            old.template_revision
        };
        if changed {
            self.put_template(id, &spec);
        }
        let new = Service {
            id,
            meta: self.touched(old.meta),
            spec,
            template_revision,
            vips,
        };
        let event = self.state.set_service(id, Some(Arc::new(new)));
        self.events.push(event);
        if changed {
            self.drop_template(id, old.template_revision);
        }
        Ok(())
    }

    fn remove_service(&mut self, id: ServiceId) -> Outcome {
        let service = self.service(id)?;
        let tasks: Vec<_> = self.state.tasks_of_service(id).cloned().collect();
        let event = self.state.set_service(id, None);
        self.events.push(event);
        for task in tasks {
            let desired = task.desired.max(TaskState::Remove);
            self.set_task(Task {
                desired,
                ..(*task).clone()
            });
        }
        self.drop_template(id, service.template_revision);
        Ok(())
    }

    fn put_template(&mut self, service: ServiceId, spec: &ServiceSpec) {
        let template = Some(Arc::new(spec.template.clone()));
        let event = self.state.set_template((service, self.revision), template);
        self.events.push(event);
    }

    /// Forgets a version of a template once it is neither current nor run by a task.
    fn drop_template(&mut self, service: ServiceId, revision: u64) {
        let current = self
            .state
            .services
            .get(&service)
            .is_some_and(|s| s.template_revision == revision);
        let key = (service, revision);
        #[cfg(feature = "sabotage")]
        if !current && crate::sabotage::has(crate::sabotage::Bug::VersionForgotten) {
            let event = self.state.set_template(key, None);
            self.events.push(event);
            return;
        }
        if !current && !self.state.indexes.template_users.contains_key(&key) {
            let event = self.state.set_template(key, None);
            self.events.push(event);
        }
    }

    fn check_networks(&self, spec: &ServiceSpec) -> Outcome {
        for attachment in &spec.template.networks {
            if !self.state.networks.contains_key(&attachment.network) {
                return Err(missing("network", attachment.network));
            }
        }
        Ok(())
    }

    fn check_vips(&self, service: ServiceId, vips: &BTreeMap<NetworkId, Ipv4Addr>) -> Outcome {
        for (network, addr) in vips {
            self.check_address(*network, *addr, Holder::Service(service))?;
        }
        Ok(())
    }

    fn check_address(&self, network: NetworkId, addr: Ipv4Addr, wanted_by: Holder) -> Outcome {
        let object = self
            .state
            .networks
            .get(&network)
            .ok_or_else(|| missing("network", network))?;
        if !object.subnet.contains(&addr) {
            let name = &object.spec.name;
            return refuse(
                ErrorKind::Invalid,
                format!("{addr} is not in {} of network {name}", object.subnet),
            );
        }
        match self
            .state
            .addresses(network)
            .and_then(|held| held.get(&addr))
        {
            #[cfg(feature = "sabotage")]
            _ if crate::sabotage::has(crate::sabotage::Bug::AddressLeasedTwice) => Ok(()),
            Some(holder) if *holder != wanted_by => refuse(
                ErrorKind::Conflict,
                format!(
                    "{addr} of network {} is held by {holder:?}",
                    object.spec.name
                ),
            ),
            _ => Ok(()),
        }
    }
}

fn same_revision(what: &str, now: u64, read_at: u64) -> Outcome {
    if now == read_at {
        return Ok(());
    }
    refuse(
        ErrorKind::Conflict,
        format!("{what} has changed since it was read (revision {read_at}, now {now})"),
    )
}
