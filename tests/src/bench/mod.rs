//! This project and Docker Swarm, measured side by side on one lab of three nodes.
//!
//! Both run the same image with the same command, are asked over their own API, and are measured in
//! the same run, one after the other: figures of different runs or machines say little.

pub mod figure;
pub mod http;
pub mod load;
pub mod loss;
pub mod measure;
pub mod memory;
pub mod net;
pub mod ours;
pub mod resolve;
pub mod scale;
pub mod swarm;
pub mod writes;

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use crate::Lab;

/// How many nodes; the first is asked.
pub const NODES: usize = 3;

/// The image of all tasks, loaded on every node.
pub const IMAGE: &str = "busybox:1";

/// What all tasks run: nothing, and ending at once when told to.
pub const COMMAND: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"];

/// A running task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Host name of its node.
    pub node: String,
    /// The pid of its first process.
    pub pid: i32,
    /// Its address on the overlay network.
    pub address: Ipv4Addr,
    /// Since when its system calls it running: seconds since 1970.
    pub running_since: f64,
}

/// One of the two systems, on a lab of its own, with the image loaded and one overlay network.
pub trait System {
    /// `ours` or `swarm`.
    fn name(&self) -> &'static str;
    /// Its lab.
    fn lab(&self) -> &Lab;
    /// Asks for a service on the overlay network, on any node or on one; returns once it is accepted.
    fn deploy(&self, service: &str, replicas: usize, node: Option<&str>) -> Result<()>;
    /// By which name others on the network know a service.
    fn dns_name(&self, service: &str) -> String;
    /// How many tasks of a service run, as the system itself says.
    fn running(&self, service: &str) -> Result<usize>;
    /// The running tasks of a service.
    fn tasks(&self, service: &str) -> Result<Vec<Task>>;
    /// Removes a service; returns once that is accepted.
    fn remove(&self, service: &str) -> Result<()>;
    /// How many containers are on all nodes.
    fn containers(&self) -> Result<usize>;
    /// Resident memory of each node's daemons, MiB.
    fn daemons_mib(&self) -> Result<Vec<f64>>;
    /// The pids of the processes that stand between daemon and container.
    fn shims(&self) -> Result<Vec<i32>>;
    /// The number of the node that leads.
    fn leader(&self) -> Result<usize>;
    /// Asks one node for a service without tasks; whether that was accepted, soon.
    fn write(&self, through: usize, service: &str) -> bool;
    /// Makes services without tasks, from some clients at once, each of its own name.
    fn writes(&self, prefix: &str, clients: usize, count: usize) -> Result<writes::Writes>;
    /// Clients at once with which it writes most.
    fn many_clients(&self) -> usize;
    /// Ends a node's daemon by SIGKILL.
    fn kill(&self, number: usize) -> Result<()>;
    /// Starts it again and waits until all is well; false when this system is not brought back.
    fn revive(&self, number: usize) -> Result<bool>;
    /// Waits until all nodes are ready.
    fn wait_ready(&self) -> Result<()>;
}

/// The number of the lab's node of this name.
fn number_of(lab: &Lab, name: &str) -> Result<usize> {
    let index = lab.nodes().position(|node| node.name() == name);
    Ok(index.with_context(|| format!("the lab has no node {name}"))? + 1)
}
