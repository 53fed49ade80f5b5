//! TCP between network namespaces, and a VXLAN made by hand to compare an overlay with.

use std::{
    fs,
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::{Lab, run, wait_for};

/// Seconds one measurement lasts.
const SECONDS: u32 = 3;
const PORT: u16 = 5201;

/// Lets a command run in the network namespace of a process.
pub fn in_network_of(command: &mut Command, pid: i32) -> Result<&mut Command> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
    // SAFETY: setns is one system call on a descriptor opened before; nothing is allocated or locked
    // between fork and exec.
    unsafe {
        command.pre_exec(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)
        });
    }
    Ok(command)
}

/// One TCP stream from one process's network to an address in another's, in Gbit/s as received.
pub fn throughput_gbit(client_pid: i32, server_pid: i32, address: &str) -> Result<f64> {
    let mut server = Command::new("iperf3");
    server
        .args(["-s", "-1", "-p", &PORT.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut server = in_network_of(&mut server, server_pid)?
        .spawn()
        .context("iperf3 is needed: run tests/deps bench")?;
    let measure = || -> Result<f64> {
        wait_for("iperf3 listens", Duration::from_secs(10), || {
            Ok(listens(server_pid))
        })?;
        let mut client = Command::new("iperf3");
        client.args([
            "-c",
            address,
            "-p",
            &PORT.to_string(),
            "-t",
            &SECONDS.to_string(),
            "-J",
        ]);
        let limit = Duration::from_secs(u64::from(SECONDS) + 20);
        let output =
            run::bounded(in_network_of(&mut client, client_pid)?, b"", limit)?.checked()?;
        let json: Value = serde_json::from_str(&output.stdout)?;
        let bits = json
            .pointer("/end/sum_received/bits_per_second")
            .and_then(Value::as_f64);
        Ok(bits.with_context(|| format!("iperf3 gave no figure: {}", output.stdout))? / 1e9)
    };
    let measured = measure();
    let ended = measured.is_ok()
        && wait_for("iperf3 ends", Duration::from_secs(5), || {
            Ok(server.try_wait()?.is_some())
        })
        .is_ok();
    if !ended {
        server.kill()?;
    }
    server.wait()?;
    let mut said = String::new();
    if let Some(mut pipe) = server.stderr.take() {
        pipe.read_to_string(&mut said)?;
    }
    measured.with_context(|| format!("from the network of {client_pid} to {address}: {said}"))
}

/// Whether somebody listens on the port in the network of this process.
fn listens(pid: i32) -> bool {
    let port = format!(":{PORT:04X}");
    ["tcp", "tcp6"].iter().any(|kind| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{kind}")).unwrap_or_default();
        text.lines().any(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("0A")
        })
    })
}

/// A VXLAN between node1 and node2 as one would make it with `ip`: in each node a namespace with a
/// bridge and the VXLAN port, and one with an end of a veth, as a container has it.
pub struct ByHand {
    pids: [i32; 2],
    keepers: Vec<std::process::Child>,
}

impl ByHand {
    /// The address in the second node's namespace.
    pub const SERVER: &'static str = "10.250.0.2";

    /// Makes it.
    pub fn make(lab: &Lab) -> Result<Self> {
        let mut hand = Self {
            pids: [0; 2],
            keepers: vec![],
        };
        for number in [1, 2] {
            let (node, peer) = (lab.node(number), lab.node(3 - number));
            // Another port than either system's, and its own bridge: nothing of theirs is touched.
            let script = format!(
                "set -e
                ip netns add handbr; ip netns add hand
                ip link add hvx mtu 1450 type vxlan id 4242 dstport 4790 local {own} dev eth0 nolearning
                ip link set hvx netns handbr
                ip -n handbr link add br0 mtu 1450 type bridge
                ip -n handbr link set hvx master br0
                ip -n handbr link add v0 mtu 1450 type veth peer name eth0 mtu 1450 netns hand
                ip -n handbr link set v0 master br0
                for l in hvx br0 v0; do ip -n handbr link set $l up; done
                ip netns exec handbr bridge fdb append 00:00:00:00:00:00 dev hvx dst {peer}
                ip -n hand addr add 10.250.0.{number}/24 dev eth0
                ip -n hand link set lo up; ip -n hand link set eth0 up",
                own = node.address(),
                peer = peer.address(),
            );
            node.run_ok(["sh", "-c", &script])?;
            // A process in it, to name the namespace by.
            let mut keeper =
                node.command(["nsenter", "--net=/run/netns/hand", "sleep", "1000000"])?;
            let keeper = keeper.stdin(Stdio::null()).spawn()?;
            let pid = i32::try_from(keeper.id())?;
            let outside = crate::procfs::namespace(node.holder_pid()?, "net");
            hand.keepers.push(keeper);
            hand.pids[number - 1] = pid;
            wait_for("nsenter is inside", Duration::from_secs(10), || {
                let own = crate::procfs::namespace(i32::try_from(std::process::id())?, "net");
                let now = crate::procfs::namespace(pid, "net");
                Ok(now.is_some() && now != outside && now != own)
            })?;
        }
        if hand.keepers.len() != 2 {
            bail!("the VXLAN made by hand lacks an end");
        }
        Ok(hand)
    }

    /// One TCP stream across it, Gbit/s.
    pub fn throughput_gbit(&self) -> Result<f64> {
        throughput_gbit(self.pids[0], self.pids[1], Self::SERVER)
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for keeper in &mut self.keepers {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}
