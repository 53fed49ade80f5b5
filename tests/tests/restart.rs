//! What a restart of clusterd leaves alone, even when what it kept on disk is worth nothing.

use anyhow::{Context, Result};
use cluster_tests::{Lab, Node, lab, places, wait_for};
use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const STACK: &str = "
services:
  t:
    image: busybox:1
    command: sleep 100000
    networks: [n]
networks: {n: {}}
";
const ENDING: &str = "
services:
  t:
    image: busybox:1
    command: sh -c 'until [ -e /go ]; do sleep 0.1; done'
    deploy:
      placement: {constraints: [node.hostname==node2]}
      restart_policy: {condition: none}
";
const SLOW: &str = "
services:
  t:
    image: 127.0.0.1:5999/nothing:1
    deploy:
      placement: {constraints: [node.hostname==node2]}
      restart_policy: {condition: none}
";
const ASSIGNMENTS: &str = "/var/lib/clusterd/agent/assignments";

/// Id, process (0: none) and state of the one task.
fn task(node: &Node<'_>) -> Result<(String, i64, String)> {
    let rows = node.run_json(["clusterctl", "service", "ps", "s_t", "--format", "json"])?;
    let rows = rows.as_array().context("no list")?;
    anyhow::ensure!(rows.len() == 1, "there are {} tasks: {rows:?}", rows.len());
    let text = |pointer: &str| {
        let value = rows[0].pointer(pointer).and_then(Value::as_str);
        value
            .map(str::to_owned)
            .with_context(|| format!("no {pointer}"))
    };
    let pid = rows[0].pointer("/status/pid").and_then(Value::as_i64);
    Ok((
        text("/id")?,
        pid.unwrap_or_default(),
        text("/status/state")?,
    ))
}

fn scenario(lab: &Lab) -> Result<()> {
    let node = lab.node(1);
    let archive = places::image("busybox")?.display().to_string();
    node.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    node.run_ok(["sh", "-c", deploy, "sh", STACK])?;
    let before = task(&node)?;
    let losses = [
        ("half of it", format!("truncate -s 20 {ASSIGNMENTS}")),
        ("all but an empty file", format!(": > {ASSIGNMENTS}")),
        ("the file", format!("rm {ASSIGNMENTS}")),
    ];
    for (what, lose) in losses {
        node.kill()?;
        node.run_ok(["sh", "-c", &lose])?;
        node.start()?;
        wait_for("the node is Ready with a session", LIMIT, || {
            let rows = node.run_json(["clusterctl", "node", "ls", "--format", "json"])?;
            let ready = rows.pointer("/0/status/state").and_then(Value::as_str) == Some("ready");
            let kept = node.run(["sh", "-c", &format!("test -s {ASSIGNMENTS}")])?;
            Ok(ready && kept.status.success())
        })?;
        // By its name, through the resolver that the new daemon has taken over.
        wait_for("its name resolves", LIMIT, || {
            let words = ["clusterctl", "exec", "s_t", "nslookup", "tasks.s_t"];
            Ok(node.run(words)?.status.success())
        })?;
        assert_eq!(
            task(&node)?,
            before,
            "the container did not outlive the loss of {what}"
        );
    }
    // And it is still one that can be told to go.
    node.run_ok(["clusterctl", "stack", "rm", "s"])?;
    let left = node.run_ok([
        "sh",
        "-c",
        "ls /run/clusterd/containers /run/clusterd/netns",
    ])?;
    assert!(!left.contains(&before.0), "{left}");
    Ok(())
}

#[test]
fn containers_outlive_the_loss_of_the_kept_assignments() {
    let lab = Lab::builder().nodes(1).up().expect("a lab");
    if let Err(error) = scenario(&lab) {
        panic!("{error:?}");
    }
}

fn full_disk(lab: &Lab) -> Result<()> {
    let node = lab.node(1);
    let dir = "/var/lib/clusterd/raft";
    let mount = format!("mkdir -p {dir} && mount -t tmpfs -o size=4m none {dir}");
    node.run_ok(["sh", "-c", &mount])?;
    node.run_ok(["clusterctl", "init"])?;
    let create = r#"head -c 100000 /dev/zero | clusterctl config create "$0" -"#;
    node.run_ok(["sh", "-c", create, "before"])?;
    // It fails when there is no more room, which is what it is for.
    node.run([
        "sh",
        "-c",
        &format!("dd if=/dev/zero of={dir}/filler bs=1k"),
    ])?;
    let mut kept = vec!["before".to_owned()];
    let refused = loop {
        let name = format!("n{}", kept.len());
        let made = node.run(["sh", "-c", create, &name])?;
        if !made.status.success() {
            break made.stderr;
        }
        kept.push(name);
    };
    // The store's own words, or that clusterd has ended over it.
    assert!(
        refused.contains("No space left") || refused.contains("clusterd"),
        "{refused}"
    );
    wait_for("clusterd has ended", LIMIT, || {
        Ok(lab::daemon::running(lab.record(), node.name())?.is_none())
    })?;
    let log = node.log_tail(5);
    assert!(
        log.contains("this manager's store has failed: the log can't be written to disk"),
        "{log}"
    );
    node.run_ok(["rm", &format!("{dir}/filler")])?;
    node.start()?;
    // The very first call finds the cluster, and all that was acknowledged.
    let rows = node.run_json(["clusterctl", "config", "ls", "--format", "json"])?;
    for name in kept {
        let found = rows
            .as_array()
            .context("no list")?
            .iter()
            .any(|row| row["name"].as_str() == Some(&name));
        assert!(found, "{name} was acknowledged and is gone");
    }
    Ok(())
}

