//! A machine whose clock is hours off: what fails by it says so, with both times, and goes on once the clock is right.

use anyhow::{Result, ensure};
use cluster_tests::{Lab, Node, wait_for};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

fn join(node: &Node<'_>, token: &str, manager: &str) -> Result<cluster_tests::Output> {
    node.run(["clusterctl", "join", "--token", token, manager])
}

/// Told by whoever may look, and no longer once it is right.
fn goes_wrong_while_connected(manager: &Node<'_>, node: &Node<'_>) -> Result<()> {
    let status = || manager.run_ok(["clusterctl", "status"]);
    let said = format!("the clock of node {}", node.name());
    ensure!(!status()?.contains("the clock of"), "all clocks are right");
    node.set_clock(HOUR_MS + HOUR_MS / 2)?;
    wait_for("the status names the clock", LIMIT, || {
        Ok(status()?.contains(&said))
    })?;
    let told = status()?;
    ensure!(
        told.contains("is 1 hour ") && told.contains(" ahead of the leader's"),
        "{told}"
    );
    let list = manager.run_ok(["clusterctl", "node", "ls"])?;
    ensure!(
        list.contains("(its clock is 1 hour ") && list.contains(" ahead)"),
        "{list}"
    );
    ensure!(
        node.log_tail(20).contains("this node's clock is"),
        "{}",
        node.log_tail(20)
    );
    node.set_clock(0)?;
    wait_for("the status names it no more", LIMIT, || {
        Ok(!status()?.contains("the clock of"))
    })?;
    wait_for("and its log says so", LIMIT, || {
        Ok(node.log_tail(20).contains("as the leader's again"))
    })
}

fn scenario(lab: &Lab) -> Result<()> {
    let (manager, node) = (lab.node(1), lab.node(2));
    let address = manager.address().to_string();
    manager.run_ok(["clusterctl", "init"])?;
    let token = manager.run_ok(["clusterctl", "join-token", "worker", "-q"])?;
    for (off_ms, way) in [(HOUR_MS, "ahead of"), (-HOUR_MS, "behind")] {
        node.set_clock(off_ms)?;
        let refused = join(&node, token.trim(), &address)?;
        ensure!(!refused.success(), "it has joined: {refused:?}");
        let minutes = ["59", "60"].map(|m| format!("{m} min {way} the manager's at {address}"));
        ensure!(
            minutes.iter().any(|text| refused.stderr.contains(text))
                && refused.stderr.contains("timedatectl set-ntp true"),
            "{refused:?}"
        );
    }
    node.set_clock(0)?;
    join(&node, token.trim(), &address)?.checked()?;
    lab.wait_ready()?;
    goes_wrong_while_connected(&manager, &node)?;
    // It starts again on a day when nobody's certificate was valid yet.
    node.stop()?;
    node.set_clock(-5 * HOUR_MS)?;
    node.start()?;
    wait_for("the node's log says that clocks differ", LIMIT, || {
        let log = node.log_tail(20);
        Ok(log.contains("is not valid before") && log.contains("clocks may be wrong"))
    })?;
    node.set_clock(0)?;
    lab.wait_ready()
}

#[test]
fn a_clock_hours_off_is_named_by_what_fails_of_it() {
    let lab = Lab::builder()
        .nodes(2)
        .init(false)
        .false_clocks()
        .up()
        .expect("a lab");
    scenario(&lab).expect("it is named");
}

const DAY_MS: i64 = 24 * HOUR_MS;

/// What each node's certificate is now.
fn certificates(lab: &Lab) -> Result<Vec<String>> {
    let cat = ["cat", "/var/lib/clusterd/identity/node.crt"];
    lab.nodes().map(|node| node.run_ok(cat)).collect()
}

/// The whole cluster is off, and comes back so many days after its beginning: each node has another certificate.
fn back_after(lab: &Lab, days: i64) -> Result<()> {
    let before = certificates(lab)?;
    for node in lab.nodes() {
        node.stop()?;
        node.set_clock(days * DAY_MS)?;
    }
    for node in lab.nodes() {
        node.start()?;
    }
    lab.wait_ready()?;
    wait_for("each node has another certificate", LIMIT, || {
        let now = certificates(lab)?;
        Ok(before.iter().zip(&now).all(|(before, now)| before != now))
    })?;
    // And they work: a write through a worker, by its new one.
    let (manager, worker) = (lab.node(1), lab.node(4));
    manager.run_ok(["clusterctl", "network", "create", &format!("day{days}")])?;
    let list = worker.run_ok(["clusterctl", "network", "ls"])?;
    ensure!(list.contains(&format!("day{days}")), "{list}");
    Ok(())
}

#[test]
fn certificates_are_renewed_in_time_and_after_all_have_ended_at_once() {
    let lab = Lab::builder()
        .nodes(4)
        .managers(3)
        .false_clocks()
        .up()
        .expect("a lab");
    // They are valid for 90 days; those of day 75 until day 165.
    for days in [75, 175] {
        if let Err(error) = back_after(&lab, days) {
            for node in lab.nodes() {
                eprintln!("{}:\n{}", node.name(), node.log_tail(40));
            }
            panic!("day {days}: {error:?}");
        }
    }
}
