//! What a lab is doing.

use anyhow::Result;
use serde::Serialize;

use super::{daemon, record::Record};
use crate::procfs::ProcessId;

/// A lab as `lab status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub subnet: String,
    /// Its folder.
    pub dir: String,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
}

/// A node as `lab status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// `manager` or `worker`, as it was made.
    pub role: &'static str,
    /// Whether its namespaces are there.
    pub up: bool,
    /// The pid of its clusterd, if that runs.
    pub clusterd: Option<i32>,
    /// Whether clusterd's socket answers.
    pub answers: bool,
}

/// Looks at a lab.
pub fn status(record: &Record) -> Result<Status> {
    let mut nodes = Vec::new();
    for node in &record.nodes {
        nodes.push(NodeStatus {
            name: node.name.clone(),
            address: node.address.to_string(),
            role: if node.manager { "manager" } else { "worker" },
            up: node.holder.as_ref().is_some_and(ProcessId::is_alive),
            clusterd: daemon::running(record, &node.name)?.map(|id| id.pid),
            answers: daemon::answers(record, &node.name),
        });
    }
    Ok(Status {
        name: record.name.clone(),
        subnet: record.subnet.to_string(),
        dir: record.dir()?.display().to_string(),
        nodes,
    })
}
