//! Tasks: made, placed, reported on, removed.

use super::{Outcome, Run, missing, refuse};
use crate::model::{
    NodeId, NodeState, PublishedPort, Task, TaskAddress, TaskId, TaskState, TaskStatus,
};
use crate::state::{ErrorKind, Holder};
use std::sync::Arc;

impl Run<'_> {
    fn check_place(
        &self,
        id: TaskId,
        node: NodeId,
        addresses: &[TaskAddress],
        ports: &[PublishedPort],
    ) -> Outcome {
        if self.node(node)?.status.state == NodeState::Down {
            // Decided before that was known: whoever decides again would replace at once what runs there by then.
            return refuse(
                ErrorKind::Conflict,
                format!("node {node} is down, and takes no task"),
            );
        }
        for wanted in addresses {
            self.check_address(wanted.network, wanted.addr, Holder::Task(id))?;
        }
        for port in ports {
            if let Some(holder) = self.state.port_holder(node, port.protocol, port.published)
                && holder != id
            {
                let (number, protocol) = (port.published, port.protocol.as_str());
                return refuse(
                    ErrorKind::Conflict,
                    format!("port {number}/{protocol} of node {node} is held by task {holder}"),
                );
            }
        }
        Ok(())
    }

    pub(super) fn create_task(&mut self, mut task: Task) -> Outcome {
        if self.state.tasks.contains_key(&task.id) {
            return refuse(
                ErrorKind::Taken,
                format!("task {} is there already", task.id),
            );
        }
        self.service(task.service)?;
        let version = (task.service, task.template_revision);
        let Some(template) = self.state.templates.get(&version) else {
            return refuse(
                ErrorKind::Conflict,
                format!(
                    "service {} has no version {}",
                    task.service_name, task.template_revision
                ),
            );
        };
        // An earlier version may name a network that is gone meanwhile.
        let networks = template.networks.iter().map(|a| a.network);
        if let Some(gone) = networks
            .into_iter()
            .find(|id| !self.state.networks.contains_key(id))
        {
            return Err(missing("network", gone));
        }
        self.check_blobs(template)?;
        match task.node {
            Some(node) => self.check_place(task.id, node, &task.addresses, &task.ports)?,
            None if task.addresses.is_empty() && task.ports.is_empty() => {}
            None => {
                return refuse(
                    ErrorKind::Invalid,
                    format!(
                        "task {} has no node, so it can hold no address and no port",
                        task.id
                    ),
                );
            }
        }
        task.meta = self.fresh();
        let event = self.state.set_task(task.id, Some(Arc::new(task)));
        self.events.push(event);
        Ok(())
    }

    pub(super) fn assign_task(
        &mut self,
        id: TaskId,
        node: NodeId,
        addresses: Vec<TaskAddress>,
        ports: Vec<PublishedPort>,
    ) -> Outcome {
        let old = self.task(id)?;
        if old.node.is_some() || old.status.state > TaskState::Pending {
            return refuse(
                ErrorKind::Conflict,
                format!("task {id} has a node already or has ended"),
            );
        }
        self.check_place(id, node, &addresses, &ports)?;
        let status = TaskStatus {
            state: TaskState::Assigned,
            at: self.at,
            ..TaskStatus::default()
        };
        self.set_task(Task {
            node: Some(node),
            addresses,
            ports,
            status,
            ..(*old).clone()
        });
        Ok(())
    }

    pub(super) fn set_task_status(&mut self, id: TaskId, status: TaskStatus) {
        let Some(old) = self.state.tasks.get(&id).cloned() else {
            return;
        };
        #[cfg(feature = "sabotage")]
        if crate::sabotage::has(crate::sabotage::Bug::StatusMovesBack) {
            self.set_task(Task {
                status,
                ..(*old).clone()
            });
            return;
        }
        let same_state = status.state == old.status.state;
        // Within a state only its words may change, and an ended task says nothing more.
        if status.state < old.status.state
            || old.status.state.is_ended()
            || (same_state && status == old.status)
        {
            return;
        }
        self.set_task(Task {
            status,
            ..(*old).clone()
        });
    }

    pub(super) fn remove_task(&mut self, id: TaskId) -> Outcome {
        let task = self.task(id)?;
        if task.node.is_some() && !task.status.state.is_ended() {
            return refuse(
                ErrorKind::InUse,
                format!("task {id} has not ended on its node"),
            );
        }
        let event = self.state.set_task(id, None);
        self.events.push(event);
        self.drop_template(task.service, task.template_revision);
        Ok(())
    }
}
