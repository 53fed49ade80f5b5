//! Nodes.

use super::{ConvertError, Problem, any_port, enum_field, id_bytes, ids, need};
use crate::model::{
    Availability, Node, NodeDescription, NodeId, NodeSpec, NodeState, NodeStatus, Role, Timestamp,
};
use crate::proto;

impl From<&Node> for proto::Node {
    fn from(node: &Node) -> Self {
        Self {
            id: id_bytes(node.id.0),
            meta: Some((&node.meta).into()),
            spec: Some((&node.spec).into()),
            description: Some((&node.description).into()),
            status: Some((&node.status).into()),
            addr: node.addr.into(),
            port: node.port.into(),
        }
    }
}

impl TryFrom<proto::Node> for Node {
    type Error = ConvertError;

    fn try_from(node: proto::Node) -> Result<Self, ConvertError> {
        Ok(Self {
            id: NodeId(ids::read("Node", "id", &node.id)?),
            meta: need("Node", "meta", node.meta)?.into(),
            spec: need("Node", "spec", node.spec)?.try_into()?,
            description: need("Node", "description", node.description)?.try_into()?,
            status: need("Node", "status", node.status)?.try_into()?,
            addr: node.addr.into(),
            port: any_port("Node", "port", node.port)?,
        })
    }
}

impl From<&NodeSpec> for proto::NodeSpec {
    fn from(spec: &NodeSpec) -> Self {
        Self {
            role: proto::Role::from(spec.role).into(),
            availability: proto::Availability::from(spec.availability).into(),
            labels: spec.labels.clone(),
        }
    }
}

impl TryFrom<proto::NodeSpec> for NodeSpec {
    type Error = ConvertError;

    fn try_from(spec: proto::NodeSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            role: enum_field::<proto::Role, _>("NodeSpec", "role", spec.role)?,
            availability: enum_field::<proto::Availability, _>(
                "NodeSpec",
                "availability",
                spec.availability,
            )?,
            labels: spec.labels,
        })
    }
}

impl From<&NodeDescription> for proto::NodeDescription {
    fn from(description: &NodeDescription) -> Self {
        let NodeDescription {
            hostname,
            os,
            arch,
            nano_cpus,
            memory_bytes,
            version,
            engine_labels,
        } = description.clone();
        Self {
            hostname,
            os,
            arch,
            nano_cpus,
            memory_bytes,
            version,
            engine_labels,
        }
    }
}

impl TryFrom<proto::NodeDescription> for NodeDescription {
    type Error = ConvertError;

    /// Never fails today: every value of every field is one that a node may say of itself.
    fn try_from(description: proto::NodeDescription) -> Result<Self, ConvertError> {
        let proto::NodeDescription {
            hostname,
            os,
            arch,
            nano_cpus,
            memory_bytes,
            version,
            engine_labels,
        } = description;
        Ok(Self {
            hostname,
            os,
            arch,
            nano_cpus,
            memory_bytes,
            version,
            engine_labels,
        })
    }
}

impl From<&NodeStatus> for proto::NodeStatus {
    fn from(status: &NodeStatus) -> Self {
        Self {
            state: proto::NodeState::from(status.state).into(),
            message: status.message.clone(),
            since: status.since.0,
        }
    }
}

impl TryFrom<proto::NodeStatus> for NodeStatus {
    type Error = ConvertError;

    fn try_from(status: proto::NodeStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            state: enum_field::<proto::NodeState, _>("NodeStatus", "state", status.state)?,
            message: status.message,
            since: Timestamp(status.since),
        })
    }
}

impl From<Role> for proto::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Worker => Self::Worker,
            Role::Manager => Self::Manager,
        }
    }
}

impl TryFrom<proto::Role> for Role {
    type Error = ConvertError;

    fn try_from(role: proto::Role) -> Result<Self, ConvertError> {
        match role {
            proto::Role::Unspecified => {
                Err(ConvertError::new("Role", "", Problem::Enum(role.into())))
            }
            proto::Role::Worker => Ok(Self::Worker),
            proto::Role::Manager => Ok(Self::Manager),
        }
    }
}

impl From<Availability> for proto::Availability {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Active => Self::Active,
            Availability::Pause => Self::Pause,
            Availability::Drain => Self::Drain,
        }
    }
}

impl TryFrom<proto::Availability> for Availability {
    type Error = ConvertError;

    fn try_from(availability: proto::Availability) -> Result<Self, ConvertError> {
        match availability {
            proto::Availability::Unspecified => Err(ConvertError::new(
                "Availability",
                "",
                Problem::Enum(availability.into()),
            )),
            proto::Availability::Active => Ok(Self::Active),
            proto::Availability::Pause => Ok(Self::Pause),
            proto::Availability::Drain => Ok(Self::Drain),
        }
    }
}

impl From<NodeState> for proto::NodeState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Unknown => Self::Unknown,
            NodeState::Ready => Self::Ready,
            NodeState::Down => Self::Down,
        }
    }
}

impl TryFrom<proto::NodeState> for NodeState {
    type Error = ConvertError;

    fn try_from(state: proto::NodeState) -> Result<Self, ConvertError> {
        match state {
            proto::NodeState::Unspecified => Err(ConvertError::new(
                "NodeState",
                "",
                Problem::Enum(state.into()),
            )),
            proto::NodeState::Unknown => Ok(Self::Unknown),
            proto::NodeState::Ready => Ok(Self::Ready),
            proto::NodeState::Down => Ok(Self::Down),
        }
    }
}
