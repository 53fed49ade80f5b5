//! Nodes change their roles, and the cluster its CA, while a service runs: no container is touched. The CA may be one's
//! own.

use anyhow::{Context, Result, ensure};
use cluster_tests::{Lab, Node, places, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const STACK: &str = "
services:
  t:
    image: busybox:1
    command: sleep 100000
    networks: [n]
    deploy: {replicas: 3}
networks: {n: {}}
";

/// The processes of the service's tasks, by task.
fn pids(node: &Node<'_>) -> Result<BTreeMap<String, i64>> {
    let rows = node.run_json(["clusterctl", "service", "ps", "s_t", "--format", "json"])?;
    let rows = rows.as_array().context("no list")?;
    let pid = |row: &Value| {
        let id = row.pointer("/id")?.as_str()?.to_owned();
        Some((id, row.pointer("/status/pid")?.as_i64()?))
    };
    rows.iter().map(|row| pid(row).context("no pid")).collect()
}

/// What `node ls` says of each node among the managers.
fn managers(node: &Node<'_>) -> Result<Vec<String>> {
    let list = node.run_ok(["clusterctl", "node", "ls"])?;
    let words = list.lines().skip(1).map(|line| {
        let at = list.lines().next().and_then(|head| head.find("MANAGER"));
        let rest = at.and_then(|at| line.get(at..)).unwrap_or_default();
        let word = rest.split_whitespace().next().unwrap_or_default();
        // A worker's next column is its address.
        word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
            .to_owned()
    });
    Ok(words.collect())
}

fn count(words: &[String]) -> (usize, usize) {
    let of = |what: &str| words.iter().filter(|word| *word == what).count();
    (of("leader"), of("reachable"))
}

fn daemon(node: &Node<'_>) -> Result<String> {
    node.run_ok([
        "sh",
        "-c",
        "cat /proc/net/unix | grep -c clusterd.sock; stat -c %Y /run/clusterd/clusterd.sock",
    ])
}

/// The service, with its image on every node.
fn deploy(lab: &Lab) -> Result<()> {
    let archive = places::image("busybox")?.display().to_string();
    for node in lab.nodes() {
        node.run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    }
    let deploy = r#"printf "%s" "$1" | clusterctl deploy -c - s"#;
    lab.node(1).run_ok(["sh", "-c", deploy, "sh", STACK])?;
    Ok(())
}

fn scenario(lab: &Lab) -> Result<()> {
    let (first, second, third) = (lab.node(1), lab.node(2), lab.node(3));
    deploy(lab)?;
    let before = pids(&first)?;
    ensure!(before.len() == 3, "{before:?}");
    let daemons: Vec<_> = lab
        .nodes()
        .map(|node| daemon(&node))
        .collect::<Result<_>>()?;

    // The only manager stays one.
    let refused = first.run(["clusterctl", "node", "demote", "node1"])?;
    ensure!(!refused.status.success(), "the last manager was demoted");
    ensure!(
        refused.stderr.contains("node1 stays a manager") && refused.stderr.contains("last manager"),
        "{}",
        refused.stderr
    );

    let two = first
        .run(["clusterctl", "node", "promote", "node2"])?
        .checked()?;
    ensure!(two.stderr.contains("two managers now"), "{}", two.stderr);
    first.run_ok(["clusterctl", "node", "promote", "node3"])?;
    // Twice is once; and a new manager's own socket takes what only managers' take.
    third.run_ok(["clusterctl", "node", "promote", "node3", "node2"])?;
    assert_eq!(count(&managers(&second)?), (1, 2));
    assert_eq!(pids(&third)?, before, "a promotion touched a container");

    // The leader, by its own word: another leads.
    first.run_ok(["clusterctl", "node", "demote", "node1"])?;
    assert_eq!(count(&managers(&second)?), (1, 1));
    let gone = first.run_ok(["sh", "-c", "ls /var/lib/clusterd"])?;
    ensure!(!gone.contains("raft"), "its state stayed: {gone}");
    // It is a worker as any other.
    let refused = first.run(["clusterctl", "network", "create", "late"])?;
    ensure!(
        refused.stderr.contains("this node is a worker"),
        "{}",
        refused.stderr
    );
    assert_eq!(pids(&first)?, before, "a demotion touched a container");

    // Cut off in the middle, it goes on.
    first.kill()?;
    second.run_ok(["clusterctl", "node", "promote", "-d", "node1"])?;
    first.start()?;
    wait_for("node1 leads or follows again", LIMIT, || {
        Ok(count(&managers(&second)?) == (1, 2))
    })?;

    // A new CA, under all of it.
    let token = second.run_ok(["clusterctl", "join-token", "-q", "worker"])?;
    second.run_ok(["clusterctl", "ca", "rotate"])?;
    let shown = third.run_json(["clusterctl", "ca", "show", "--format", "json"])?;
    assert_eq!(shown["rotating"], false);
    let digest = shown["digest"].as_str().context("no digest")?;
    let rotated = second.run_ok(["clusterctl", "join-token", "-q", "worker"])?;
    ensure!(
        rotated.contains(digest) && !token.contains(digest),
        "{rotated}"
    );
    for node in lab.nodes() {
        wait_for("only the new root is trusted", LIMIT, || {
            let count =
                node.run_ok(["grep", "-c", "BEGIN", "/var/lib/clusterd/identity/ca.crt"])?;
            Ok(count.trim() == "1")
        })?;
    }
    third.run_ok(["clusterctl", "network", "create", "after"])?;
    assert_eq!(pids(&second)?, before, "a new CA touched a container");
    let now: Vec<_> = lab
        .nodes()
        .skip(1)
        .map(|node| daemon(&node))
        .collect::<Result<_>>()?;
    assert_eq!(now, daemons[1..], "a daemon was started again");
    rotation_without_its_leader(lab, &before)?;

    let left = first.run(["clusterctl", "leave"])?.checked()?;
    ensure!(left.stderr.contains("two managers now"), "{}", left.stderr);
    Ok(())
}

/// Whoever has begun to replace the CA is killed in the middle: another goes on, and the one that comes back follows.
fn rotation_without_its_leader(lab: &Lab, before: &BTreeMap<String, i64>) -> Result<()> {
    let any = lab.node(1);
    let words = managers(&any)?;
    let leads = words.iter().position(|word| word == "leader");
    let leader = lab.node(leads.context("nobody leads")? + 1);
    let other = lab
        .nodes()
        .find(|node| node.name() != leader.name())
        .context("no other")?;
    let old = other.run_json(["clusterctl", "ca", "show", "--format", "json"])?;
    leader.run_ok(["clusterctl", "ca", "rotate", "-d"])?;
    leader.kill()?;
    let shown = |of: &str| {
        let shown = other.run_json(["clusterctl", "ca", "show", "--format", "json"])?;
        anyhow::Ok(shown[of].clone())
    };
    wait_for("another leads and has the new CA", LIMIT, || {
        Ok(shown("digest").is_ok_and(|digest| digest != old["digest"]))
    })?;
    assert_eq!(shown("rotating")?, true, "not before all have it");
    leader.start()?;
    wait_for("the new CA is the only one", LIMIT, || {
        Ok(shown("rotating").is_ok_and(|rotating| rotating == false))
    })?;
    leader.run_ok(["clusterctl", "network", "create", "last"])?;
    assert_eq!(&pids(&other)?, before, "the new CA touched a container");
    Ok(())
}

#[test]
fn roles_and_the_ca_change_under_a_running_service() {
    let lab = Lab::builder().nodes(3).managers(1).up().expect("a lab");
    if let Err(error) = scenario(&lab) {
        for node in lab.nodes() {
            eprintln!("{}:\n{}", node.name(), node.log_tail(40));
        }
        panic!("{error:?}");
    }
}

/// A CA as a company makes one, with openssl, and its key of that kind: the paths of both.
fn own_ca(dir: &Path, name: &str, kind: &[&str]) -> Result<(String, String)> {
    let path = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
    let (cert, key) = (path("crt"), path("key"));
    let subject = format!("/O=Example/CN={name}");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "3650", "-subj", &subject])
        .args(kind)
        .args(["-out", &cert, "-keyout", &key])
        .output()
        .context("openssl is not installed")?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "{said}");
    Ok((cert, key))
}

