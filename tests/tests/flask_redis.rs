//! The tutorial as a test: two hosts, one Compose file, a page that counts in redis on the other host.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use cluster_tests::{
    Lab, Node,
    lab::{cgroup_roots, links::Cut},
    places, procfs, wait_for,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../vagrant/examples/flask-redis.yml"
);

/// The page as the machine, outside of the lab's nodes, gets it.
fn page(address: Ipv4Addr) -> Result<u64> {
    let limit = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 5000)), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let seen = body.strip_prefix("Hello Container World! I have been seen ");
    let seen = seen
        .and_then(|rest| rest.strip_suffix(" times.\n"))
        .with_context(|| format!("not the page: {answer}"))?;
    Ok(seen.parse()?)
}

/// The first page. A task runs once its process does, and Flask listens some time after that; only then,
/// not later, may the page be missing.
fn first_page(address: Ipv4Addr) -> Result<u64> {
    let mut seen = 0;
    wait_for("Flask listens", LIMIT, || {
        seen = page(address)?;
        Ok(true)
    })?;
    Ok(seen)
}

/// Whatever a task may leave on a node, by kind.
fn traces(node: &Node<'_>) -> Result<BTreeMap<&'static str, String>> {
    let sh = |script: &str| node.run_ok(["sh", "-c", script]);
    let space = procfs::namespace(node.holder_pid()?, "mnt");
    let mut shims = Vec::new();
    for process in procfs::processes()? {
        let line = fs::read(format!("/proc/{}/cmdline", process.id.pid)).unwrap_or_default();
        if procfs::namespace(process.id.pid, "mnt") == space
            && line.split(|b| *b == 0).any(|word| word == b"shim")
        {
            shims.push(String::from_utf8_lossy(&line).into_owned());
        }
    }
    Ok(BTreeMap::from([
        (
            "links and addresses",
            sh("ip -o addr show | awk '{print $2, $3, $4}' | sort; ls /sys/class/net")?,
        ),
        (
            "namespaces",
            sh("ls /run/netns /run/clusterd/netns 2>/dev/null; true")?,
        ),
        (
            "mounts",
            sh("awk '{print $2, $3}' /proc/self/mounts | sort")?,
        ),
        ("nft rules", sh("nft list ruleset")?),
        (
            "containers",
            sh(
                "find /var/lib/clusterd/containers /run/clusterd/containers -mindepth 1 -maxdepth 1 2>/dev/null | sort",
            )?,
        ),
        ("shims", shims.join("\n")),
    ]))
}

fn difference(before: &BTreeMap<&str, String>, now: &BTreeMap<&str, String>) -> Vec<String> {
    let other = before
        .iter()
        .filter(|(kind, text)| now.get(*kind) != Some(*text));
    other
        .map(|(kind, text)| format!("{kind}: before\n{text}\nnow\n{}", now[kind]))
        .collect()
}

fn deployed() -> Result<Lab> {
    let lab = Lab::builder().nodes(2).up()?;
    lab.node(1)
        .run_ok(["clusterctl", "network", "create", "-d", "overlay", "demo"])?;
    for (number, image) in [(1, "flask-redis"), (2, "redis")] {
        let archive = places::image(image)?.display().to_string();
        lab.node(number)
            .run_ok(["clusterctl", "image", "load", "-i", &archive])?;
    }
    Ok(lab)
}

/// Runs a scenario on such a lab. It fails while the lab is still there, so that the logs are kept.
fn on_a_lab(scenario: fn(&Lab) -> Result<()>) {
    let lab = deployed().expect("a lab");
    if let Err(error) = scenario(&lab) {
        panic!("{error:?}");
    }
}

fn deploy(lab: &Lab) -> Result<()> {
    lab.node(1)
        .run_ok(["clusterctl", "deploy", "-c", FILE, "shop"])
        .map(drop)
}

fn rows(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().context("no JSON list")
}

#[test]
fn a_page_counts_across_hosts_and_nothing_is_left_after_it() {
    on_a_lab(counts_and_is_removed);
}

fn counts_and_is_removed(lab: &Lab) -> Result<()> {
    let (node1, node2) = (lab.node(1), lab.node(2));

    let nodes = node2.run_json(["clusterctl", "node", "ls", "--format", "json"])?;
    let leaders: Vec<&Value> = rows(&nodes)?
        .iter()
        .filter(|n| n["leader"] == true)
        .collect();
    ensure!(
        leaders.len() == 1 && leaders[0]["description"]["hostname"] == "node1",
        "leaders: {leaders:?}"
    );
    let networks = node2.run_json(["clusterctl", "network", "ls", "--format", "json"])?;
    ensure!(
        rows(&networks)?.iter().any(|n| n["spec"]["name"] == "demo"),
        "node2 lists {networks}"
    );

    let before = [traces(&node1)?, traces(&node2)?];
    deploy(lab)?;
    let tasks = node2.run_json(["clusterctl", "stack", "ps", "shop", "--format", "json"])?;
    let tasks = rows(&tasks)?;
    let places: BTreeMap<_, _> = tasks
        .iter()
        .filter_map(|t| Some((t["name"].as_str()?, t["hostname"].as_str()?)))
        .collect();
    assert_eq!(
        places,
        BTreeMap::from([("shop_redis.1", "node2"), ("shop_web.1", "node1")])
    );

    let first = first_page(node1.address())?;
    assert_eq!(
        [page(node1.address())?, page(node1.address())?],
        [first + 1, first + 2]
    );

    let hits = node1.run_ok([
        "clusterctl",
        "exec",
        "shop_redis.1",
        "redis-cli",
        "get",
        "hits",
    ])?;
    assert_eq!(
        hits.trim(),
        (first + 2).to_string(),
        "redis on node2 holds what the page showed"
    );
    let code = node2
        .run(["clusterctl", "exec", "shop_web.1", "sh", "-c", "exit 7"])?
        .code();
    assert_eq!(code, 7, "exec passes the exit code on");
    // Each stream comes on its own: Flask greets on stdout and logs requests on stderr.
    let logs = node2
        .run(["clusterctl", "service", "logs", "shop_web"])?
        .checked()?;
    assert!(
        logs.stdout.contains("Serving Flask app"),
        "stdout, from the other node: {logs:?}"
    );
    assert!(
        logs.stderr.contains("GET / HTTP/1.0"),
        "stderr, from the other node: {logs:?}"
    );

    let refused = node2.run(["clusterctl", "service", "scale", "shop_redis=2"])?;
    assert!(
        !refused.success() && refused.stderr.contains("run it on a manager"),
        "{refused:?}"
    );
    node1.run_ok(["clusterctl", "service", "scale", "shop_redis=2"])?;
    let all = node1.run_json([
        "clusterctl",
        "service",
        "ps",
        "shop_redis",
        "--format",
        "json",
    ])?;
    let running = rows(&all)?
        .iter()
        .filter(|t| t["status"]["state"] == "running");
    assert_eq!(running.count(), 2, "{all}");

    let tasks = node1.run_json(["clusterctl", "stack", "ps", "shop", "--format", "json"])?;
    let ids: Vec<String> = rows(&tasks)?
        .iter()
        .filter_map(|t| Some(t["id"].as_str()?.to_owned()))
        .collect();
    let pids: Vec<i64> = rows(&tasks)?
        .iter()
        .filter_map(|t| t["status"]["pid"].as_i64())
        .collect();
    assert_eq!((ids.len(), pids.len()), (3, 3), "{tasks}");
    for (node, before) in [(node1, &before[0]), (node2, &before[1])] {
        let now = traces(&node)?;
        let alike: Vec<_> = before
            .iter()
            .filter(|(kind, text)| now[*kind] == **text)
            .map(|(kind, _)| *kind)
            .collect();
        // Only the page has a published port, and with it rules of the node.
        let expected = if node.name() == "node1" {
            vec![]
        } else {
            vec!["nft rules"]
        };
        assert_eq!(
            alike,
            expected,
            "a running task must show on {}, or the end proves nothing",
            node.name()
        );
    }

    node1.run_ok(["clusterctl", "stack", "rm", "shop"])?;
    for (node, before) in [(node1, &before[0]), (node2, &before[1])] {
        wait_for(format!("{} is as before", node.name()), LIMIT, || {
            let left = difference(before, &traces(&node)?);
            if left.is_empty() {
                Ok(true)
            } else {
                bail!("{}", left.join("\n"))
            }
        })?;
    }
    for pid in pids {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "process {pid} is left"
        );
    }
    for (root, id) in cgroup_roots()
        .iter()
        .flat_map(|root| ids.iter().map(move |id| (root, id)))
    {
        assert!(
            !root.join("clusterd").join(id).exists(),
            "cgroup {id} is left in {}",
            root.display()
        );
    }
    let services = node2.run_json(["clusterctl", "service", "ls", "--format", "json"])?;
    assert!(rows(&services)?.is_empty(), "{services}");
    node1
        .run_ok(["clusterctl", "network", "rm", "demo"])
        .map(drop)
}

