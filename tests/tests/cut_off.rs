//! A node that is cut off, its clusterd dead: what lives by a lease ends there before it begins elsewhere, and what
//! does not runs on.

use anyhow::{Context, Result, ensure};
use cluster_tests::{Lab, Node, lab::links::Cut, places, wait_for};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);
const STACK: &str = "
services:
  only:
    image: busybox:1
    command: sh -c 'trap exit TERM; while :; do sleep 0.2; done'
    deploy:
      exclusive: true
      disconnect: {stop_after: 3s}
      placement: {constraints: [node.role==worker]}
  each:
    image: busybox:1
    command: sleep 100000
    deploy:
      replicas: 2
      placement: {constraints: [node.role==worker]}
";

/// Id, node, process and state of each task of a service that should run.
fn tasks(node: &Node<'_>, service: &str) -> Result<Vec<(String, String, i64, String)>> {
    let rows = node.run_json(["clusterctl", "service", "ps", service, "--format", "json"])?;
    let rows = rows.as_array().context("no list")?;
    let wanted = rows
        .iter()
        .filter(|row| row.pointer("/desired").and_then(Value::as_str) == Some("running"));
    wanted
        .map(|row| {
            let text = |pointer: &str| {
                let value = row.pointer(pointer).and_then(Value::as_str);
                value.unwrap_or_default().to_owned()
            };
            let pid = row.pointer("/status/pid").and_then(Value::as_i64);
            Ok((
                text("/id"),
                text("/hostname"),
                pid.unwrap_or_default(),
                text("/status/state"),
            ))
        })
        .collect()
}

fn runs(pid: i64) -> bool {
    pid > 0 && PathBuf::from(format!("/proc/{pid}/exe")).exists()
}

fn scenario(lab: &Lab) -> Result<()> {
    let manager = lab.node(1);
    let archive = places::image("busybox")?.display().to_string();
    for node in lab.nodes() {
        node.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    }
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    manager.run_ok(["sh", "-c", deploy, "sh", STACK])?;
    let [(first, host, pid, _)] = tasks(&manager, "s_only")?
        .try_into()
        .ok()
        .context("not one task")?;
    let others = tasks(&manager, "s_each")?;
    let kept = others
        .iter()
        .find(|(_, at, ..)| *at == host)
        .context("not one on each")?
        .2;
    ensure!(runs(pid) && runs(kept), "they don't run");
    let lost = lab
        .nodes()
        .find(|node| node.name() == host)
        .context("no such node")?;
    lost.cut(Cut::Silent)?;
    lost.kill()?;
    // Before that is over, only force removes the node.
    let mut refused = String::new();
    wait_for("the node is down", LIMIT, || {
        refused = manager.run(["clusterctl", "node", "rm", &host])?.stderr;
        Ok(!refused.contains("is ready"))
    })?;
    ensure!(
        refused.contains("s_only.1, which must not run twice"),
        "{refused}"
    );
    let mut twice = false;
    wait_for("the exclusive task runs elsewhere", LIMIT, || {
        let now = tasks(&manager, "s_only")?;
        let elsewhere = now
            .iter()
            .any(|(id, _, _, state)| *id != first && state != "pending");
        twice |= elsewhere && runs(pid);
        Ok(now
            .iter()
            .any(|(id, at, _, state)| *id != first && *at != host && state == "running"))
    })?;
    ensure!(!twice, "it was begun elsewhere while it still ran");
    ensure!(!runs(pid), "it still runs where it was cut off");
    ensure!(runs(kept), "what has no lease was stopped, too");
    lost.heal()?;
    lost.start()?;
    lab.wait_ready()?;
    wait_for(
        "what was replaced ends on the node that is back",
        LIMIT,
        || Ok(!runs(kept)),
    )?;
    let now = tasks(&manager, "s_only")?;
    ensure!(now.len() == 1 && now[0].0 != first, "{now:?}");
    Ok(())
}

#[test]
fn an_exclusive_task_never_runs_twice_though_its_node_is_cut_off_and_its_clusterd_dead() {
    let lab = Lab::builder().nodes(3).up().expect("a lab");
    if let Err(error) = scenario(&lab) {
        panic!("{error:?}");
    }
}

const FAILING: &str = "
services:
  t:
    image: busybox:1
    command: sh -c 'until [ -e /go ]; do sleep 0.1; done; exit 3'
    deploy:
      placement: {constraints: [node.hostname==node2]}
";

/// The process of a task's container, as its shim has written it.
fn process(node: &Node<'_>, id: &str) -> Result<i64> {
    let record = format!("/run/clusterd/containers/{id}/running.json");
    let record: Value = serde_json::from_str(&node.run_ok(["cat", &record])?)?;
    record
        .pointer("/init/pid")
        .and_then(Value::as_i64)
        .context("no process")
}

