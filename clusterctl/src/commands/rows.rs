//! The rows of lists, as JSON prints them: the model's objects, with what was counted beside them.

use super::status::trouble::clock_ahead;
use anyhow::{Context, Result};
use api::model::{Network, Node, Service, ServiceMode, Stack, Task};
use api::proto;
use serde::Serialize;

#[derive(Serialize)]
pub struct NodeRow {
    #[serde(flatten)]
    pub node: Node,
    pub leader: bool,
    pub reachable: bool,
    pub voter: bool,
    pub manager: bool,
    pub tasks: u32,
    /// It is ready, and has missed some heartbeats.
    pub suspect: bool,
    /// The address of a second machine that has its identity.
    pub twin: Option<String>,
    /// How far its clock is ahead of the leader's, where that is known to be too much; behind, below 0.
    pub clock_ahead_ms: Option<i64>,
}

impl TryFrom<proto::NodeRow> for NodeRow {
    type Error = anyhow::Error;
    fn try_from(row: proto::NodeRow) -> Result<Self> {
        let node = row
            .node
            .context("clusterd sent a node without its object")?
            .try_into()?;
        Ok(Self {
            node,
            leader: row.leader,
            reachable: row.reachable,
            voter: row.voter,
            manager: row.manager,
            tasks: row.tasks,
            suspect: row.suspect,
            twin: Some(row.twin).filter(|addr| !addr.is_empty()),
            clock_ahead_ms: clock_ahead(row.clock_ahead_ms),
        })
    }
}

#[derive(Serialize)]
pub struct NetworkRow {
    #[serde(flatten)]
    pub network: Network,
    pub services: Vec<String>,
    pub addresses: u32,
}

impl TryFrom<proto::NetworkRow> for NetworkRow {
    type Error = anyhow::Error;
    fn try_from(row: proto::NetworkRow) -> Result<Self> {
        let network = row
            .network
            .context("clusterd sent a network without its object")?
            .try_into()?;
        Ok(Self {
            network,
            services: row.services,
            addresses: row.addresses,
        })
    }
}

#[derive(Serialize)]
pub struct StackRow {
    #[serde(flatten)]
    pub stack: Stack,
    pub services: u32,
    pub networks: u32,
}

impl TryFrom<proto::StackRow> for StackRow {
    type Error = anyhow::Error;
    fn try_from(row: proto::StackRow) -> Result<Self> {
        let stack = row
            .stack
            .context("clusterd sent a stack without its object")?
            .try_into()?;
        Ok(Self {
            stack,
            services: row.services,
            networks: row.networks,
        })
    }
}

#[derive(Serialize)]
pub struct ServiceRow {
    #[serde(flatten)]
    pub service: Service,
    pub running: u32,
    pub wanted: u32,
    pub networks: Vec<String>,
}

impl TryFrom<proto::ServiceRow> for ServiceRow {
    type Error = anyhow::Error;
    fn try_from(row: proto::ServiceRow) -> Result<Self> {
        let service = row
            .service
            .context("clusterd sent a service without its object")?
            .try_into()?;
        Ok(Self {
            service,
            running: row.running,
            wanted: row.wanted,
            networks: row.networks,
        })
    }
}

impl ServiceRow {
    /// As `service ls` writes it.
    pub fn mode(&self) -> &'static str {
        match self.service.spec.mode {
            ServiceMode::Replicated { .. } => "replicated",
        }
    }

    /// `*:5000->5000/tcp`
    pub fn ports(&self) -> String {
        crate::output::join(
            self.service
                .spec
                .ports
                .iter()
                .map(|p| format!("*:{}->{}/{}", p.published, p.target, p.protocol.as_str())),
        )
    }
}

#[derive(Serialize)]
pub struct TaskRow {
    pub name: String,
    pub image: String,
    /// Hostname; absent before it has a node.
    pub hostname: Option<String>,
    #[serde(flatten)]
    pub task: Task,
}

impl TryFrom<proto::TaskRow> for TaskRow {
    type Error = anyhow::Error;
    fn try_from(row: proto::TaskRow) -> Result<Self> {
        let task = row
            .task
            .context("clusterd sent a task without its object")?
            .try_into()?;
        let hostname = Some(row.node).filter(|name| !name.is_empty());
        Ok(Self {
            name: row.name,
            image: row.image,
            hostname,
            task,
        })
    }
}

/// All rows of a reply.
///
/// # Errors
/// When one is not what the wire promises.
pub fn all<P, T: TryFrom<P, Error = anyhow::Error>>(rows: Vec<P>) -> Result<Vec<T>> {
    rows.into_iter().map(T::try_from).collect()
}
