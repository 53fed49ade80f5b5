//! What is lost, and how soon it is made good: a worker that is cut off, a leader that is killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{NODES, System};
use crate::{lab::links::Cut, wait_for};

/// Tasks that are to run on.
const TASKS: usize = 6;
/// How often the leader is killed, where it can be started again.
const KILLS: usize = 20;
const LIMIT: Duration = Duration::from_secs(120);

/// Seconds from a node's cable being cut until all tasks run on the others.
pub fn worker(system: &dyn System) -> Result<f64> {
    const SERVICE: &str = "survive";
    let leader = system.leader()?;
    let victim = (1..=NODES)
        .rev()
        .find(|number| *number != leader)
        .context("there is one node only")?;
    let node = system.lab().node(victim);
    system.deploy(SERVICE, TASKS, None)?;
    let elsewhere = || -> Result<usize> {
        let tasks = system.tasks(SERVICE)?;
        Ok(tasks.iter().filter(|t| t.node != node.name()).count())
    };
    wait_for("all tasks run", LIMIT, || {
        Ok(system.running(SERVICE)? >= TASKS)
    })?;
    anyhow::ensure!(
        elsewhere()? < TASKS,
        "{} has none of the tasks",
        node.name()
    );
    let start = Instant::now();
    node.cut(Cut::Silent)?;
    let replaced = wait_for("the tasks run elsewhere", LIMIT, || {
        Ok(elsewhere()? >= TASKS)
    });
    let seconds = start.elapsed().as_secs_f64();
    node.heal()?;
    replaced?;
    system.wait_ready()?;
    super::measure::remove(system, SERVICE)?;
    Ok(seconds)
}

/// Seconds from the leader's end by SIGKILL until another manager has accepted a write.
pub fn leader(system: &dyn System) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for kill in 0..KILLS {
        let leader = system.leader()?;
        let through = (1..=NODES)
            .find(|number| *number != leader)
            .context("there is one manager only")?;
        let start = Instant::now();
        system.kill(leader)?;
        let mut tries = 0;
        wait_for("a write is accepted", LIMIT, || {
            tries += 1;
            Ok(system.write(through, &format!("kill{kill}-{tries}")))
        })?;
        all.push(start.elapsed().as_secs_f64());
        if !system.revive(leader)? {
            break;
        }
    }
    Ok(all)
}
