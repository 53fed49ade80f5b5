//! What brings a cluster back that has lost its managers, and that workers' containers don't notice.

use anyhow::{Context, Result};
use cluster_tests::{Lab, Node, places, wait_for};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const PASSPHRASE: &str = "CLUSTERCTL_PASSPHRASE=correct horse";
/// A task on each node of the label, which outlives whatever becomes of managers.
const STACK: &str = "
services:
  t:
    image: busybox:1
    command: sleep 100000
    networks: [n]
    deploy:
      placement: {constraints: [node.hostname==HOST]}
networks: {n: {}}
";

fn deploy(on: &Node<'_>, asked: &Node<'_>) -> Result<()> {
    let archive = places::image("busybox")?.display().to_string();
    on.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    let stack = STACK.replace("HOST", on.name());
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    asked.run_ok(["sh", "-c", deploy, "sh", &stack])?;
    Ok(())
}

/// Id, process and state of the one task.
fn task(node: &Node<'_>) -> Result<(String, i64, String)> {
    let rows = node.run_json(["clusterctl", "service", "ps", "s_t", "--format", "json"])?;
    let row = rows.pointer("/0").context("no task")?;
    let text = |pointer: &str| {
        row.pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Ok((
        text("/id").context("no id")?,
        row.pointer("/status/pid")
            .and_then(Value::as_i64)
            .unwrap_or_default(),
        text("/status/state").context("no state")?,
    ))
}

fn is_alive(pid: i64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// What a command that has to be refused says.
fn refused(node: &Node<'_>, words: &[&str]) -> Result<String> {
    let output = node.run(words.iter().copied())?;
    anyhow::ensure!(
        output.status.code() == Some(1),
        "{words:?} was not refused: {}",
        output.stdout
    );
    Ok(output.stderr)
}

fn ready(node: &Node<'_>, wanted: usize) -> Result<()> {
    wait_for(format!("{wanted} nodes are ready"), LIMIT, || {
        let rows = node.run_json(["clusterctl", "node", "ls", "--format", "json"])?;
        let rows = rows.as_array().context("no list")?;
        let is_ready =
            |row: &&Value| row.pointer("/status/state").and_then(Value::as_str) == Some("ready");
        Ok(rows.len() == wanted && rows.iter().filter(is_ready).count() == wanted)
    })
}

/// The machine is set up anew: nothing of a cluster is on it.
fn wipe(node: &Node<'_>) -> Result<()> {
    node.kill()?;
    node.run_ok([
        "sh",
        "-c",
        "cd /var/lib/clusterd && rm -rf raft identity agent containers",
    ])?;
    node.start()
}

fn scheduled(manager: &Node<'_>, dir: &Path) -> Result<()> {
    let schedule = |dir: &Path| {
        let dir = dir.display().to_string();
        let words = [
            "env",
            PASSPHRASE,
            "clusterctl",
            "backup",
            "schedule",
            "--every",
            "1h",
        ];
        manager.run_ok(words.into_iter().chain(["--keep", "2", "--dir", &dir]))
    };
    // A folder that can't be made: `status` says so, and nothing else is wrong.
    std::fs::write(dir.with_extension("file"), "")?;
    let shown = ["clusterctl", "backup", "schedule"];
    assert!(manager.run_ok(shown)?.contains("No backups are made"));
    schedule(&dir.with_extension("file"))?;
    let plan = manager.run_json(shown.into_iter().chain(["--format", "json"]))?;
    assert_eq!(
        (&plan["every_ms"], &plan["keep"]),
        (&3_600_000.into(), &2.into())
    );
    wait_for("the failure is told", LIMIT, || {
        let said = manager.run_ok(["clusterctl", "status"])?;
        Ok(said.contains("the scheduled backup was not made on node1"))
    })?;
    schedule(dir)?;
    let mut path = String::new();
    wait_for("the first is made", LIMIT, || {
        let rows = manager.run_json(["clusterctl", "backup", "ls", "--format", "json"])?;
        let made = rows.as_array().context("no list")?.iter();
        let mut made = made.filter(|row| row.pointer("/by_hand") == Some(&Value::Bool(false)));
        let first = made.next().and_then(|row| row.pointer("/path")?.as_str());
        first.unwrap_or_default().clone_into(&mut path);
        Ok(!path.is_empty())
    })?;
    manager.run_ok(["clusterctl", "backup", "inspect", &path])?;
    let said = manager.run_ok(["clusterctl", "status"])?;
    assert!(!said.contains("was not made"), "{said}");
    manager.run_ok(["clusterctl", "backup", "schedule", "--off"])?;
    assert!(Path::new(&path).exists());
    Ok(())
}

fn restored(lab: &Lab, dir: &Path) -> Result<()> {
    let (manager, worker) = (lab.node(1), lab.node(2));
    deploy(&worker, &manager)?;
    let before = task(&manager)?;
    let file = dir.join("cluster.backup");
    let path = file.display().to_string();
    let backup = ["env", PASSPHRASE, "clusterctl", "backup", &path];
    let said = manager.run_ok(backup)?;
    assert!(said.contains("restored into a scratch store"), "{said}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(&file)?.permissions().mode() & 0o777,
        0o600
    );
    let again = refused(&manager, &backup)?;
    assert!(again.contains("is there already"), "{again}");
    let shown = manager.run_json(["clusterctl", "backup", "inspect", &path, "--format", "json"])?;
    assert_eq!(shown.pointer("/nodes").and_then(Value::as_u64), Some(2));
    let status = manager.run_json(["clusterctl", "status", "--format", "json"])?;
    let last = status.pointer("/last_backup").and_then(Value::as_str);
    assert!(last.is_some_and(|last| last.contains(&path)), "{status}");
    scheduled(&manager, &dir.join("scheduled"))?;
    // Lost with the manager.
    manager.run_ok(["clusterctl", "network", "create", "later"])?;
    let restore = ["env", PASSPHRASE, "clusterctl", "restore", &path];
    // Nobody is asked for the passphrase of what is refused anyway.
    let here = refused(&manager, &restore[2..])?;
    assert!(here.contains("--force-new-cluster"), "{here}");

    wipe(&manager)?;
    let whole = std::fs::read(&file)?;
    let bad = dir.join("bad.backup");
    let bad_path = bad.display().to_string();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (bytes, why) in [
        (&flipped[..], "is damaged"),
        (&whole[..whole.len() - 100], "cut short"),
        (b"something else", "no backup of a cluster"),
    ] {
        std::fs::write(&bad, bytes)?;
        let said = refused(
            &manager,
            &["env", PASSPHRASE, "clusterctl", "restore", &bad_path],
        )?;
        assert!(said.contains(why), "{why}: {said}");
    }
    let wrong = "CLUSTERCTL_PASSPHRASE=battery staple";
    let said = refused(&manager, &["env", wrong, "clusterctl", "restore", &path])?;
    assert!(said.contains("the passphrase is not the one"), "{said}");
    let other = "--cluster=0000000000000000000000001";
    let said = refused(
        &manager,
        &["env", PASSPHRASE, "clusterctl", "restore", other, &path],
    )?;
    assert!(said.contains("this is a backup of cluster"), "{said}");

    let said = manager.run_ok(restore)?;
    assert!(
        said.contains("Next:") && said.contains(worker.name()),
        "{said}"
    );
    ready(&manager, 2)?;
    wait_for("the task is known to run", LIMIT, || {
        Ok(task(&manager)? == before)
    })?;
    assert!(
        is_alive(before.1),
        "the container did not outlive its managers"
    );
    manager.run_ok(["clusterctl", "network", "create", "later"])?;
    // The worker is still told what to do.
    manager.run_ok(["clusterctl", "stack", "rm", "s"])?;
    assert!(!is_alive(before.1));
    // A restart goes on with it.
    manager.kill()?;
    manager.start()?;
    ready(&manager, 2)
}

#[test]
fn a_cluster_that_lost_all_managers_is_restored_and_its_containers_run_on() {
    let lab = Lab::builder().nodes(2).up().expect("a lab");
    let dir = tempfile::tempdir().expect("a folder");
    if let Err(error) = restored(&lab, dir.path()) {
        panic!("{error:?}");
    }
}

fn forced(lab: &Lab) -> Result<()> {
    let (left, lost, worker) = (lab.node(1), lab.node(2), lab.node(4));
    deploy(&worker, &left)?;
    let before = task(&left)?;
    let force = ["clusterctl", "init", "--force-new-cluster"];
    let said = refused(&left, &force)?;
    assert!(said.contains("3 of 3 managers can be reached"), "{said}");
    lab.node(2).kill()?;
    lab.node(3).kill()?;
    let status = left.run(["clusterctl", "status"])?.stdout;
    let states = status.lines().filter(|line| line.contains("unreachable"));
    assert_eq!(states.count(), 2, "one of them has led: {status}");
    for words in [
        &["clusterctl", "network", "create", "n1"][..],
        &["clusterctl", "status"],
    ] {
        let said = refused(&left, words)?;
        assert!(
            said.contains("1 of 3 managers can be reached")
                && said.contains("bring a manager back")
                && said.contains("init --force-new-cluster"),
            "{said}"
        );
    }
    let said = left.run_ok(force)?;
    assert!(said.contains("node2") && said.contains("node3"), "{said}");
    ready(&left, 2)?;
    wait_for("the task is known to run", LIMIT, || {
        Ok(task(&left)? == before)
    })?;
    assert!(
        is_alive(before.1),
        "the container did not outlive its managers"
    );
    // The change that nobody could confirm may have been made, as was said.
    left.run_ok(["clusterctl", "network", "create", "n0"])?;
    // One that was given up comes back: it can't take part, nor disturb, until it joins anew.
    lost.start()?;
    let said = refused(&lost, &["clusterctl", "network", "create", "n2"])?;
    let is_told = |said: &str| {
        said.contains("was removed from the cluster") && said.contains("clusterctl leave --force")
    };
    assert!(is_told(&said), "{said}");
    let said = refused(&lost, &force)?;
    assert!(is_told(&said), "two clusters of one: {said}");
    left.run_ok(["clusterctl", "network", "create", "n2"])?;
    // The third can't be asked: it may count on this one.
    let said = refused(&lost, &["clusterctl", "leave"])?;
    assert!(is_told(&said), "{said}");
    let forced = lost.run(["clusterctl", "leave", "--force"])?.checked()?;
    assert!(!forced.stderr.contains("node rm"), "{}", forced.stderr);
    let token = left.run_ok(["clusterctl", "join-token", "manager", "-q"])?;
    let target = format!("{}:2377", left.address());
    lost.run_ok(["clusterctl", "join", "--token", token.trim(), &target])?;
    ready(&lost, 3)?;
    let status = lost.run_json(["clusterctl", "status", "--format", "json"])?;
    let managers = status.pointer("/managers").and_then(Value::as_array);
    assert_eq!(managers.map(Vec::len), Some(2), "{status}");
    assert_eq!(task(&lost)?, before);
    Ok(())
}

#[test]
fn one_of_three_managers_goes_on_alone_and_containers_run_on() {
    let lab = Lab::builder().nodes(4).managers(3).up().expect("a lab");
    if let Err(error) = forced(&lab) {
        panic!("{error:?}");
    }
}