fn without_managers(lab: &Lab) -> Result<()> {
    let (manager, worker) = (lab.node(1), lab.node(2));
    let archive = places::image("busybox")?.display().to_string();
    worker.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    manager.run_ok(["sh", "-c", deploy, "sh", FAILING])?;
    let (id, _, first, _) = tasks(&manager, "s_t")?.pop().context("no task")?;
    manager.kill()?;
    worker.run_ok(["touch", &format!("/proc/{first}/root/go")])?;
    wait_for("its node has started it again", LIMIT, || {
        let now = process(&worker, &id)?;
        Ok(now != first && runs(now))
    })?;
    let second = process(&worker, &id)?;
    manager.start()?;
    lab.wait_ready()?;
    wait_for("the managers know of it", LIMIT, || {
        Ok(tasks(&manager, "s_t")? == [(id.clone(), "node2".into(), second, "running".into())])
    })?;
    let rows = manager.run_json(["clusterctl", "service", "ps", "s_t", "--format", "json"])?;
    let rows = rows.as_array().context("no list")?;
    ensure!(rows.len() == 1, "it was replaced: {rows:?}");
    let told = rows[0].pointer("/status/message").and_then(Value::as_str);
    let told = told.unwrap_or_default();
    ensure!(
        told.contains("started again by its node") && told.contains("exit code 3"),
        "{told}"
    );
    ensure!(runs(second), "it was stopped when the managers came back");
    Ok(())
}

#[test]
fn what_fails_while_no_manager_is_there_is_started_again_and_not_replaced_afterwards() {
    let lab = Lab::builder().nodes(2).up().expect("a lab");
    if let Err(error) = without_managers(&lab) {
        panic!("{error:?}");
    }
}

const MAJORITY: &str = "
services:
  each:
    image: busybox:1
    command: sleep 100000
    deploy:
      replicas: 6
      placement: {constraints: [node.hostname!=node2, node.hostname!=node3]}
";