/// By openssl, the node's certificate is of this CA.
fn is_certified(node: &Node<'_>, ca: &str) -> Result<bool> {
    let verify = "openssl verify -CAfile \"$1\" /var/lib/clusterd/identity/node.crt";
    Ok(node.run(["sh", "-c", verify, "sh", ca])?.success())
}

fn own_cas(lab: &Lab, dir: &Path) -> Result<()> {
    let (manager, worker) = (lab.node(1), lab.node(2));
    let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    let (first, first_key) = own_ca(dir, "first", &p256)?;
    let (second, second_key) = own_ca(dir, "second", &["-newkey", "rsa:2048"])?;
    let init = |cert: &str, key: &str| {
        manager.run(["clusterctl", "init", "--ca-cert", cert, "--ca-key", key])
    };
    // What does not fit together makes no cluster.
    for (cert, key, why) in [
        (&first, &second_key, "the key is not the certificate's"),
        (&first_key, &first_key, "give one certificate in PEM"),
        (&first, &first, "its key can't be read"),
    ] {
        let refused = init(cert, key)?;
        ensure!(
            !refused.success() && refused.stderr.contains(why),
            "{refused:?}"
        );
    }
    ensure!(
        !manager.run(["clusterctl", "status"])?.success(),
        "a cluster was made"
    );

    init(&first, &first_key)?.checked()?;
    let token = manager.run_ok(["clusterctl", "join-token", "-q", "worker"])?;
    let address = manager.address().to_string();
    worker.run_ok(["clusterctl", "join", "--token", token.trim(), &address])?;
    lab.wait_ready()?;
    for node in lab.nodes() {
        ensure!(
            is_certified(&node, &first)?,
            "{} has no certificate of it",
            node.name()
        );
    }
    deploy(lab)?;
    let before = pids(&manager)?;

    // The company's CA is replaced by its next, which has another kind of key.
    let rotate = [
        "clusterctl",
        "ca",
        "rotate",
        "--ca-cert",
        &second,
        "--ca-key",
        &second_key,
    ];
    manager.run_ok(rotate)?;
    let shown = manager.run_json(["clusterctl", "ca", "show", "--format", "json"])?;
    let subject = shown["subject"].as_str().unwrap_or_default();
    ensure!(subject.contains("second"), "{shown}");
    for node in lab.nodes() {
        wait_for("its certificate is the new CA's", LIMIT, || {
            is_certified(&node, &second)
        })?;
    }
    worker.run_ok(["clusterctl", "node", "ls"])?;
    assert_eq!(pids(&manager)?, before, "a new CA touched a container");
    Ok(())
}

#[test]
fn the_ca_may_be_ones_own_from_the_beginning() {
    let lab = Lab::builder().nodes(2).init(false).up().expect("a lab");
    let dir = tempfile::tempdir().expect("a folder");
    if let Err(error) = own_cas(&lab, dir.path()) {
        for node in lab.nodes() {
            eprintln!("{}:\n{}", node.name(), node.log_tail(40));
        }
        panic!("{error:?}");
    }
}
