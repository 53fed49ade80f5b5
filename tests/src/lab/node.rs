//! One node of a lab, as tests use it; and making a cluster of them.

use std::{ffi::OsString, process::Command, time::Duration};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::{
    clock, daemon, deaf, enter,
    links::{self, Cut},
    record::{NodeRecord, Record},
};
use crate::{
    procfs::ProcessId,
    run::{self, Output},
    wait_for,
};

/// What to say to who is not root.
pub const ROOT_HINT: &str = "a lab needs root, for namespaces and links: run it with sudo";

const COMMAND_LIMIT: Duration = Duration::from_secs(120);
const READY_LIMIT: Duration = Duration::from_secs(90);

/// A node.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    record: &'a Record,
    node: &'a NodeRecord,
}

impl<'a> Node<'a> {
    /// The node of this name.
    pub fn find(record: &'a Record, name: &str) -> Result<Self> {
        Ok(Self {
            record,
            node: record.node(name)?,
        })
    }

    /// `node1`, ...
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.node.name
    }

    /// The address of its eth0.
    #[must_use]
    pub fn address(&self) -> std::net::Ipv4Addr {
        self.node.address
    }

    /// A command that will run in the node; for what [`Node::run`] doesn't do.
    pub fn command<W: Into<OsString>>(
        &self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Command> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        enter::command(self.record, self.name(), &words)
    }

    /// Runs a command in the node, for two minutes at most. A failure is in the output's status.
    pub fn run<W: Into<OsString>>(&self, words: impl IntoIterator<Item = W>) -> Result<Output> {
        run::bounded(&mut self.command(words)?, b"", COMMAND_LIMIT)
            .with_context(|| format!("on {}", self.name()))
    }

    /// Runs a command that has to succeed; its standard output.
    pub fn run_ok<W: Into<OsString>>(&self, words: impl IntoIterator<Item = W>) -> Result<String> {
        let output = self
            .run(words)?
            .checked()
            .with_context(|| format!("on {}", self.name()))?;
        Ok(output.stdout)
    }

    /// Runs a command that has to succeed and print JSON.
    pub fn run_json<W: Into<OsString>>(&self, words: impl IntoIterator<Item = W>) -> Result<Value> {
        let output = self
            .run(words)?
            .checked()
            .with_context(|| format!("on {}", self.name()))?;
        serde_json::from_str(&output.stdout).with_context(|| {
            format!(
                "`{}` printed no JSON but:\n{}",
                output.command, output.stdout
            )
        })
    }

    /// Starts clusterd and waits until its socket answers.
    pub fn start(&self) -> Result<()> {
        daemon::start(self.record, self.name()).map(drop)
    }

    /// Stops clusterd by SIGTERM; its containers go on.
    pub fn stop(&self) -> Result<()> {
        daemon::stop(self.record, self.name())
    }

    /// Kills clusterd by SIGKILL; its containers go on.
    pub fn kill(&self) -> Result<()> {
        daemon::kill(self.record, self.name())
    }

    /// Cuts the node off.
    pub fn cut(&self, how: Cut) -> Result<()> {
        links::cut(self.record, self.name(), how)
    }

    /// Connects it again.
    pub fn heal(&self) -> Result<()> {
        links::heal(self.record, self.name())
    }

    /// Drops whatever comes from these addresses, until it is told others; none lets all through again.
    pub fn hear_nothing_from(&self, addresses: &[std::net::Ipv4Addr]) -> Result<()> {
        deaf::set(self.record, self.name(), addresses)
    }

    /// Makes clusterd's wall clock wrong by so many milliseconds; 0 makes it right. The lab has to have false clocks.
    pub fn set_clock(&self, offset_ms: i64) -> Result<()> {
        clock::set(self.record, self.name(), offset_ms)
    }

    /// The running clusterd, if it runs.
    pub fn clusterd(&self) -> Result<Option<ProcessId>> {
        daemon::running(self.record, self.name())
    }

    /// clusterd's socket, as the machine sees it.
    pub fn socket(&self) -> Result<std::path::PathBuf> {
        Ok(format!("/proc/{}/root{}", self.holder_pid()?, daemon::SOCKET).into())
    }

    /// The file of all that clusterd has printed.
    pub fn log_path(&self) -> Result<std::path::PathBuf> {
        daemon::log_path(self.record, self.name())
    }

    /// The last lines of clusterd's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        daemon::log_tail(self.record, self.name(), lines)
    }

    /// The pid of the process that holds its namespaces, for `/proc/PID/ns` and `/proc/PID/root`.
    pub fn holder_pid(&self) -> Result<i32> {
        Ok(self
            .node
            .holder
            .with_context(|| format!("{} has no holder", self.name()))?
            .pid)
    }
}

/// `init` on node1, `join` on all others, and then until every node is Ready.
pub fn make_cluster(record: &Record, say: &dyn Fn(&str)) -> Result<()> {
    let first = Node::find(record, "node1")?;
    say("node1: clusterctl init");
    first.run_ok([
        "clusterctl",
        "init",
        "--advertise-addr",
        &first.address().to_string(),
    ])?;
    let token = |role: &str| -> Result<String> {
        Ok(first
            .run_ok(["clusterctl", "join-token", role, "-q"])?
            .trim()
            .to_owned())
    };
    let (manager, worker) = (token("manager")?, token("worker")?);
    let target = format!("{}:2377", first.address());
    for record_of_node in &record.nodes[1..] {
        let node = Node::find(record, &record_of_node.name)?;
        let role = if record_of_node.manager {
            "manager"
        } else {
            "worker"
        };
        say(&format!("{}: clusterctl join (as {role})", node.name()));
        let token = if record_of_node.manager {
            &manager
        } else {
            &worker
        };
        node.run_ok(["clusterctl", "join", "--token", token, &target])?;
    }
    say("waiting until all nodes are Ready");
    wait_ready(record)
}

/// Waits until node1's list shows every node Ready.
pub fn wait_ready(record: &Record) -> Result<()> {
    let first = Node::find(record, "node1")?;
    let wanted = record.nodes.len();
    wait_for(format!("{wanted} nodes are Ready"), READY_LIMIT, || {
        let list = first.run_json(["clusterctl", "node", "ls", "--format", "json"])?;
        let states = node_states(&list)?;
        let ready = states.iter().filter(|(_, state)| state == "ready").count();
        if ready == wanted {
            return Ok(true);
        }
        Err(anyhow!("{ready} of {wanted} are: {states:?}"))
    })
}

/// Host name and status of each node in what `clusterctl node ls --format json` printed.
pub fn node_states(list: &Value) -> Result<Vec<(String, String)>> {
    let rows = list.as_array().context("`node ls` printed no JSON list")?;
    let text = |row: &Value, pointer: &str| -> Result<String> {
        let found = row.pointer(pointer).and_then(Value::as_str);
        Ok(found
            .with_context(|| format!("a node without {pointer}: {row}"))?
            .to_owned())
    };
    rows.iter()
        .map(|row| {
            Ok((
                text(row, "/description/hostname")?,
                text(row, "/status/state")?,
            ))
        })
        .collect()
}