fn without_a_majority(lab: &Lab) -> Result<()> {
    let (leader, worker) = (lab.node(1), lab.node(4));
    let archive = places::image("busybox")?.display().to_string();
    for node in [&leader, &worker] {
        node.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    }
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    leader.run_ok(["sh", "-c", deploy, "sh", MAJORITY])?;
    let before = tasks(&leader, "s_each")?;
    ensure!(before.len() == 6, "{before:?}");
    lab.node(2).kill()?;
    lab.node(3).kill()?;
    // Its session ends, and again when the leader that can't answer has been given its time.
    wait_for("the worker has looked for another twice", LIMIT, || {
        let log = worker.log_tail(400);
        Ok(log.matches("no session: ").count() >= 8)
    })?;
    lab.node(2).start()?;
    wait_for("there is a majority", LIMIT, || {
        let made = leader.run(["clusterctl", "network", "create", "n"])?;
        Ok(made.success() || made.stderr.contains("there already"))
    })?;
    // The other one is down for good, and by then all would be.
    wait_for("who is gone is given up", LIMIT, || {
        let rows = leader.run_json(["clusterctl", "node", "ls", "--format", "json"])?;
        let rows = rows.as_array().context("no list")?;
        let state = |row: &Value| {
            row["status"]["state"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let down = rows.iter().filter(|row| state(row) == "down");
        let down: Vec<_> = down
            .map(|row| row["description"]["hostname"].clone())
            .collect();
        ensure!(down.iter().all(|name| name == "node3"), "{down:?}");
        Ok(down.len() == 1)
    })?;
    let mut after = tasks(&leader, "s_each")?;
    let mut before = before;
    after.sort();
    before.sort();
    ensure!(after == before, "before {before:?}, after {after:?}");
    let rows = leader.run_json(["clusterctl", "service", "ps", "s_each", "--format", "json"])?;
    ensure!(
        rows.as_array().map(Vec::len) == Some(6),
        "some were replaced: {rows}"
    );
    Ok(())
}

#[test]
fn a_leader_that_finds_its_majority_again_gives_up_no_node_that_was_well_meanwhile() {
    let lab = Lab::builder().nodes(4).managers(3).up().expect("a lab");
    if let Err(error) = without_a_majority(&lab) {
        for node in lab.nodes() {
            eprintln!("{}:\n{}", node.name(), node.log_tail(40));
        }
        panic!("{error:?}");
    }
}

/// It waits for a registry that says nothing.
const FIRST: &str = "
services:
  one:
    image: 127.0.0.1:5999/busybox:1
    command: sleep 1000
    deploy:
      placement: {constraints: [node.hostname==node2]}
      restart_policy: {condition: none}
";
/// It waits for that.
const SECOND: &str = "
services:
  only:
    image: 127.0.0.1:5999/busybox:1
    command: sh -c 'while :; do sleep 0.2; done'
    deploy:
      exclusive: true
      disconnect: {stop_after: 3s}
      placement: {constraints: [node.role==worker]}
";

/// The image under that registry's name.
fn renamed(dir: &std::path::Path) -> Result<String> {
    let to = dir.join("renamed.tar").display().to_string();
    let script = r#"
        mkdir "$1/all"
        tar -C "$1/all" -xf "$2"
        sed -i 's|"busybox:1"|"127.0.0.1:5999/busybox:1"|' "$1/all/manifest.json"
        tar -C "$1/all" -cf "$3" .
    "#;
    let done = std::process::Command::new("sh")
        .args(["-euc", script, "sh"])
        .arg(dir)
        .arg(places::image("busybox")?)
        .arg(&to)
        .status()?;
    ensure!(done.success(), "the image can't be renamed: {done}");
    Ok(to)
}

fn waiting(lab: &Lab, registry: &mut std::process::Child) -> Result<()> {
    let (manager, slow, other) = (lab.node(1), lab.node(2), lab.node(3));
    let dir = tempfile::tempdir()?;
    let archive = renamed(dir.path())?;
    other.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    let available = |to: &str| {
        let update = ["clusterctl", "node", "update", "--availability", to];
        manager.run_ok(update.into_iter().chain([other.name()]))
    };
    available("drain")?;
    let deploy = r#"printf "%s" "$2" | clusterctl deploy --detach -c - "$1""#;
    manager.run_ok(["sh", "-c", deploy, "sh", "f", FIRST])?;
    wait_for("the registry is asked", LIMIT, || {
        let words = ["ss", "-Htn", "state", "established", "sport = :5999"];
        Ok(!slow.run_ok(words)?.is_empty())
    })?;
    manager.run_ok(["sh", "-c", deploy, "sh", "s", SECOND])?;
    let mut first = String::new();
    wait_for("it is being prepared", LIMIT, || {
        let now = tasks(&manager, "s_only")?;
        first = now.first().map(|(id, ..)| id.clone()).unwrap_or_default();
        Ok(now.iter().any(|(.., state)| state == "preparing"))
    })?;
    available("active")?;
    manager.hear_nothing_from(&[slow.address()])?;
    slow.hear_nothing_from(&[manager.address()])?;
    wait_for("it is another node's", LIMIT, || {
        let now = tasks(&manager, "s_only")?;
        Ok(now.iter().any(|(_, at, ..)| at == other.name()))
    })?;
    // Now it could begin, but for its lease.
    slow.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    registry.kill()?;
    wait_for("it waits for a lease", LIMIT, || {
        let waits = format!("id={first} state=\"starting\"");
        Ok(slow.log_tail(50).contains(&waits))
    })?;
    manager.hear_nothing_from(&[])?;
    slow.hear_nothing_from(&[])?;
    let mut ended = Value::Null;
    wait_for("what waited has ended", LIMIT, || {
        let all =
            manager.run_json(["clusterctl", "service", "ps", "s_only", "--format", "json"])?;
        let is_it = |row: &&Value| row.pointer("/id").and_then(Value::as_str) == Some(&*first);
        let row = all.as_array().context("no list")?.iter().find(is_it);
        ended = row.context("its task is not listed any more")?.clone();
        let state = ended.pointer("/status/state").and_then(Value::as_str);
        Ok(["shutdown", "failed"].map(Some).contains(&state))
    })?;
    let code = ended.pointer("/status/exit_code").and_then(Value::as_i64);
    let state = ended.pointer("/status/state").and_then(Value::as_str);
    ensure!(
        code.is_none() && state == Some("shutdown"),
        "it was begun though it is another node's by now: {ended}"
    );
    Ok(())
}

#[test]
fn an_exclusive_task_that_was_replaced_before_it_began_does_not_begin() {
    let lab = Lab::builder().nodes(3).up().expect("a lab");
    let mut registry = lab
        .node(2)
        .command(["busybox", "nc", "-ll", "-p", "5999"])
        .and_then(|mut command| Ok(command.stdin(std::process::Stdio::piped()).spawn()?))
        .expect("a registry that says nothing");
    let done = waiting(&lab, &mut registry);
    // It may have ended already.
    let _ = registry.kill();
    registry.wait().expect("it is ours");
    if let Err(error) = done {
        panic!("{error:?}");
    }
}