#[test]
fn a_manager_whose_disk_is_full_says_so_and_loses_nothing() {
    let lab = Lab::builder().nodes(1).init(false).up().expect("a lab");
    if let Err(error) = full_disk(&lab) {
        panic!("{error:?}");
    }
}

/// A task that ends well while no manager can hear of it, and a restart before one does.
fn unheard_end(lab: &Lab) -> Result<()> {
    let (manager, worker) = (lab.node(1), lab.node(2));
    let archive = places::image("busybox")?.display().to_string();
    worker.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    manager.run_ok(["sh", "-c", deploy, "sh", ENDING])?;
    let (id, pid, _) = task(&manager)?;
    manager.kill()?;
    worker.run_ok(["touch", &format!("/proc/{pid}/root/go")])?;
    wait_for("its container is gone", LIMIT, || {
        let record = format!("/run/clusterd/containers/{id}");
        Ok(!worker.run(["test", "-e", &record])?.status.success())
    })?;
    worker.kill()?;
    worker.start()?;
    manager.start()?;
    wait_for("its end is known", LIMIT, || {
        Ok(task(&manager)?.2 != "running")
    })?;
    assert_eq!(task(&manager)?.2, "complete");
    Ok(())
}

#[test]
fn an_end_that_no_manager_heard_of_is_told_after_a_restart() {
    let lab = Lab::builder().nodes(2).up().expect("a lab");
    if let Err(error) = unheard_end(&lab) {
        panic!("{error:?}");
    }
}

/// A registry that says nothing until it is ended.
fn silent_registry(node: &Node<'_>) -> Result<std::process::Child> {
    let registry = node
        .command(["busybox", "nc", "-ll", "-p", "5999"])?
        .stdin(std::process::Stdio::piped())
        .spawn()?;
    wait_for("it listens", LIMIT, || {
        Ok(!node.run_ok(["ss", "-Hltn", "sport = :5999"])?.is_empty())
    })?;
    Ok(registry)
}

/// A task whose image does not come, which no manager hears of, and a restart. The registry is asked once.
fn unheard_refusal(lab: &Lab) -> Result<()> {
    let (manager, worker) = (lab.node(1), lab.node(2));
    let asked = || -> Result<bool> {
        let words = ["ss", "-Htn", "state", "established", "sport = :5999"];
        Ok(!worker.run_ok(words)?.is_empty())
    };
    let mut registry = silent_registry(&worker)?;
    let deploy = r#"printf "%s" "$1" | clusterctl deploy --detach -c - s"#;
    manager.run_ok(["sh", "-c", deploy, "sh", SLOW])?;
    wait_for("the registry is asked", LIMIT, asked)?;
    let (id, ..) = task(&manager)?;
    manager.kill()?;
    registry.kill()?;
    registry.wait()?;
    let end = format!("/var/lib/clusterd/containers/{id}/begun");
    wait_for("it is given up", LIMIT, || {
        let shown = worker.run(["cat", &end])?;
        Ok(shown.stdout.contains("refused"))
    })?;
    worker.kill()?;
    let mut registry = silent_registry(&worker)?;
    worker.start()?;
    manager.start()?;
    let known = wait_for("its end is known", LIMIT, || {
        Ok(task(&manager)?.2 != "preparing")
    });
    let asked_again = asked()?;
    registry.kill()?;
    registry.wait()?;
    known?;
    assert!(!asked_again, "what was given up is prepared again");
    assert_eq!(task(&manager)?.2, "rejected");
    Ok(())
}

#[test]
fn what_a_node_gave_up_is_not_begun_by_its_next_daemon() {
    let lab = Lab::builder().nodes(2).up().expect("a lab");
    if let Err(error) = unheard_refusal(&lab) {
        panic!("{error:?}");
    }
}
