//! Does to a lab what a plan says.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::plan::{Action, Lane, NODES, Plan, Step};
use crate::Lab;

/// Does all of a plan, each lane in a thread of its own. What could not be done is an error at the end.
pub fn run(lab: &Lab, plan: &Plan, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let began = Instant::now();
    thread::scope(|scope| {
        let lanes = [Lane::Network, Lane::Processes, Lane::Clocks];
        let threads = lanes.map(|lane| {
            scope.spawn(move || {
                plan.lane(lane)
                    .try_for_each(|step| one(lab, step, began, say))
            })
        });
        let ends = threads.map(|thread| match thread.join() {
            Ok(end) => end,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ends.into_iter().collect()
    })
}

fn one(lab: &Lab, step: &Step, began: Instant, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let due = Duration::from_millis(step.at_ms);
    thread::sleep(due.saturating_sub(began.elapsed()));
    say(&format!(
        "{:7.1} s  {}",
        began.elapsed().as_secs_f64(),
        step.action
    ));
    act(lab, &step.action).with_context(|| step.action.to_string())
}

fn act(lab: &Lab, action: &Action) -> Result<()> {
    let signal = |nodes: &[usize], signal| -> Result<()> {
        for node in nodes {
            if let Some(daemon) = lab.node(*node).clusterd()? {
                daemon.signal(signal)?;
            }
        }
        Ok(())
    };
    match action {
        Action::Cut(pairs) => deafen(lab, pairs),
        Action::Mend => deafen(lab, &[]),
        Action::Kill(nodes) => {
            // All at once, then each until it is gone.
            signal(nodes, libc::SIGKILL)?;
            nodes.iter().try_for_each(|node| lab.node(*node).kill())
        }
        Action::Start(nodes) => start(lab, nodes),
        Action::Pause(nodes) => signal(nodes, libc::SIGSTOP),
        Action::Resume(nodes) => signal(nodes, libc::SIGCONT),
        Action::Clock(node, seconds) => lab.node(*node).set_clock(seconds * 1_000),
    }
}

fn deafen(lab: &Lab, pairs: &[(usize, usize)]) -> Result<()> {
    for node in 1..=NODES {
        let to: Vec<Ipv4Addr> = pairs
            .iter()
            .filter(|(deaf, _)| *deaf == node)
            .map(|(_, to)| lab.node(*to).address())
            .collect();
        lab.node(node).hear_nothing_from(&to)?;
    }
    Ok(())
}

/// Side by side: one may wait for another before it answers.
fn start(lab: &Lab, nodes: &[usize]) -> Result<()> {
    thread::scope(|scope| {
        let starts: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(|| lab.node(*node).start()))
            .collect();
        starts.into_iter().try_for_each(|start| match start.join() {
            Ok(end) => end,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Undoes everything, whatever was done.
pub fn heal(lab: &Lab) -> Result<()> {
    deafen(lab, &[])?;
    let mut gone = Vec::new();
    for node in 1..=NODES {
        lab.node(node).set_clock(0)?;
        match lab.node(node).clusterd()? {
            Some(daemon) => daemon.signal(libc::SIGCONT)?,
            None => gone.push(node),
        }
    }
    start(lab, &gone)
}
