//! What a restart of clusterd leaves alone, even when what it kept on disk is worth nothing.

use anyhow::{Context, Result};
use cluster_tests::{Lab, Node, places, wait_for};
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
const ASSIGNMENTS: &str = "/var/lib/clusterd/agent/assignments";

/// Id, process and state of the one task.
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
    let pid = rows[0]
        .pointer("/status/pid")
        .and_then(Value::as_i64)
        .context("no pid")?;
    Ok((text("/id")?, pid, text("/status/state")?))
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
