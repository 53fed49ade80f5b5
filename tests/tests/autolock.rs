//! Managers that are locked when they start: what they say, what runs on, and which key opens them.

use anyhow::{Context, Result, ensure};
use api::model::UnlockKey;
use cluster_tests::{Lab, Node, places, wait_for};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "correct-horse-battery-staple";
const STACK: &str = "
services:
  t:
    image: busybox:1
    command: sleep 100000
    networks: [n]
    deploy:
      placement: {constraints: [node.hostname==node2]}
networks: {n: {}}
";

/// The key in what a command has printed.
fn key_of(said: &str) -> Result<String> {
    let word = said
        .split_whitespace()
        .find(|word| word.starts_with("CLSTKEY-1-"));
    let word = word.with_context(|| format!("no key in: {said}"))?;
    word.parse::<UnlockKey>()?;
    Ok(word.to_owned())
}

fn unlock(node: &Node<'_>, key: &str) -> Result<cluster_tests::Output> {
    node.run(["sh", "-c", r#"echo "$1" | clusterctl unlock"#, "sh", key])
}

/// What `unlock` says that has to fail.
fn refused(node: &Node<'_>, key: &str) -> Result<String> {
    let output = unlock(node, key)?;
    ensure!(output.code() == 1, "it was taken: {}", output.stdout);
    Ok(output.stderr)
}

fn restart(node: &Node<'_>) -> Result<()> {
    node.kill()?;
    node.start()
}

fn is_locked(node: &Node<'_>) -> Result<bool> {
    let status = node.run(["clusterctl", "status"])?;
    Ok(status.code() == 1 && status.stdout.contains(", locked,"))
}

fn state_of(asked: &Node<'_>, node: &Node<'_>) -> Result<String> {
    let list = asked.run_json(["clusterctl", "node", "ls", "--format", "json"])?;
    let rows = list.as_array().context("no list")?;
    let text = |row: &Value, at: &str| row.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let is_it = |row: &&Value| text(row, "/description/hostname").as_deref() == Some(node.name());
    let row = rows.iter().find(is_it).context("it is not in the list")?;
    text(row, "/status/state").context("no state")
}

/// Waits until a manager's key file is another than it was when `change` was made.
fn rewrapped<T>(nodes: &[Node<'_>], change: impl FnOnce() -> Result<T>) -> Result<T> {
    let sum = |node: &Node<'_>| node.run_ok(["cksum", "/var/lib/clusterd/raft.key"]);
    let before = nodes.iter().map(sum).collect::<Result<Vec<_>>>()?;
    let changed = change()?;
    for (node, before) in nodes.iter().zip(before) {
        wait_for(
            format!("{}'s keys are wrapped anew", node.name()),
            LIMIT,
            || Ok(sum(node)? != before),
        )?;
    }
    Ok(changed)
}

fn pid(node: &Node<'_>) -> Result<i64> {
    let rows = node.run_json(["clusterctl", "service", "ps", "s_t", "--format", "json"])?;
    let rows = rows.as_array().context("no list")?;
    let running = rows
        .iter()
        .filter(|row| row.pointer("/status/state").and_then(Value::as_str) == Some("running"));
    let pids = running.filter_map(|row| row.pointer("/status/pid").and_then(Value::as_i64));
    pids.max().with_context(|| format!("no process: {rows:?}"))
}

/// Nothing that is to be kept can be read in the folder of a manager.
fn tells_nothing(node: &Node<'_>) -> Result<()> {
    let text = format!("{SECRET}|PRIVATE KEY|CLSTKEY-1");
    let places = "raft raft.key identity agent";
    let search = format!("cd /var/lib/clusterd && grep -raElE '{text}' {places}; ls raft.*");
    let found = node.run_ok(["sh", "-c", &search])?;
    ensure!(found == "raft.key\n", "{}: {found}", node.name());
    Ok(())
}

fn locked(node: &Node<'_>, others: &Node<'_>, key: &str) -> Result<()> {
    let pid = pid(others)?;
    restart(node)?;
    ensure!(is_locked(node)?, "it is not locked");
    for words in [
        &["clusterctl", "node", "ls"][..],
        &["clusterctl", "--stale", "service", "ls"],
        &["clusterctl", "image", "ls"],
        &["clusterctl", "init"],
        &["clusterctl", "init", "--force-new-cluster"],
        &["clusterctl", "leave"],
        &["clusterctl", "unlock-key"],
    ] {
        let output = node.run(words.iter().copied())?;
        ensure!(
            output.code() == 1 && output.stderr.contains("is locked: run `clusterctl unlock`"),
            "{words:?}: {} {}",
            output.stdout,
            output.stderr
        );
    }
    wait_for("the others see it as down", LIMIT, || {
        Ok(state_of(others, node)? == "down")
    })?;
    ensure!(
        Path::new(&format!("/proc/{pid}")).exists(),
        "its container ended"
    );
    let pid = pid.to_string();
    let inside = ["nsenter", "-t", &pid, "-m", "-n"];
    wait_for("names resolve in its container", LIMIT, || {
        let words = inside
            .iter()
            .copied()
            .chain(["/bin/busybox", "nslookup", "tasks.t"]);
        Ok(node.run(words)?.success())
    })?;

    // A typing error, something else, another key, and the right one.
    let mut typo = key.to_owned();
    typo.replace_range(20..21, if &key[20..21] == "7" { "8" } else { "7" });
    let said = refused(node, &typo)?;
    ensure!(said.contains("typing error"), "{said}");
    let said = refused(node, "CLSTR-1-of-joining")?;
    ensure!(said.contains("not an unlock key"), "{said}");
    let said = refused(node, &UnlockKey::random().text())?;
    ensure!(said.contains("doesn't fit"), "{said}");
    ensure!(is_locked(node)?, "a wrong key has unlocked it");
    unlock(node, key)?.checked()?;
    wait_for("it is ready again", LIMIT, || {
        Ok(state_of(node, node)? == "ready")
    })?;
    let said = refused(node, key)?;
    ensure!(said.contains("is not locked"), "{said}");
    Ok(())
}

fn scenario(lab: &Lab) -> Result<()> {
    let [first, second, third] = [1, 2, 3].map(|n| lab.node(n));
    let all = [first, second, third];
    let addr = first.address().to_string();
    let said = first.run_ok([
        "clusterctl",
        "init",
        "--autolock",
        "--advertise-addr",
        &addr,
    ])?;
    let key = key_of(&said)?;
    let token = first.run_ok(["clusterctl", "join-token", "-q", "manager"])?;
    for node in [second, third] {
        node.run_ok(["clusterctl", "join", "--token", token.trim(), &addr])?;
    }
    let shown = second.run_ok(["clusterctl", "unlock-key", "-q"])?;
    ensure!(shown.trim() == key, "another key: {shown}");
    let secret = format!("printf {SECRET} | clusterctl secret create s -");
    first.run_ok(["sh", "-c", &secret])?;
    for node in &all {
        tells_nothing(node)?;
    }
    let archive = places::image("busybox")?.display().to_string();
    second.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    first.run_ok(["sh", "-c", deploy, "sh", STACK])?;
    locked(&second, &first, &key)?;

    // Rotated while one is down: that one opens with the key that it knows, and follows.
    third.kill()?;
    let rotate = || first.run_ok(["clusterctl", "unlock-key", "--rotate", "-q"]);
    let next = key_of(&rewrapped(&[first, second], rotate)?)?;
    ensure!(next != key, "the same key");
    third.start()?;
    let said = refused(&third, &next)?;
    ensure!(said.contains("doesn't fit"), "{said}");
    rewrapped(&[third], || unlock(&third, &key)?.checked())?;

    // All of them at once: no majority until two are unlocked.
    for node in &all {
        restart(node)?;
    }
    let said = refused(&third, &key)?;
    ensure!(said.contains("doesn't fit"), "{said}");
    for node in &all {
        tells_nothing(node)?;
        ensure!(is_locked(node)?, "{} is not locked", node.name());
        unlock(node, &next)?.checked()?;
    }
    lab.wait_ready()?;

    // For good; and back, for one that nobody can unlock.
    let off = ["clusterctl", "cluster", "update", "--autolock=false"];
    rewrapped(&all, || second.run_ok(off))?;
    for node in &all {
        restart(node)?;
        ensure!(!is_locked(node)?, "{} is locked", node.name());
    }
    lab.wait_ready()?;
    let none = first.run(["clusterctl", "unlock-key"])?;
    ensure!(
        none.stderr.contains("managers are not locked"),
        "{}",
        none.stderr
    );
    let on = ["clusterctl", "cluster", "update", "--autolock=true"];
    let last = key_of(&rewrapped(&all, || first.run_ok(on))?)?;
    ensure!(last != key && last != next, "an old key came back");
    restart(&second)?;
    second.run_ok(["clusterctl", "leave", "--force"])?;
    let left = second.run_ok(["sh", "-c", "ls /var/lib/clusterd /run/clusterd/containers"])?;
    ensure!(
        !left.contains("raft") && !left.contains("identity"),
        "{left}"
    );
    Ok(())
}

#[test]
fn managers_are_locked_until_they_are_given_the_key_of_when_they_last_ran() {
    let lab = Lab::builder().nodes(3).init(false).up().expect("a lab");
    if let Err(error) = scenario(&lab) {
        panic!("{error:?}");
    }
}
