//! The rows, measured alike on either system.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{NODES, System, Task, figure::Figure, loss, memory, net, resolve, scale};
use crate::wait_for;

/// The rows of both systems, in the order they are measured.
pub const ROWS: [&str; 9] = [
    "deploy-overlay-30",
    "deploy-overlay-100",
    "remove-100",
    "memory",
    "throughput",
    "name-resolves",
    "worker-loss",
    "writes",
    // The last: not every system is whole after it.
    "leader-loss",
];

const LIMIT: Duration = Duration::from_secs(300);
/// Durable writes by one client; more clients make four times as many.
const WRITES: usize = 1000;
/// How often the throughput pairs and the names are measured.
const REPEATS: usize = 5;

/// All rows, those that only this project has behind the others.
fn all_rows() -> impl Iterator<Item = &'static str> {
    ROWS.into_iter().chain(scale::ROWS)
}

/// Which rows are wanted: a word names a row or the beginning of some. No words name all.
pub fn wanted(words: &[String]) -> Result<Vec<&'static str>> {
    for word in words {
        if !all_rows().any(|row| row.starts_with(word.as_str())) {
            let all: Vec<_> = all_rows().collect();
            anyhow::bail!("there is no row {word:?}; there are {}", all.join(", "));
        }
    }
    let named =
        |row: &&str| words.is_empty() || words.iter().any(|word| row.starts_with(word.as_str()));
    Ok(all_rows().filter(named).collect())
}

/// Measures the wanted rows on one system, handing out each figure at once.
pub fn measure(
    system: &dyn System,
    rows: &[&str],
    mut found: impl FnMut(Option<Figure>) -> Result<()>,
) -> Result<()> {
    let name = system.name();
    let idle = system.daemons_mib()?;
    // The first task of a node makes its network, on either system.
    deploy(system, "warm", NODES)?;
    remove(system, "warm")?;
    if rows.contains(&"deploy-overlay-30") {
        let seconds = deploy(system, "b30", 30)?;
        found(Figure::of("deploy-overlay-30", name, "s", &[seconds]))?;
        remove(system, "b30")?;
    }
    if ["deploy-overlay-100", "remove-100", "memory"]
        .iter()
        .any(|row| rows.contains(row))
    {
        let seconds = deploy(system, "b100", 100)?;
        if rows.contains(&"deploy-overlay-100") {
            found(Figure::of("deploy-overlay-100", name, "s", &[seconds]))?;
        }
        if rows.contains(&"memory") {
            found(Figure::of(
                "memory-daemons-idle-per-node",
                name,
                "MiB",
                &idle,
            ))?;
            found(Figure::of(
                "memory-daemons-at-100-per-node",
                name,
                "MiB",
                &system.daemons_mib()?,
            ))?;
            let shims = system.shims()?;
            let all = |of: fn(i32) -> Result<f64>| {
                shims.iter().map(|pid| of(*pid)).collect::<Result<Vec<_>>>()
            };
            found(Figure::of(
                "memory-shim-resident",
                name,
                "MiB",
                &all(memory::resident_mib)?,
            ))?;
            found(Figure::of(
                "memory-shim-proportional",
                name,
                "MiB",
                &all(memory::proportional_mib)?,
            ))?;
        }
        let seconds = remove(system, "b100")?;
        if rows.contains(&"remove-100") {
            found(Figure::of("remove-100", name, "s", &[seconds]))?;
        }
    }
    if rows.contains(&"throughput") {
        throughput(system, &mut found)?;
    }
    if rows.contains(&"name-resolves") {
        found(Figure::of(
            "name-resolves",
            name,
            "ms",
            &name_resolves(system)?,
        ))?;
    }
    if rows.contains(&"worker-loss") {
        found(Figure::of(
            "worker-loss",
            name,
            "s",
            &[loss::worker(system)?],
        ))?;
    }
    if rows.contains(&"writes") {
        let one = system.writes("one", 1, WRITES)?;
        let many = system.writes("many", system.many_clients(), 4 * WRITES)?;
        for figure in one.figures("writes-1", name) {
            found(figure)?;
        }
        for figure in many.figures("writes-many", name) {
            found(figure)?;
        }
    }
    if rows.contains(&"leader-loss") {
        found(Figure::of("leader-loss", name, "s", &loss::leader(system)?))?;
    }
    Ok(())
}

