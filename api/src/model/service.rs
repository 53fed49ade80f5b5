//! A service: one container description, run so many times.

use super::{BlobRef, Disconnect, Labels, Meta, NetworkId, ServiceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its identity.
    pub id: ServiceId,
    /// Revision and times.
    pub meta: Meta,
    /// What the user asked for.
    pub spec: ServiceSpec,
    /// The revision at which `spec.template` last changed: the version its tasks run.
    pub template_revision: u64,
    /// Its virtual address on each of its networks; empty in `dnsrr` mode.
    pub vips: BTreeMap<NetworkId, Ipv4Addr>,
}

/// What the user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Unique in the cluster; `stack_name` for a stack's.
    pub name: String,
    /// The stack that owns it.
    pub stack: Option<String>,
    /// Free labels of the service.
    pub labels: Labels,
    /// How many.
    pub mode: ServiceMode,
    /// How its name is answered.
    pub endpoint_mode: EndpointMode,
    /// Ports published on the node where a task runs.
    pub ports: Vec<PublishedPort>,
    /// What each task is.
    pub template: TaskTemplate,
}

/// How many tasks a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceMode {
    /// A wished number.
    Replicated {
        /// That number.
        replicas: u32,
    },
}

impl Default for ServiceMode {
    fn default() -> Self {
        Self::Replicated { replicas: 1 }
    }
}

/// What a service's name resolves to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMode {
    /// One virtual address, balanced.
    #[default]
    Vip,
    /// All its tasks' addresses.
    DnsRr,
}

/// A port of the node that leads to a port of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// On the node; 1 to 65535.
    pub published: u16,
    /// In the container; 1 to 65535.
    pub target: u16,
}

/// A transport.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As written in `80/tcp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What each task of a service is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTemplate {
    /// The container.
    pub container: ContainerSpec,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Where it may run.
    pub placement: Placement,
    /// The networks it is on.
    pub networks: Vec<NetworkAttachment>,
    /// Secrets and configs, as files in the container.
    pub blobs: Vec<BlobRef>,
    /// Raised to have the same template run anew.
    pub force: u64,
    /// What becomes of it when its node is cut off.
    pub disconnect: Disconnect,
}

/// The container of a task. Absent fields are the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Image reference, as the user wrote it.
    pub image: String,
    /// Replaces the image's entrypoint (Compose `entrypoint`); an empty list clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command (Compose `command`).
    pub command: Option<Vec<String>>,
    /// `KEY=value`, added to the image's.
    pub env: Vec<String>,
    /// Volumes and binds.
    pub mounts: Vec<Mount>,
    /// Free labels of the container.
    pub labels: Labels,
}

/// A folder of the node or a volume, seen in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// Not writable.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountSource {
    /// A named volume of the node, made when first used.
    Volume(String),
    /// A volume without a name, gone with the task.
    Anonymous,
    /// An absolute path of the node, which has to be there.
    Bind(String),
}

/// What happens when a task ends. Defaults: always; 100 ms first, doubling to 5 s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub condition: RestartCondition,
    /// A fixed delay, milliseconds; the doubling one when absent.
    pub delay_ms: Option<u64>,
    /// At most so many restarts within the window; no bound when absent.
    pub max_attempts: Option<u32>,
    /// The window in which attempts are counted, milliseconds; for ever when absent.
    pub window_ms: Option<u64>,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay_ms: None,
            max_attempts: None,
            window_ms: None,
        }
    }
}

/// When an ended task is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Never.
    None,
    /// When it failed.
    OnFailure,
    /// Always.
    #[default]
    Any,
}

/// Where a task may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// All have to hold.
    pub constraints: Vec<Constraint>,
}

/// `key == value` or `key != value` over a node. Parsed and checked when the spec is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Which attribute of the node.
    pub key: ConstraintKey,
    /// `==` when true, `!=` when false.
    pub equal: bool,
    /// The value compared with; for `node.ip` an address or a subnet.
    pub value: String,
}

/// An attribute of a node that constraints know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConstraintKey {
    /// `node.id`
    NodeId,
    /// `node.hostname`
    Hostname,
    /// `node.ip`
    Ip,
    /// `node.role`
    Role,
    /// `node.platform.os`
    Os,
    /// `node.platform.arch`
    Arch,
    /// `node.labels.KEY`
    NodeLabel(String),
    /// `engine.labels.KEY`
    EngineLabel(String),
}

impl std::fmt::Display for ConstraintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NodeId => f.write_str("node.id"),
            Self::Hostname => f.write_str("node.hostname"),
            Self::Ip => f.write_str("node.ip"),
            Self::Role => f.write_str("node.role"),
            Self::Os => f.write_str("node.platform.os"),
            Self::Arch => f.write_str("node.platform.arch"),
            Self::NodeLabel(key) => write!(f, "node.labels.{key}"),
            Self::EngineLabel(key) => write!(f, "engine.labels.{key}"),
        }
    }
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}{}{}",
            self.key,
            if self.equal { "==" } else { "!=" },
            self.value
        )
    }
}

/// A constraint that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("constraint {text:?}: {reason}")]
pub struct ConstraintError {
    text: String,
    reason: String,
}

impl std::str::FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        let error = |reason: String| ConstraintError {
            text: text.into(),
            reason,
        };
        let (left, equal, right) = if let Some((l, r)) = text.split_once("==") {
            (l, true, r)
        } else if let Some((l, r)) = text.split_once("!=") {
            (l, false, r)
        } else {
            return Err(error("write it KEY==VALUE or KEY!=VALUE".into()));
        };
        let (key, value) = (left.trim(), right.trim());
        if value.is_empty() {
            return Err(error("the value is empty".into()));
        }
        let key = match key {
            "node.id" => ConstraintKey::NodeId,
            "node.hostname" => ConstraintKey::Hostname,
            "node.ip" => {
                if value.parse::<ipnet::Ipv4Net>().is_err() && value.parse::<Ipv4Addr>().is_err() {
                    return Err(error(format!("{value:?} is no IPv4 address or subnet")));
                }
                ConstraintKey::Ip
            }
            "node.role" => {
                if value != "manager" && value != "worker" {
                    return Err(error(format!("a role is manager or worker, not {value:?}")));
                }
                ConstraintKey::Role
            }
            "node.platform.os" => ConstraintKey::Os,
            "node.platform.arch" => ConstraintKey::Arch,
            _ => match (
                key.strip_prefix("node.labels."),
                key.strip_prefix("engine.labels."),
            ) {
                (Some(label), _) if !label.is_empty() => ConstraintKey::NodeLabel(label.into()),
                (_, Some(label)) if !label.is_empty() => ConstraintKey::EngineLabel(label.into()),
                _ => {
                    return Err(error(format!(
                        "unknown key {key:?}; known are node.id, node.hostname, node.ip, node.role, \
                         node.platform.os, node.platform.arch, node.labels.KEY, engine.labels.KEY"
                    )));
                }
            },
        };
        Ok(Self {
            key,
            equal,
            value: value.into(),
        })
    }
}

/// A network a task is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// Which.
    pub network: NetworkId,
    /// Further names of the service on it.
    pub aliases: Vec<String>,
}
