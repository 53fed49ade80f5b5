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

/// A node's published port answers at this address.
fn is_published(from: &Node<'_>, addr: Ipv4Addr) -> Result<()> {
    let url = format!("http://{addr}:8080/");
    wait_for(format!("{url} answers"), LIMIT, || {
        let page = from.run(["curl", "-s", "-m", "3", &url])?;
        Ok(page.stdout.contains("here"))
    })
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
    ports: ['8080:80']
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
    is_published(&manager, worker.address())?;
    let before = pid(&manager, "s_b")?;

    // While clusterd is stopped, as by a reboot's DHCP; what runs stays.
    worker.stop()?;
    readdress(lab, &worker, free(lab, 111))?;
    worker.start()?;
    is_at(&manager, "node2", free(lab, 111))?;
    both_reach_each_other(&manager)?;
    is_published(&manager, free(lab, 111))?;

    // While it runs, too.
    readdress(lab, &worker, free(lab, 112))?;
    is_at(&manager, "node2", free(lab, 112))?;
    both_reach_each_other(&manager)?;
    is_published(&manager, free(lab, 112))?;
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

fn managers_move(lab: &Lab) -> Result<()> {
    let (first, second, third) = (lab.node(1), lab.node(2), lab.node(3));
    first.run_ok(["clusterctl", "cluster", "update", "--dead-after", "30s"])?;
    deploy(lab, &pages("node1", "node3"))?;
    both_reach_each_other(&second)?;
    third.stop()?;
    readdress(lab, &third, free(lab, 121))?;
    third.start()?;
    is_at(&second, "node3", free(lab, 121))?;
    // The one that leads, while it runs.
    readdress(lab, &first, free(lab, 122))?;
    is_at(&second, "node1", free(lab, 122))?;
    wait_for("all managers are reachable where they are", LIMIT, || {
        let status = second.run_json(["clusterctl", "status", "--format", "json"])?;
        let managers = status["managers"].as_array().context("no managers")?;
        let at: Vec<_> = managers
            .iter()
            .filter(|manager| manager["reachable"] == true)
            .map(|manager| manager["addr"].as_str().unwrap_or_default())
            .collect();
        let there = [free(lab, 121), free(lab, 122), second.address()];
        Ok(there
            .iter()
            .all(|addr| at.contains(&format!("{addr}:2377").as_str())))
    })?;
    third.run_ok(["clusterctl", "network", "create", "after"])?;
    both_reach_each_other(&second)
}

#[test]
fn managers_that_come_back_elsewhere_stay_managers() {
    on_a_lab(3, 3, managers_move);
}

fn the_only_manager_moves(lab: &Lab) -> Result<()> {
    let (manager, worker) = (lab.node(1), lab.node(2));
    deploy(lab, &pages("node1", "node2"))?;
    both_reach_each_other(&manager)?;
    worker.stop()?;
    manager.stop()?;
    readdress(lab, &manager, free(lab, 131))?;
    manager.start()?;
    is_at(&manager, "node1", free(lab, 131))?;
    // It knows the manager where that was only.
    worker.start()?;
    is_at(&manager, "node2", worker.address())?;
    both_reach_each_other(&manager)?;

    // Both are elsewhere: nobody finds the other, and somebody says where.
    worker.stop()?;
    manager.stop()?;
    readdress(lab, &manager, free(lab, 132))?;
    readdress(lab, &worker, free(lab, 133))?;
    manager.start()?;
    worker.start()?;
    wait_for("status says what to do", LIMIT, || {
        let status = worker.run(["clusterctl", "status"])?;
        Ok(status
            .stderr
            .contains("clusterctl node update self --manager"))
    })?;
    let there = free(lab, 132).to_string();
    worker.run_ok(["clusterctl", "node", "update", "--manager", &there, "self"])?;
    is_at(&manager, "node2", free(lab, 133))?;
    both_reach_each_other(&manager)
}

#[test]
fn the_only_manager_and_its_worker_find_each_other_again() {
    on_a_lab(2, 1, the_only_manager_moves);
}

fn somebody_says_where(lab: &Lab) -> Result<()> {
    let (manager, worker) = (lab.node(1), lab.node(2));
    deploy(lab, &pages("node1", "node2"))?;
    let update = |at: &Node<'_>, addr: &str, name: &str| {
        at.run(["clusterctl", "node", "update", "--addr", addr, name])
    };
    let (own, more) = (manager.address().to_string(), free(lab, 141).to_string());
    for (at, addr, name, why) in [
        (&manager, "nonsense", "node2", "no IPv4 address"),
        (&manager, "0.0.0.0", "node2", "stands for any address"),
        (&manager, own.as_str(), "node2", "node node1 is at"),
        (
            &manager,
            more.as_str(),
            "node2",
            "is not this machine's; it has",
        ),
        (
            &manager,
            more.as_str(),
            "self",
            "is not this machine's; it has",
        ),
        (&worker, "nonsense", "self", "no IPv4 address"),
        (&worker, own.as_str(), "self", "two nodes can't have one"),
        (&manager, more.as_str(), "nobody", "nobody"),
    ] {
        let refused = update(at, addr, name)?;
        ensure!(!refused.status.success(), "{addr} was taken for {name}");
        ensure!(refused.stderr.contains(why), "{addr}: {}", refused.stderr);
    }
    for (node, last) in [(&worker, 141), (&manager, 142)] {
        let prefix = lab.record().subnet.prefix_len();
        let addr = format!("{}/{prefix}", free(lab, last));
        node.run_ok(["ip", "addr", "add", &addr, "dev", "eth0"])?;
    }
    update(&manager, &more, "node2")?.checked()?;
    is_at(&manager, "node2", free(lab, 141))?;
    update(&manager, &free(lab, 142).to_string(), "self")?.checked()?;
    is_at(&manager, "node1", free(lab, 142))?;
    both_reach_each_other(&manager)?;
    // What was said holds: the addresses before are there still.
    worker.stop()?;
    worker.start()?;
    is_at(&manager, "node2", free(lab, 141))
}

#[test]
fn a_node_is_reached_where_somebody_says() {
    on_a_lab(2, 1, somebody_says_where);
}

#[test]
fn a_worker_that_comes_back_elsewhere_is_reached_there() {
    on_a_lab(2, 1, a_worker_moves);
}
