//! One change.

use super::service::{read_vips, write_vips};
use super::{ConvertError, Problem, all, any_port, each, enum_field, id_bytes, ids, need};
use crate::model::{BlobId, NetworkId, NodeId, ServiceId, TaskId};
use crate::proto::{self, op::Op as Wire};
use crate::state::Op;

impl From<&Op> for proto::Op {
    fn from(op: &Op) -> Self {
        let wire = match op {
            Op::CreateCluster(cluster) => Wire::CreateCluster((&**cluster).into()),
            Op::UpdateCluster {
                cluster,
                at_revision,
            } => Wire::UpdateCluster(proto::UpdateCluster {
                cluster: Some((&**cluster).into()),
                at_revision: *at_revision,
            }),
            Op::CreateNode(node) => Wire::CreateNode((&**node).into()),
            Op::UpdateNode {
                id,
                spec,
                at_revision,
            } => Wire::UpdateNode(proto::UpdateNode {
                id: id_bytes(id.0),
                spec: Some(spec.into()),
                at_revision: *at_revision,
            }),
            Op::SetNodeStatus {
                id,
                status,
                description,
                addr,
            } => Wire::SetNodeStatus(proto::SetNodeStatus {
                id: id_bytes(id.0),
                status: Some(status.into()),
                description: description.as_ref().map(Into::into),
                addr: addr.map(|(addr, _)| addr.into()),
                port: addr.map(|(_, port)| port.into()),
            }),
            Op::SetNodeCert { id, cert } => Wire::SetNodeCert(proto::SetNodeCert {
                id: id_bytes(id.0),
                cert: Some(cert.into()),
            }),
            Op::RemoveNode(id) => Wire::RemoveNode(id_bytes(id.0)),
            Op::CreateNetwork(network) => Wire::CreateNetwork((&**network).into()),
            Op::RemoveNetwork(id) => Wire::RemoveNetwork(id_bytes(id.0)),
            Op::CreateService(service) => Wire::CreateService((&**service).into()),
            Op::UpdateService {
                id,
                spec,
                vips,
                at_revision,
            } => Wire::UpdateService(proto::UpdateService {
                id: id_bytes(id.0),
                spec: Some((&**spec).into()),
                vips: write_vips(vips),
                at_revision: *at_revision,
            }),
            Op::RemoveService(id) => Wire::RemoveService(id_bytes(id.0)),
            Op::PutStack(stack) => Wire::PutStack(stack.into()),
            Op::RemoveStack(name) => Wire::RemoveStack(name.clone()),
            Op::CreateTask(task) => Wire::CreateTask((&**task).into()),
            Op::AssignTask {
                id,
                node,
                addresses,
                ports,
            } => Wire::AssignTask(proto::AssignTask {
                id: id_bytes(id.0),
                node: id_bytes(node.0),
                addresses: each(addresses),
                ports: each(ports),
            }),
            Op::SetTaskDesired { id, desired } => Wire::SetTaskDesired(proto::SetTaskDesired {
                id: id_bytes(id.0),
                desired: proto::TaskState::from(*desired).into(),
            }),
            Op::SetTaskStatus { id, status } => Wire::SetTaskStatus(proto::SetTaskStatus {
                id: id_bytes(id.0),
                status: Some(status.into()),
            }),
            Op::RemoveTask(id) => Wire::RemoveTask(id_bytes(id.0)),
            Op::CreateBlob(blob) => Wire::CreateBlob((&**blob).into()),
            Op::UpdateBlob {
                id,
                labels,
                at_revision,
            } => Wire::UpdateBlob(proto::UpdateBlob {
                id: id_bytes(id.0),
                labels: labels.clone(),
                at_revision: *at_revision,
            }),
            Op::RemoveBlob(id) => Wire::RemoveBlob(id_bytes(id.0)),
        };
        Self { op: Some(wire) }
    }
}

impl TryFrom<proto::Op> for Op {
    type Error = ConvertError;