/// Seconds from asking for a service until all its tasks run.
fn deploy(system: &dyn System, service: &str, replicas: usize) -> Result<f64> {
    let start = Instant::now();
    system.deploy(service, replicas, None)?;
    let mut last = 0;
    wait_for(format!("{replicas} tasks of {service} run"), LIMIT, || {
        last = system.running(service)?;
        Ok(last >= replicas)
    })
    .with_context(|| format!("{last} do, on {}", system.name()))?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds from removing a service until no node has a container any more.
pub fn remove(system: &dyn System, service: &str) -> Result<f64> {
    let start = Instant::now();
    system.remove(service)?;
    wait_for("no container is left", LIMIT, || {
        Ok(system.containers()? == 0)
    })?;
    Ok(start.elapsed().as_secs_f64())
}

fn one_task(system: &dyn System, service: &str, node: &str) -> Result<Task> {
    system.deploy(service, 1, Some(node))?;
    let mut task = None;
    wait_for(
        format!("the task of {service} runs on {node}"),
        LIMIT,
        || {
            task = system.tasks(service)?.into_iter().next();
            Ok(task.is_some())
        },
    )?;
    task.with_context(|| format!("{service} has no task"))
}

/// One TCP stream: the nodes' own network, the overlay, and a VXLAN made by hand, in turns.
fn throughput(
    system: &dyn System,
    found: &mut impl FnMut(Option<Figure>) -> Result<()>,
) -> Result<()> {
    let (client, server) = (
        one_task(system, "tcp1", "node1")?,
        one_task(system, "tcp2", "node2")?,
    );
    let hand = net::ByHand::make(system.lab())?;
    let (node1, node2) = (system.lab().node(1), system.lab().node(2));
    let (mut raw, mut overlay, mut by_hand) = (vec![], vec![], vec![]);
    for _ in 0..REPEATS {
        overlay.push(net::throughput_gbit(
            client.pid,
            server.pid,
            &server.address.to_string(),
        )?);
        by_hand.push(hand.throughput_gbit()?);
        let address = node2.address().to_string();
        raw.push(net::throughput_gbit(
            node1.holder_pid()?,
            node2.holder_pid()?,
            &address,
        )?);
    }
    let name = system.name();
    let percent: Vec<f64> = overlay
        .iter()
        .zip(&by_hand)
        .map(|(o, h)| o / h * 100.0)
        .collect();
    found(Figure::of("throughput-overlay", name, "Gbit/s", &overlay))?;
    found(Figure::of(
        "throughput-vxlan-by-hand",
        name,
        "Gbit/s",
        &by_hand,
    ))?;
    found(Figure::of("throughput-nodes", name, "Gbit/s", &raw))?;
    found(Figure::of(
        "throughput-overlay-of-by-hand",
        name,
        "%",
        &percent,
    ))?;
    drop(hand);
    system.remove("tcp2")?;
    remove(system, "tcp1").map(drop)
}

/// Milliseconds from a task's Running on node2 until its name resolves in a task on node1.
fn name_resolves(system: &dyn System) -> Result<Vec<f64>> {
    let client = one_task(system, "asker", "node1")?;
    let mut all = Vec::new();
    for number in 0..REPEATS {
        let service = format!("named{number}");
        // The tasks' own name: a service's may have its virtual address before anything runs.
        let name = format!("tasks.{}", system.dns_name(&service));
        let watch = resolve::watch(client.pid, &name, LIMIT);
        let task = one_task(system, &service, "node2")?;
        let resolved = watch
            .join()
            .map_err(|_| anyhow::anyhow!("the asking thread panicked"))??;
        // Before Running, when the name comes first.
        all.push(((resolved - task.running_since) * 1000.0).max(0.0));
        system.remove(&service)?;
    }
    remove(system, "asker")?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_rows() {
        let of =
            |words: &[&str]| wanted(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            of(&[]).expect("all"),
            [&ROWS[..], &scale::ROWS[..]].concat()
        );
        assert_eq!(
            of(&["deploy", "memory"]).expect("some"),
            ["deploy-overlay-30", "deploy-overlay-100", "memory"]
        );
        assert!(
            of(&["speed"])
                .expect_err("none")
                .to_string()
                .contains("name-resolves")
        );
    }
}
