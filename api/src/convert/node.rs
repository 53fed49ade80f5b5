//! Nodes.

use super::{ConvertError, any_port, enum_field, id_bytes, ids, need};
use crate::model::{Node, NodeCert, NodeDescription, NodeId, NodeSpec, NodeStatus, Timestamp};
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
            cert: Some((&node.cert).into()),
        }
    }
}

impl TryFrom<proto::Node> for Node {
    type Error = ConvertError;

    fn try_from(node: proto::Node) -> Result<Self, ConvertError> {
        let id = NodeId(ids::read("Node", "id", &node.id)?);
        let meta = need("Node", "meta", node.meta)?.into();
        let spec: NodeSpec = need("Node", "spec", node.spec)?.try_into()?;
        let cert = match node.cert {
            Some(cert) => cert.try_into()?,
            // Of a version that kept none: it is what it shall be.
            None => NodeCert {
                role: spec.role,
                ..NodeCert::default()
            },
        };
        Ok(Self {
            id,
            meta,
            spec,
            description: need("Node", "description", node.description)?.try_into()?,
            status: need("Node", "status", node.status)?.try_into()?,
            addr: node.addr.into(),
            port: any_port("Node", "port", node.port)?,
            cert,
        })
    }
}

impl From<&NodeCert> for proto::NodeCert {
    fn from(cert: &NodeCert) -> Self {
        Self {
            role: proto::Role::from(cert.role).into(),
            key_digest: cert.key_digest.clone(),
            issuer: cert.issuer.clone(),
            not_after: cert.not_after.0,
        }
    }
}

impl TryFrom<proto::NodeCert> for NodeCert {
    type Error = ConvertError;

    fn try_from(cert: proto::NodeCert) -> Result<Self, ConvertError> {
        Ok(Self {
            role: enum_field::<proto::Role, _>("NodeCert", "role", cert.role)?,
            key_digest: cert.key_digest,
            issuer: cert.issuer,
            not_after: Timestamp(cert.not_after),
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
            silent_ms: status.silent_ms,
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
            silent_ms: status.silent_ms,
        })
    }
}