    fn try_from(op: proto::Op) -> Result<Self, ConvertError> {
        Ok(match need("Op", "op", op.op)? {
            Wire::CreateCluster(cluster) => Self::CreateCluster(Box::new(cluster.try_into()?)),
            Wire::UpdateCluster(update) => Self::UpdateCluster {
                cluster: Box::new(need("UpdateCluster", "cluster", update.cluster)?.try_into()?),
                at_revision: update.at_revision,
            },
            Wire::CreateNode(node) => Self::CreateNode(Box::new(node.try_into()?)),
            Wire::UpdateNode(update) => Self::UpdateNode {
                id: NodeId(ids::read("UpdateNode", "id", &update.id)?),
                spec: need("UpdateNode", "spec", update.spec)?.try_into()?,
                at_revision: update.at_revision,
            },
            Wire::SetNodeStatus(set) => set_node_status(set)?,
            Wire::SetNodeCert(set) => Self::SetNodeCert {
                id: NodeId(ids::read("SetNodeCert", "id", &set.id)?),
                cert: need("SetNodeCert", "cert", set.cert)?.try_into()?,
            },
            Wire::RemoveNode(id) => Self::RemoveNode(NodeId(ids::read("Op", "remove_node", &id)?)),
            Wire::CreateNetwork(network) => Self::CreateNetwork(Box::new(network.try_into()?)),
            Wire::RemoveNetwork(id) => {
                Self::RemoveNetwork(NetworkId(ids::read("Op", "remove_network", &id)?))
            }
            Wire::CreateService(service) => Self::CreateService(Box::new(service.try_into()?)),
            Wire::UpdateService(update) => Self::UpdateService {
                id: ServiceId(ids::read("UpdateService", "id", &update.id)?),
                spec: Box::new(need("UpdateService", "spec", update.spec)?.try_into()?),
                vips: read_vips("UpdateService", update.vips)?,
                at_revision: update.at_revision,
            },
            Wire::RemoveService(id) => {
                Self::RemoveService(ServiceId(ids::read("Op", "remove_service", &id)?))
            }
            Wire::PutStack(stack) => Self::PutStack(stack.try_into()?),
            Wire::RemoveStack(name) => Self::RemoveStack(name),
            Wire::CreateTask(task) => Self::CreateTask(Box::new(task.try_into()?)),
            Wire::AssignTask(assign) => Self::AssignTask {
                id: TaskId(ids::read("AssignTask", "id", &assign.id)?),
                node: NodeId(ids::read("AssignTask", "node", &assign.node)?),
                addresses: all(assign.addresses)?,
                ports: all(assign.ports)?,
            },
            Wire::SetTaskDesired(set) => Self::SetTaskDesired {
                id: TaskId(ids::read("SetTaskDesired", "id", &set.id)?),
                desired: enum_field::<proto::TaskState, _>(
                    "SetTaskDesired",
                    "desired",
                    set.desired,
                )?,
            },
            Wire::SetTaskStatus(set) => Self::SetTaskStatus {
                id: TaskId(ids::read("SetTaskStatus", "id", &set.id)?),
                status: need("SetTaskStatus", "status", set.status)?.try_into()?,
            },
            Wire::RemoveTask(id) => Self::RemoveTask(TaskId(ids::read("Op", "remove_task", &id)?)),
            Wire::CreateBlob(blob) => Self::CreateBlob(Box::new(blob.try_into()?)),
            Wire::UpdateBlob(update) => Self::UpdateBlob {
                id: BlobId(ids::read("UpdateBlob", "id", &update.id)?),
                labels: update.labels,
                at_revision: update.at_revision,
            },
            Wire::RemoveBlob(id) => Self::RemoveBlob(BlobId(ids::read("Op", "remove_blob", &id)?)),
        })
    }
}

fn set_node_status(set: proto::SetNodeStatus) -> Result<Op, ConvertError> {
    let addr = match (set.addr, set.port) {
        (Some(addr), Some(port)) => Some((addr.into(), any_port("SetNodeStatus", "port", port)?)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(ConvertError::new(
                "SetNodeStatus",
                "addr",
                Problem::Without("port"),
            ));
        }
        (None, Some(_)) => {
            return Err(ConvertError::new(
                "SetNodeStatus",
                "port",
                Problem::Without("addr"),
            ));
        }
    };
    Ok(Op::SetNodeStatus {
        id: NodeId(ids::read("SetNodeStatus", "id", &set.id)?),
        status: need("SetNodeStatus", "status", set.status)?.try_into()?,
        description: set.description.map(TryInto::try_into).transpose()?,
        addr,
    })
}