#[test]
fn the_page_counts_on_while_every_clusterd_is_killed_and_returns() {
    on_a_lab(killed_and_returns);
}

fn killed_and_returns(lab: &Lab) -> Result<()> {
    deploy(lab)?;
    let first = first_page(lab.node(1).address())?;
    let pids = |lab: &Lab| -> Result<Vec<i64>> {
        let tasks =
            lab.node(1)
                .run_json(["clusterctl", "stack", "ps", "shop", "--format", "json"])?;
        Ok(rows(&tasks)?
            .iter()
            .filter_map(|t| t["status"]["pid"].as_i64())
            .collect())
    };
    let before = pids(lab)?;
    for node in lab.nodes() {
        node.kill()?;
    }
    assert_eq!(
        page(lab.node(1).address())?,
        first + 1,
        "with no clusterd running"
    );
    for node in lab.nodes() {
        node.start()?;
    }
    lab.wait_ready()?;
    assert_eq!(
        page(lab.node(1).address())?,
        first + 2,
        "with a new clusterd on each node"
    );
    assert_eq!(pids(lab)?, before, "the same processes run");
    Ok(())
}

#[test]
fn a_cut_between_the_hosts_heals() {
    on_a_lab(cut_and_healed);
}

fn cut_and_healed(lab: &Lab) -> Result<()> {
    deploy(lab)?;
    let first = first_page(lab.node(1).address())?;
    lab.node(2).cut(Cut::Unplugged)?;
    lab.node(2).heal()?;
    lab.wait_ready()?;
    wait_for("the page counts again", LIMIT, || {
        Ok(page(lab.node(1).address())? > first)
    })
}
