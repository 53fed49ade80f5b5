//! What each task of a service is.

use super::{ConvertError, Problem, all, each, enum_field, id_bytes, ids, need};
use crate::model::{
    Constraint, ContainerSpec, Disconnect, Mount, MountSource, NetworkAttachment, NetworkId,
    Placement, RestartPolicy, TaskTemplate,
};
use crate::proto;

impl From<&TaskTemplate> for proto::TaskTemplate {
    fn from(template: &TaskTemplate) -> Self {
        Self {
            container: Some((&template.container).into()),
            restart: Some((&template.restart).into()),
            constraints: each(&template.placement.constraints),
            networks: each(&template.networks),
            force: template.force,
            blobs: each(&template.blobs),
            disconnect: write_disconnect(template.disconnect),
        }
    }
}

/// The default is what managers before it knew, and is written as they wrote it.
fn write_disconnect(disconnect: Disconnect) -> Option<proto::Disconnect> {
    let Disconnect {
        stop_after_ms,
        exclusive,
    } = disconnect;
    (disconnect != Disconnect::default()).then_some(proto::Disconnect {
        stop_after_ms,
        exclusive,
    })
}

fn read_disconnect(disconnect: Option<proto::Disconnect>) -> Disconnect {
    let proto::Disconnect {
        stop_after_ms,
        exclusive,
    } = disconnect.unwrap_or_default();
    Disconnect {
        stop_after_ms,
        exclusive,
    }
}

impl TryFrom<proto::TaskTemplate> for TaskTemplate {
    type Error = ConvertError;

    fn try_from(template: proto::TaskTemplate) -> Result<Self, ConvertError> {
        Ok(Self {
            container: need("TaskTemplate", "container", template.container)?.try_into()?,
            restart: need("TaskTemplate", "restart", template.restart)?.try_into()?,
            placement: Placement {
                constraints: all(template.constraints)?,
            },
            networks: all(template.networks)?,
            force: template.force,
            blobs: all(template.blobs)?,
            disconnect: read_disconnect(template.disconnect),
        })
    }
}

impl From<&ContainerSpec> for proto::ContainerSpec {
    fn from(container: &ContainerSpec) -> Self {
        let list = |values: &Vec<String>| proto::StringList {
            values: values.clone(),
        };
        Self {
            image: container.image.clone(),
            entrypoint: container.entrypoint.as_ref().map(list),
            command: container.command.as_ref().map(list),
            env: container.env.clone(),
            mounts: each(&container.mounts),
            labels: container.labels.clone(),
        }
    }
}

impl TryFrom<proto::ContainerSpec> for ContainerSpec {
    type Error = ConvertError;

    fn try_from(container: proto::ContainerSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            image: container.image,
            entrypoint: container.entrypoint.map(|list| list.values),
            command: container.command.map(|list| list.values),
            env: container.env,
            mounts: all(container.mounts)?,
            labels: container.labels,
        })
    }
}

impl From<&Mount> for proto::Mount {
    fn from(mount: &Mount) -> Self {
        let source = match &mount.source {
            MountSource::Volume(name) => proto::mount::Source::Volume(name.clone()),
            MountSource::Anonymous => proto::mount::Source::Anonymous(proto::Anonymous {}),
            MountSource::Bind(path) => proto::mount::Source::Bind(path.clone()),
        };
        Self {
            target: mount.target.clone(),
            read_only: mount.read_only,
            source: Some(source),
        }
    }
}

impl TryFrom<proto::Mount> for Mount {
    type Error = ConvertError;

    fn try_from(mount: proto::Mount) -> Result<Self, ConvertError> {
        let source = match need("Mount", "source", mount.source)? {
            proto::mount::Source::Volume(name) => MountSource::Volume(name),
            proto::mount::Source::Anonymous(proto::Anonymous {}) => MountSource::Anonymous,
            proto::mount::Source::Bind(path) => MountSource::Bind(path),
        };
        Ok(Self {
            source,
            target: mount.target,
            read_only: mount.read_only,
        })
    }
}

impl From<&RestartPolicy> for proto::RestartPolicy {
    fn from(policy: &RestartPolicy) -> Self {
        Self {
            condition: proto::RestartCondition::from(policy.condition).into(),
            delay_ms: policy.delay_ms,
            max_attempts: policy.max_attempts,
            window_ms: policy.window_ms,
        }
    }
}

impl TryFrom<proto::RestartPolicy> for RestartPolicy {
    type Error = ConvertError;

    fn try_from(policy: proto::RestartPolicy) -> Result<Self, ConvertError> {
        let condition = enum_field::<proto::RestartCondition, _>(
            "RestartPolicy",
            "condition",
            policy.condition,
        )?;
        Ok(Self {
            condition,
            delay_ms: policy.delay_ms,
            max_attempts: policy.max_attempts,
            window_ms: policy.window_ms,
        })
    }
}

impl From<&Constraint> for proto::Constraint {
    fn from(constraint: &Constraint) -> Self {
        Self {
            key: constraint.key.to_string(),
            equal: constraint.equal,
            value: constraint.value.clone(),
        }
    }
}

impl TryFrom<proto::Constraint> for Constraint {
    type Error = ConvertError;

    /// Takes exactly those that a user could have written.
    fn try_from(wire: proto::Constraint) -> Result<Self, ConvertError> {
        let operator = if wire.equal { "==" } else { "!=" };
        let refuse = |why| ConvertError::new("Constraint", "key", Problem::Text(why));
        let text = format!("{}{operator}{}", wire.key, wire.value);
        let read: Self = text
            .parse()
            .map_err(|e: crate::model::ConstraintError| refuse(e.to_string()))?;
        // The text is split at its first operator; the parts have to be the ones that were sent.
        if read.key.to_string() == wire.key && read.equal == wire.equal && read.value == wire.value
        {
            Ok(read)
        } else {
            Err(refuse(format!(
                "constraint {text:?} can be read in two ways"
            )))
        }
    }
}

impl From<&NetworkAttachment> for proto::NetworkAttachment {
    fn from(attachment: &NetworkAttachment) -> Self {
        Self {
            network: id_bytes(attachment.network.0),
            aliases: attachment.aliases.clone(),
        }
    }
}

impl TryFrom<proto::NetworkAttachment> for NetworkAttachment {
    type Error = ConvertError;

    fn try_from(attachment: proto::NetworkAttachment) -> Result<Self, ConvertError> {
        Ok(Self {
            network: NetworkId(ids::read(
                "NetworkAttachment",
                "network",
                &attachment.network,
            )?),
            aliases: attachment.aliases,
        })
    }
}
