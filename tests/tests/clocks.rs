//! A machine whose clock is hours off: what fails by it says so, with both times, and goes on once the clock is right.

use anyhow::{Result, ensure};
use cluster_tests::{Lab, Node, wait_for};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

fn join(node: &Node<'_>, token: &str, manager: &str) -> Result<cluster_tests::Output> {
    node.run(["clusterctl", "join", "--token", token, manager])
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
