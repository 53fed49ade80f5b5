//! Machines come back with another address: they stay who they are, and what runs on them is reached again.

use anyhow::{Context, Result, ensure};
use cluster_tests::{Lab, Node, places, wait_for};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

/// Gives a node's eth0 another address, its clusterd up or not.
fn readdress(lab: &Lab, node: &Node<'_>, to: Ipv4Addr) -> Result<()> {
    let prefix = lab.record().subnet.prefix_len();
    let host = lab.host_address()?;
    let script = format!(
        "ip addr flush dev eth0 && ip addr add {to}/{prefix} dev eth0 && ip route replace default via {host}"
    );
    node.run_ok(["sh", "-c", &script]).map(drop)
}

/// An address of the lab that no node has yet.
fn free(lab: &Lab, last: u8) -> Ipv4Addr {
    let [a, b, c, _] = lab.record().subnet.network().octets();
    Ipv4Addr::new(a, b, c, last)
}

/// The address and the state of a node, as `node ls` has it.
fn known(at: &Node<'_>, name: &str) -> Result<(String, String)> {
    let rows = at.run_json(["clusterctl", "node", "ls", "--format", "json"])?;
    let rows = rows.as_array().context("no list")?;
    let text = |row: &Value, pointer: &str| {
        let value = row.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let row = rows
        .iter()
        .find(|row| text(row, "/description/hostname") == name)
        .with_context(|| format!("no {name} in {rows:?}"))?;
    Ok((text(row, "/addr"), text(row, "/status/state")))
}

fn is_at(seen_from: &Node<'_>, name: &str, addr: Ipv4Addr) -> Result<()> {
    wait_for(format!("{name} is ready at {addr}"), LIMIT, || {
        Ok(known(seen_from, name)? == (addr.to_string(), "ready".into()))
    })
}

/// The process of the only task of a service.
fn pid(at: &Node<'_>, service: &str) -> Result<i64> {
    let rows = at.run_json(["clusterctl", "service", "ps", service, "--format", "json"])?;
    let rows = rows.as_array().context("no list")?;
    ensure!(rows.len() == 1, "not one task of {service}: {rows:?}");
    rows[0]
        .pointer("/status/pid")
        .and_then(Value::as_i64)
        .context("no pid")
}

fn deploy(lab: &Lab, stack: &str) -> Result<()> {
    let archive = places::image("busybox")?.display().to_string();
    for node in lab.nodes() {
        node.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    }
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    lab.node(1)
        .run_ok(["sh", "-c", deploy, "sh", stack])
        .map(drop)
}

/// Whether the one service's container reaches the other's by its name.
fn reaches(at: &Node<'_>, from: &str, to: &str) -> Result<bool> {
    let fetch = ["timeout", "3", "wget", "-q", "-O", "-", to];
    let words = [&["clusterctl", "exec", from][..], &fetch].concat();
    Ok(at.run(words)?.stdout.contains("here"))
}

fn both_reach_each_other(at: &Node<'_>) -> Result<()> {
    for (from, to) in [("s_a", "http://b/"), ("s_b", "http://a/")] {
        wait_for(format!("{from} reaches {to}"), LIMIT, || {
            reaches(at, from, to)
        })?;
    }
    Ok(())
}

/// A page on each of the two nodes.
fn pages(first: &str, second: &str) -> String {
    let page = |name: &str, node: &str| {
        format!(
            "
  {name}:
    image: busybox:1
    command: sh -c 'mkdir /www; echo here > /www/index.html; exec httpd -f -p 80 -h /www'
    networks: [n]
    deploy: {{placement: {{constraints: [node.hostname=={node}]}}}}"
        )
    };
    format!(
        "services:{}{}\nnetworks: {{n: {{}}}}\n",
        page("a", first),
        page("b", second)
    )
}

fn on_a_lab(nodes: usize, managers: usize, scenario: fn(&Lab) -> Result<()>) {
    let lab = Lab::builder()
        .nodes(nodes)
        .managers(managers)
        .up()
        .expect("a lab");
    if let Err(error) = scenario(&lab) {
        panic!("{error:?}");
    }
}

fn a_worker_moves(lab: &Lab) -> Result<()> {
    let (manager, worker) = (lab.node(1), lab.node(2));
    // A machine under load may take longer than a node may be silent, and this is not about that.
    manager.run_ok(["clusterctl", "cluster", "update", "--dead-after", "30s"])?;
    deploy(lab, &pages("node1", "node2"))?;
    both_reach_each_other(&manager)?;
    let before = pid(&manager, "s_b")?;

    // While clusterd is stopped, as by a reboot's DHCP; what runs stays.
    worker.stop()?;
    readdress(lab, &worker, free(lab, 111))?;
    worker.start()?;
    is_at(&manager, "node2", free(lab, 111))?;
    both_reach_each_other(&manager)?;

    // While it runs, too.
    readdress(lab, &worker, free(lab, 112))?;
    is_at(&manager, "node2", free(lab, 112))?;
    both_reach_each_other(&manager)?;
    assert_eq!(pid(&manager, "s_b")?, before, "its container was touched");

    // Without any it waits, says so, and goes on by itself.
    worker.stop()?;
    worker.run_ok(["ip", "addr", "flush", "dev", "eth0"])?;
    worker.start()?;
    wait_for("status says what is missing", LIMIT, || {
        let status = worker.run(["clusterctl", "status"])?;
        Ok(status.stderr.contains("is gone, and it has no other"))
    })?;
    readdress(lab, &worker, free(lab, 113))?;
    is_at(&manager, "node2", free(lab, 113))?;
    both_reach_each_other(&manager)?;
    let log = worker.log_tail(1_000);
    ensure!(
        !log.contains("File exists"),
        "a network was not made anew at once"
    );
    Ok(())
}

#[test]
fn a_worker_that_comes_back_elsewhere_is_reached_there() {
    on_a_lab(2, 1, a_worker_moves);
}
