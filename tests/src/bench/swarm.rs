//! Docker Swarm as one of the two: a dockerd on each node of a bare lab, all managers.

use std::{
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::load::{self, Call};
use super::writes::Writes;
use super::{COMMAND, IMAGE, NODES, System, Task, http, memory, number_of};
use crate::{Lab, Node, lab::daemon, places, procfs, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const API: &str = "/v1.41";
const CREATE: &str = "/v1.41/services/create";

/// Runs dockerd in the node. Where the node keeps clusterd's files it keeps dockerd's, so that they go
/// with the lab; likewise the cgroups.
const DOCKERD: &str = "mkdir -p /run/docker /var/lib/clusterd/docker
mount -t tmpfs docker /run/docker
exec dockerd --data-root /var/lib/clusterd/docker --exec-root /run/docker \
    --pidfile /run/docker/dockerd.pid -H unix:///run/docker/docker.sock \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /clusterd.docker";

/// Three dockerds.
pub struct Swarm {
    lab: Lab,
    daemons: Vec<Child>,
    network: String,
}

impl Swarm {
    /// Starts the daemons, makes the Swarm, loads the image and makes the network.
    pub fn up(bin_dir: PathBuf) -> Result<Self> {
        let lab = Lab::builder()
            .nodes(NODES)
            .start(false)
            .bin_dir(bin_dir)
            .up()?;
        let mut swarm = Self {
            lab,
            daemons: vec![],
            network: String::new(),
        };
        swarm.start()?;
        Ok(swarm)
    }

    fn start(&mut self) -> Result<()> {
        for node in self.lab.nodes() {
            let log = std::fs::File::create(daemon::log_path(self.lab.record(), node.name())?)?;
            let mut command = node.command(["setsid", "sh", "-ec", DOCKERD])?;
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            self.daemons.push(
                command
                    .spawn()
                    .context("cannot start dockerd: run tests/deps bench")?,
            );
        }
        let image = std::fs::read(places::image("busybox")?)?;
        for node in self.lab.nodes() {
            let socket = socket(node)?;
            wait_for(format!("dockerd of {} answers", node.name()), LIMIT, || {
                http::send(&socket, "GET", "/_ping", "text/plain", b"").map(|_| true)
            })
            .with_context(|| node.log_tail(20))?;
            http::send(
                &socket,
                "POST",
                "/v1.41/images/load?quiet=1",
                "application/x-tar",
                &image,
            )?;
        }
        self.join()?;
        let network = json!({"Name": "bench", "Driver": "overlay", "CheckDuplicate": true,
            "IPAM": {"Config": [{"Subnet": "10.77.0.0/16"}]}});
        let made = self.call(1, "POST", "/networks/create", Some(&network))?;
        self.network = made["Id"]
            .as_str()
            .context("the network has no id")?
            .to_owned();
        Ok(())
    }

    fn join(&self) -> Result<()> {
        let first = self.lab.node(1).address().to_string();
        let init = json!({"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": first});
        self.call(1, "POST", "/swarm/init", Some(&init))?;
        let token = self.call(1, "GET", "/swarm", None)?["JoinTokens"]["Manager"].clone();
        for number in 2..=NODES {
            let own = self.lab.node(number).address().to_string();
            let join = json!({"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": own, "JoinToken": token,
                "RemoteAddrs": [format!("{first}:2377")]});
            self.call(number, "POST", "/swarm/join", Some(&join))?;
        }
        self.wait_ready()
    }

    fn call(&self, number: usize, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        http::call(
            &socket(self.lab.node(number))?,
            method,
            &format!("{API}{path}"),
            body,
        )
    }

    fn create_empty(&self, through: usize, service: &str) -> Result<()> {
        self.call(through, "POST", "/services/create", Some(&empty(service)))
            .map(drop)
    }

    fn running_tasks(&self, service: &str) -> Result<Vec<Value>> {
        // {"service":["NAME"],"desired-state":["running"]}
        let filter = format!(
            "%7B%22service%22:%5B%22{service}%22%5D,%22desired-state%22:%5B%22running%22%5D%7D"
        );
        let tasks = self.call(1, "GET", &format!("/tasks?filters={filter}"), None)?;
        let all = tasks.as_array().cloned().unwrap_or_default();
        Ok(all
            .into_iter()
            .filter(|t| t["Status"]["State"] == "running")
            .collect())
    }

    /// The pids of processes of this name's beginning, by node.
    fn processes(&self, begins: &[&str]) -> Result<Vec<Vec<i32>>> {
        let all = procfs::processes()?;
        let mut found = Vec::new();
        for node in self.lab.nodes() {
            let space = procfs::namespace(node.holder_pid()?, "mnt");
            let inside = all
                .iter()
                .filter(|p| begins.iter().any(|b| p.command.starts_with(b)));
            let inside =
                inside.filter(|p| procfs::namespace(p.id.pid, "mnt") == space && p.state != 'Z');
            found.push(inside.map(|p| p.id.pid).collect());
        }
        Ok(found)
    }
}

impl System for Swarm {
    fn name(&self) -> &'static str {
        "swarm"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn deploy(&self, service: &str, replicas: usize, node: Option<&str>) -> Result<()> {
        let constraints: Vec<String> = node.iter().map(|n| format!("node.hostname=={n}")).collect();
        // DNS round robin: the virtual addresses need the kernel's IPVS, which not every machine has.
        let spec = json!({
            "Name": service,
            "TaskTemplate": {
                "ContainerSpec": {"Image": IMAGE, "Command": COMMAND},
                "Networks": [{"Target": self.network}],
                "Placement": {"Constraints": constraints},
            },
            "Mode": {"Replicated": {"Replicas": replicas}},
            "EndpointSpec": {"Mode": "dnsrr"},
        });
        self.call(1, "POST", "/services/create", Some(&spec))
            .map(drop)
    }

    fn dns_name(&self, service: &str) -> String {
        service.to_owned()
    }

    fn running(&self, service: &str) -> Result<usize> {
        Ok(self.running_tasks(service)?.len())
    }

    fn tasks(&self, service: &str) -> Result<Vec<Task>> {
        let nodes = self.call(1, "GET", "/nodes", None)?;
        let mut tasks = Vec::new();
        for row in self.running_tasks(service)? {
            let node = nodes
                .as_array()
                .into_iter()
                .flatten()
                .find(|n| n["ID"] == row["NodeID"]);
            let node = node.and_then(|n| n["Description"]["Hostname"].as_str());
            tasks.push(
                task(&row, node)
                    .with_context(|| format!("a running task lacks something: {row}"))?,
            );
        }
        Ok(tasks)
    }

    fn remove(&self, service: &str) -> Result<()> {
        self.call(1, "DELETE", &format!("/services/{service}"), None)
            .map(drop)
    }

    fn containers(&self) -> Result<usize> {
        let mut count = 0;
        for number in 1..=NODES {
            count += self
                .call(number, "GET", "/containers/json?all=1", None)?
                .as_array()
                .map_or(0, Vec::len);
        }
        Ok(count)
    }

    fn daemons_mib(&self) -> Result<Vec<f64>> {
        let daemons = self.processes(&["dockerd", "containerd"])?;
        let shims = self.shims()?;
        let sum = |pids: Vec<i32>| {
            pids.iter()
                .filter(|p| !shims.contains(p))
                .map(|p| memory::resident_mib(*p))
                .sum()
        };
        daemons.into_iter().map(sum).collect()
    }

    fn leader(&self) -> Result<usize> {
        let nodes = self.call(1, "GET", "/nodes", None)?;
        let leader = nodes
            .as_array()
            .into_iter()
            .flatten()
            .find(|n| n["ManagerStatus"]["Leader"] == true);
        let name = leader.and_then(|n| n["Description"]["Hostname"].as_str());
        number_of(&self.lab, name.context("no node leads")?)
    }

    fn write(&self, through: usize, service: &str) -> bool {
        self.create_empty(through, service).is_ok()
    }

    fn writes(&self, prefix: &str, clients: usize, count: usize) -> Result<Writes> {
        let socket = socket(self.lab.node(self.leader()?))?;
        let bodies = (0..count)
            .map(|number| empty(&format!("{prefix}{number}")).to_string().into())
            .collect();
        load::run(&socket, Call::Json(CREATE), clients, bodies)
    }

    fn many_clients(&self) -> usize {
        16
    }

    fn kill(&self, number: usize) -> Result<()> {
        let node = number.checked_sub(1).context("nodes count from 1")?;
        for pid in self
            .processes(&["dockerd"])?
            .get(node)
            .into_iter()
            .flatten()
        {
            procfs::ProcessId::of(*pid)?.signal(libc::SIGKILL)?;
        }
        Ok(())
    }

    fn revive(&self, _number: usize) -> Result<bool> {
        // Its containerd and containers are without it now: one kill is one figure.
        Ok(false)
    }

    fn wait_ready(&self) -> Result<()> {
        wait_for("all nodes of the Swarm are ready", LIMIT, || {
            let nodes = self.call(1, "GET", "/nodes", None)?;
            let ready = nodes
                .as_array()
                .into_iter()
                .flatten()
                .filter(|n| n["Status"]["State"] == "ready");
            Ok(ready.count() == NODES)
        })
    }

    fn shims(&self) -> Result<Vec<i32>> {
        Ok(self.processes(&["containerd-shim"])?.concat())
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        // Gently first: dockerd takes its containers along. The lab removes what is left.
        for pids in self.processes(&["dockerd"]).unwrap_or_default() {
            for id in pids
                .into_iter()
                .filter_map(|pid| procfs::ProcessId::of(pid).ok())
            {
                let _ = id.signal(libc::SIGTERM);
            }
        }
        for child in &mut self.daemons {
            let ended = wait_for("dockerd ends", Duration::from_secs(20), || {
                Ok(child.try_wait()?.is_some())
            });
            if ended.is_err() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        // The folder it was mounted on; refused while the machine's own Docker has something in it.
        let _ = std::fs::remove_dir("/run/docker");
        for root in crate::lab::cgroup_roots() {
            let _ = std::fs::remove_dir(root.join("clusterd.docker"));
        }
    }
}

/// A service without tasks.
fn empty(name: &str) -> Value {
    json!({"Name": name, "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {"ContainerSpec": {"Image": IMAGE, "Command": COMMAND}}})
}

fn socket(node: Node<'_>) -> Result<PathBuf> {
    Ok(format!("/proc/{}/root/run/docker/docker.sock", node.holder_pid()?).into())
}

fn task(row: &Value, node: Option<&str>) -> Option<Task> {
    let addresses = row["NetworksAttachments"].as_array()?.first()?["Addresses"].as_array()?;
    let address = addresses.first()?.as_str()?.split('/').next()?;
    let at: jiff::Timestamp = row["Status"]["Timestamp"].as_str()?.parse().ok()?;
    Some(Task {
        node: node?.to_owned(),
        pid: i32::try_from(row["Status"]["ContainerStatus"]["PID"].as_i64()?).ok()?,
        address: address.parse().ok()?,
        running_since: at.as_duration().as_secs_f64(),
    })
}
