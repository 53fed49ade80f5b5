//! Secrets from the Compose file to the container: who may read them, where they are, and that they go.

use anyhow::{Context, Result, ensure};
use cluster_tests::{Lab, Node, lab, places, wait_for};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// What no place may hold that has nothing to do with it.
const OLD: &str = "canary-eip7ohng4ohc";
const NEW: &str = "canary-ahth2ohj9oof";
const STACK: &str = "
services:
  t:
    image: busybox:1
    command: sleep 100000
    secrets:
      - password
      - {source: given, target: keys/api, uid: '12', gid: '34', mode: 0400}
    configs: [{source: site, target: /etc/site/site.conf, mode: 0440}]
    deploy:
      placement: {constraints: [node.hostname==node2]}
secrets:
  password: {file: ./password.txt}
  given: {external: true}
configs:
  site: {content: 'listen 80;'}
";

fn ctl(node: &Node<'_>, words: &[&str]) -> Result<String> {
    node.run_ok(["clusterctl"].iter().chain(words).copied())
}

/// What a command in the container says.
fn inside(node: &Node<'_>, words: &[&str]) -> Result<String> {
    ctl(node, &[&["exec", "s_t"], words].concat())
}

/// Id and process of the one task that is to run.
fn task(node: &Node<'_>) -> Result<(String, i64)> {
    let rows = node.run_json(["clusterctl", "service", "ps", "s_t", "--format", "json"])?;
    let running = |row: &&Value| row["status"]["state"] == "running" && row["desired"] == "running";
    let rows = rows.as_array().context("no list")?;
    let row = rows
        .iter()
        .find(running)
        .with_context(|| format!("{rows:?}"))?;
    let id = row["id"].as_str().context("no id")?.to_owned();
    let pid = row["status"]["pid"].as_i64().context("no process")?;
    Ok((id, pid))
}

/// Names and versions, as `secret ls` lists them.
fn listed(node: &Node<'_>) -> Result<Vec<(String, Option<u64>)>> {
    let rows = node.run_json(["clusterctl", "secret", "ls", "--format", "json"])?;
    let rows = rows.as_array().context("no list")?.iter();
    let name = |row: &Value| row["name"].as_str().unwrap_or_default().to_owned();
    Ok(rows
        .map(|row| (name(row), row["version"].as_u64()))
        .collect())
}

/// Files below clusterd's folders that hold the text; those in memory are not among them.
fn on_disk(node: &Node<'_>, text: &str) -> Result<String> {
    let find =
        "find /var/lib/clusterd /run/clusterd -xdev -type f -exec grep -l -e \"$1\" {} +; true";
    node.run_ok(["sh", "-c", find, "sh", text])
}

fn mounts(node: &Node<'_>) -> Result<String> {
    node.run_ok(["sh", "-c", "grep -e /secrets /proc/self/mounts; true"])
}

