//! What the agent asks for: one task's network.

use crate::{NetworkId, TaskId};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, os::fd::OwnedFd, path::PathBuf};

/// Transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the node that leads to a port of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Transport.
    pub protocol: Protocol,
    /// Port on the node, not 0.
    pub published: u16,
    /// Port in the task, not 0.
    pub target: u16,
}

/// A task's place on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network; must be in the view when the task is attached.
    pub network: NetworkId,
    /// The task's address, inside the network's subnet.
    pub addr: Ipv4Addr,
    /// Further names by which this very task finds itself there.
    pub aliases: Vec<String>,
}

/// All networking of one local task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskNet {
    /// The task.
    pub id: TaskId,
    /// The container's host name.
    pub hostname: String,
    /// The task's own names, such as `shop_redis.1` and `shop_redis.1.<task id>`.
    pub names: Vec<String>,
    /// Networks in order: `eth0`, `eth1`, …
    pub networks: Vec<Attachment>,
    /// Ports published on this node.
    pub ports: Vec<PublishedPort>,
}

/// An attached task.
#[derive(Debug)]
pub struct Attached {
    /// Mount point of the task's network namespace.
    pub netns: PathBuf,
    /// Duplicates of the resolver's sockets (UDP, then TCP listener on 127.0.0.11:53). Whoever holds
    /// them keeps queries queued while the daemon is down; hand them back to `adopt`.
    pub dns_fds: Vec<OwnedFd>,
    /// The task's address on this node's own gateway bridge.
    pub gateway_addr: Ipv4Addr,
}
