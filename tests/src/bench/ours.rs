//! This project as one of the two.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::writes::{self, Writes};
use super::{COMMAND, IMAGE, NODES, System, Task, memory, number_of};
use crate::{Lab, lab::daemon, places, procfs, run, wait_for};

const NETWORK: &str = "bench";
/// Each service is the only one of a stack of its name; this is its name there.
const SERVICE: &str = "t";
const LIMIT: Duration = Duration::from_secs(60);
/// How long one try to write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// Three nodes, all managers.
pub struct Ours {
    lab: Lab,
}

impl Ours {
    /// Makes the cluster, loads the image and makes the network.
    pub fn up(bin_dir: PathBuf) -> Result<Self> {
        let lab = Lab::builder()
            .nodes(NODES)
            .managers(NODES)
            .bin_dir(bin_dir)
            .up()?;
        let image = places::image("busybox")?.display().to_string();
        for node in lab.nodes() {
            node.run_ok(["clusterctl", "image", "load", "-i", &image])?;
        }
        lab.node(1)
            .run_ok(["clusterctl", "network", "create", "-d", "overlay", NETWORK])?;
        Ok(Self { lab })
    }

    fn json(&self, words: &[&str]) -> Result<Vec<Value>> {
        let all = ["clusterctl"]
            .iter()
            .chain(words)
            .chain(&["--format", "json"]);
        let value = self.lab.node(1).run_json(all.copied())?;
        value
            .as_array()
            .cloned()
            .with_context(|| format!("{words:?} printed no list"))
    }
}

impl System for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn deploy(&self, service: &str, replicas: usize, node: Option<&str>) -> Result<()> {
        let mut deploy = json!({"replicas": replicas});
        if let Some(node) = node {
            deploy["placement"] = json!({"constraints": [format!("node.hostname=={node}")]});
        }
        // JSON is YAML.
        let file = json!({
            "services": {SERVICE: {
                "image": IMAGE, "command": COMMAND, "networks": [NETWORK], "deploy": deploy,
            }},
            "networks": {NETWORK: {"external": true}},
        });
        let words = ["clusterctl", "deploy", "--detach", "-c", "-", service];
        let mut command = self.lab.node(1).command(words)?;
        run::bounded(&mut command, file.to_string().as_bytes(), LIMIT)?
            .checked()
            .map(drop)
    }

    fn dns_name(&self, service: &str) -> String {
        format!("{service}_{SERVICE}")
    }

    fn running(&self, service: &str) -> Result<usize> {
        let name = self.dns_name(service);
        let all = self.json(&["service", "ls"])?;
        let row = all
            .iter()
            .find(|row| row.pointer("/spec/name").and_then(Value::as_str) == Some(&name));
        let running = row
            .and_then(|row| row.get("running"))
            .and_then(Value::as_u64);
        Ok(usize::try_from(running.with_context(|| {
            format!("service {name} is not listed")
        })?)?)
    }

    fn tasks(&self, service: &str) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for row in self.json(&["service", "ps", &self.dns_name(service)])? {
            if row.pointer("/status/state").and_then(Value::as_str) == Some("running") {
                tasks.push(
                    task(&row).with_context(|| format!("a running task lacks something: {row}"))?,
                );
            }
        }
        Ok(tasks)
    }

    fn remove(&self, service: &str) -> Result<()> {
        self.lab
            .node(1)
            .run_ok(["clusterctl", "stack", "rm", "--detach", service])
            .map(drop)
    }

    fn containers(&self) -> Result<usize> {
        Ok(self.shims()?.len())
    }

    fn daemons_mib(&self) -> Result<Vec<f64>> {
        let record = self.lab.record();
        let mut all = Vec::new();
        for node in &record.nodes {
            let daemon = daemon::running(record, &node.name)?;
            all.push(memory::resident_mib(
                daemon
                    .with_context(|| format!("no clusterd on {}", node.name))?
                    .pid,
            )?);
        }
        Ok(all)
    }

    fn leader(&self) -> Result<usize> {
        let nodes = self.json(&["node", "ls"])?;
        let leads = |row: &&Value| row.get("leader").and_then(Value::as_bool) == Some(true);
        let name = nodes
            .iter()
            .find(leads)
            .and_then(|row| row.pointer("/description/hostname")?.as_str());
        number_of(&self.lab, name.context("no node leads")?)
    }

    fn write(&self, through: usize, service: &str) -> bool {
        let file = json!({"services": {SERVICE: {
            "image": IMAGE, "command": COMMAND, "deploy": {"replicas": 0},
        }}});
        let words = ["clusterctl", "deploy", "--detach", "-c", "-", service];
        self.lab
            .node(through)
            .command(words)
            .is_ok_and(|mut command| {
                run::bounded(&mut command, file.to_string().as_bytes(), WRITE_LIMIT)
                    .is_ok_and(|output| output.status.success())
            })
    }

    fn writes(&self, prefix: &str, clients: usize, count: usize) -> Result<Writes> {
        let holder = self.lab.node(self.leader()?).holder_pid()?;
        let socket = format!("/proc/{holder}/root/run/clusterd/clusterd.sock");
        writes::to_clusterd(socket.as_ref(), prefix, clients, count)
    }

    fn many_clients(&self) -> usize {
        64
    }

    fn kill(&self, number: usize) -> Result<()> {
        self.lab.node(number).kill()
    }

    fn revive(&self, number: usize) -> Result<bool> {
        self.lab.node(number).start()?;
        self.wait_ready()?;
        wait_for("all managers can be reached", LIMIT, || {
            let nodes = self.json(&["node", "ls"])?;
            let reached = |row: &Value| row.get("reachable").and_then(Value::as_bool) == Some(true);
            Ok(nodes.iter().all(reached))
        })?;
        Ok(true)
    }

    fn wait_ready(&self) -> Result<()> {
        self.lab.wait_ready()
    }

    fn shims(&self) -> Result<Vec<i32>> {
        // All that runs clusterd's program in a node but the daemons: shims are the daemon run again.
        let record = self.lab.record();
        let mut daemons = Vec::new();
        let mut spaces = Vec::new();
        for node in &record.nodes {
            daemons.extend(daemon::running(record, &node.name)?.map(|id| id.pid));
            spaces.extend(node.holder.and_then(|h| procfs::namespace(h.pid, "mnt")));
        }
        let program = record.bin_dir.join("clusterd");
        let mut shims = Vec::new();
        for process in procfs::processes()? {
            let pid = process.id.pid;
            let runs =
                std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
            let inside = procfs::namespace(pid, "mnt").is_some_and(|space| spaces.contains(&space));
            if runs && inside && !daemons.contains(&pid) && process.state != 'Z' {
                shims.push(pid);
            }
        }
        Ok(shims)
    }
}

fn task(row: &Value) -> Option<Task> {
    let at = row.pointer("/status/at")?.as_i64()?;
    Some(Task {
        node: row.get("hostname")?.as_str()?.to_owned(),
        pid: i32::try_from(row.pointer("/status/pid")?.as_i64()?).ok()?,
        address: row.pointer("/addresses/0/addr")?.as_str()?.parse().ok()?,
        running_since: std::time::Duration::from_millis(u64::try_from(at).ok()?).as_secs_f64(),
    })
}