/// Whether the memory of the node's clusterd holds the text.
fn in_memory(lab: &Lab, node: &Node<'_>, text: &str) -> Result<bool> {
    let daemon = lab::daemon::running(lab.record(), node.name())?.context("clusterd is down")?;
    let pid = daemon.pid;
    let mut memory = File::open(format!("/proc/{pid}/mem"))?;
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(access)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((from, to)) = range.split_once('-').filter(|_| access.starts_with("rw")) else {
            continue;
        };
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut bytes = Vec::new();
        memory.seek(SeekFrom::Start(from))?;
        // A part that is gone meanwhile holds nothing.
        let _ = (&mut memory).take(to - from).read_to_end(&mut bytes);
        if bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn scenario(lab: &Lab, dir: &Path) -> Result<()> {
    let (manager, user, other) = (lab.node(1), lab.node(2), lab.node(3));
    let archive = places::image("busybox")?.display().to_string();
    ctl(&user, &["image", "load", "-i", &archive])?;
    let (file, password) = (dir.join("stack.yml"), dir.join("password.txt"));
    let file = file.to_str().context("a path")?;
    fs::write(file, STACK)?;
    fs::write(&password, OLD)?;
    let deploy = || ctl(&manager, &["deploy", "-c", file, "s"]);

    // Without its external one nothing is deployed.
    let refused = manager.run(["clusterctl", "deploy", "-c", file, "s"])?;
    let cure = "secret given is external and is not there: make it with `clusterctl secret create given FILE`";
    ensure!(refused.stderr.contains(cure), "{refused:?}");
    let create = "printf %s \"$1\" | clusterctl secret create --label tier=db given -";
    manager.run_ok(["sh", "-c", create, "sh", OLD])?;
    deploy()?;

    assert_eq!(inside(&manager, &["cat", "/run/secrets/password"])?, OLD);
    assert_eq!(inside(&manager, &["cat", "/run/secrets/keys/api"])?, OLD);
    assert_eq!(
        inside(&manager, &["cat", "/etc/site/site.conf"])?,
        "listen 80;"
    );
    let paths = [
        "/run/secrets/password",
        "/run/secrets/keys/api",
        "/etc/site/site.conf",
    ];
    let looks = inside(
        &manager,
        &[&["stat", "-c", "%u:%g %a"], &paths[..]].concat(),
    )?;
    assert_eq!(looks.trim(), "0:0 444\n12:34 400\n0:0 440");
    for path in paths {
        let write = format!("echo x > {path}");
        let written = manager.run(["clusterctl", "exec", "s_t", "sh", "-c", &write])?;
        ensure!(
            written.stderr.contains("Read-only file system"),
            "{written:?}"
        );
    }

    // Nothing shows a secret; a config is shown to managers.
    let shown = ctl(&manager, &["secret", "inspect", "s_password", "given"])?
        + &ctl(&manager, &["secret", "ls"])?
        + &ctl(&manager, &["service", "inspect", "s_t"])?;
    ensure!(shown.contains("tier") && !shown.contains(OLD), "{shown}");
    let config = ctl(&manager, &["config", "inspect", "s_site"])?;
    ensure!(config.contains("listen 80;"), "{config}");
    let refused = user.run(["clusterctl", "config", "inspect", "s_site"])?;
    ensure!(
        !refused.status.success() && !refused.stdout.contains("listen"),
        "{refused:?}"
    );
    let refused = manager.run(["clusterctl", "secret", "rm", "given"])?;
    ensure!(
        refused.stderr.contains("secret given is used by s_t"),
        "{refused:?}"
    );

    // On its node it is in memory alone, and a node without a task of it has never heard of it.
    assert_eq!(on_disk(&user, OLD)?, "");
    ensure!(mounts(&user)?.contains("/secrets"), "{}", mounts(&user)?);
    ensure!(
        in_memory(lab, &user, OLD)?,
        "it would not be found where it is"
    );
    assert_eq!(on_disk(&other, OLD)?, "");
    assert_eq!(mounts(&other)?, "");
    ensure!(!in_memory(lab, &other, OLD)?, "node3 has seen it");

    // A restart of clusterd takes nothing from the container.
    let before = task(&manager)?;
    user.kill()?;
    user.start()?;
    wait_for("the container can be reached again", LIMIT, || {
        Ok(inside(&manager, &["cat", "/run/secrets/password"])? == OLD)
    })?;
    assert_eq!(task(&manager)?, before);

    begun_without_managers(&manager, &user)?;

    // Another content: another version, another task, and the one before goes.
    let before = task(&manager)?.0;
    fs::write(&password, NEW)?;
    deploy()?;
    wait_for("the new content is there", LIMIT, || {
        Ok(inside(&manager, &["cat", "/run/secrets/password"])? == NEW)
    })?;
    assert_ne!(task(&manager)?.0, before);
    wait_for("the version before is gone", LIMIT, || {
        Ok(listed(&manager)? == [("given".into(), None), ("s_password".into(), Some(2))])
    })?;

    ctl(&manager, &["stack", "rm", "s"])?;
    wait_for("the stack's are gone", LIMIT, || {
        Ok(listed(&manager)? == [("given".into(), None)])
    })?;
    assert_eq!(mounts(&user)?, "");
    assert_eq!(on_disk(&user, "canary-")?, "");
    ctl(&manager, &["secret", "rm", "given"])?;
    Ok(())
}

/// A task that has to begin after a restart, with no manager there: it waits for what it was not left.
fn begun_without_managers(manager: &Node<'_>, user: &Node<'_>) -> Result<()> {
    let (id, pid) = task(manager)?;
    manager.kill()?;
    user.kill()?;
    let container = format!("/run/clusterd/containers/{id}");
    // As if it had not been begun yet: no process, no record of one.
    user.run_ok(["kill", "-9", &pid.to_string()])?;
    wait_for("its shim has ended", LIMIT, || {
        let shims = user.run(["pgrep", "-f", &id])?;
        Ok(!shims.status.success())
    })?;
    let begun = format!("/var/lib/clusterd/containers/{id}/begun");
    user.run_ok(["rm", "-r", &container, &begun])?;
    user.start()?;
    wait_for("it waits and says for what", LIMIT, || {
        let waits = "waiting for config s_site, secret given, secret s_password";
        Ok(user.log_tail(50).contains(waits))
    })?;
    manager.start()?;
    wait_for("it runs", LIMIT, || {
        Ok(inside(manager, &["cat", "/run/secrets/password"])? == OLD && task(manager)?.1 != pid)
    })
}

#[test]
fn a_secret_is_where_its_tasks_are_and_nowhere_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let lab = Lab::builder().nodes(3).up().expect("a lab");
    if let Err(error) = scenario(&lab, dir.path()) {
        panic!("{error:?}");
    }
}

/// As much as one deploy may hold gets through every queue on the way.
fn large(lab: &Lab, dir: &Path) -> Result<()> {
    let node = lab.node(1);
    let archive = places::image("busybox")?.display().to_string();
    ctl(&node, &["image", "load", "-i", &archive])?;
    let mut text =
        "services:\n  t:\n    image: busybox:1\n    command: sleep 100000\n    configs: \
                    [c0, c1, c2, c3, c4, c5]\nconfigs:\n"
            .to_owned();
    for number in 0..6 {
        text += &format!("  c{number}: {{file: c{number}}}\n");
        fs::write(dir.join(format!("c{number}")), vec![b'a'; 1000 << 10])?;
    }
    let file = dir.join("stack.yml");
    fs::write(&file, text)?;
    ctl(
        &node,
        &["deploy", "-c", file.to_str().context("a path")?, "s"],
    )?;
    let count = inside(&node, &["sh", "-c", "cat /c? | wc -c"])?;
    assert_eq!(count.trim(), (6 * (1000 << 10)).to_string());
    Ok(())
}

#[test]
fn as_much_as_a_deploy_may_hold_gets_through() {
    let dir = tempfile::tempdir().expect("a folder");
    let lab = Lab::builder().nodes(1).up().expect("a lab");
    if let Err(error) = large(&lab, dir.path()) {
        panic!("{error:?}");
    }
}
