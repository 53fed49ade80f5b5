//! Tasks.

use super::{ConvertError, all, each, enum_field, id_bytes, ids, need};
use crate::model::{
    NetworkId, NodeId, ServiceId, Task, TaskAddress, TaskId, TaskStatus, Timestamp,
};
use crate::proto;

impl From<&Task> for proto::Task {
    fn from(task: &Task) -> Self {
        Self {
            id: id_bytes(task.id.0),
            meta: Some((&task.meta).into()),
            service: id_bytes(task.service.0),
            service_name: task.service_name.as_ref().into(),
            slot: task.slot,
            template_revision: task.template_revision,
            node: task.node.map(|n| id_bytes(n.0)),
            desired: proto::TaskState::from(task.desired).into(),
            not_before: task.not_before.0,
            addresses: each(&task.addresses),
            ports: each(&task.ports),
            status: Some((&task.status).into()),
        }
    }
}

impl TryFrom<proto::Task> for Task {
    type Error = ConvertError;

    fn try_from(task: proto::Task) -> Result<Self, ConvertError> {
        Ok(Self {
            id: TaskId(ids::read("Task", "id", &task.id)?),
            meta: need("Task", "meta", task.meta)?.into(),
            service: ServiceId(ids::read("Task", "service", &task.service)?),
            service_name: task.service_name.into(),
            slot: task.slot,
            template_revision: task.template_revision,
            node: task
                .node
                .map(|n| ids::read("Task", "node", &n).map(NodeId))
                .transpose()?,
            desired: enum_field::<proto::TaskState, _>("Task", "desired", task.desired)?,
            not_before: Timestamp(task.not_before),
            addresses: all(task.addresses)?,
            ports: all(task.ports)?,
            status: need("Task", "status", task.status)?.try_into()?,
        })
    }
}

impl From<&TaskAddress> for proto::TaskAddress {
    fn from(address: &TaskAddress) -> Self {
        Self {
            network: id_bytes(address.network.0),
            addr: address.addr.into(),
        }
    }
}

impl TryFrom<proto::TaskAddress> for TaskAddress {
    type Error = ConvertError;

    fn try_from(address: proto::TaskAddress) -> Result<Self, ConvertError> {
        Ok(Self {
            network: NetworkId(ids::read("TaskAddress", "network", &address.network)?),
            addr: address.addr.into(),
        })
    }
}

impl From<&TaskStatus> for proto::TaskStatus {
    fn from(status: &TaskStatus) -> Self {
        Self {
            state: proto::TaskState::from(status.state).into(),
            at: status.at.0,
            message: status.message.clone(),
            pid: status.pid,
            exit_code: status.exit_code,
        }
    }
}

impl TryFrom<proto::TaskStatus> for TaskStatus {
    type Error = ConvertError;

    fn try_from(status: proto::TaskStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            state: enum_field::<proto::TaskState, _>("TaskStatus", "state", status.state)?,
            at: Timestamp(status.at),
            message: status.message,
            pid: status.pid,
            exit_code: status.exit_code,
        })
    }
}
