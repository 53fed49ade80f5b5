//! A cluster as users see it, while it is disturbed: three managers and two workers in a lab, under random partitions,
//! kills, stops and clocks that are set, while clients write, read and watch.
//!
//! ```text
//! seed ─► plan ─► faults ─┐
//!      └► clients ────────┼─► five daemons ─► history ─► check: linearizable, nothing lost, nothing from the future
//!      └► user, watcher ──┘                └► settle: all is as it should be once all is mended
//! ```
//!
//! The plan is a pure function of the seed; what the daemons make of it is not. So a run that fails keeps its history
//! and the daemons' logs.
//!
//! That it sees was tried by hand: managers that answer reads without asking a majority whether they still lead were
//! refuted by the third of the first four seeds, 40 s each.

mod calls;
pub mod check;
mod clients;
mod dice;
mod faults;
pub mod history;
mod keys;
pub mod plan;
mod settle;
mod stack;
mod watch;

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use api::model::JoinToken;
use tokio_util::sync::CancellationToken;

use crate::{Lab, places};
use clients::Shared;
use history::{Answer, Ask, Entry, History};
use keys::Keys;
use plan::{MANAGERS, NODES, Plan};
use stack::Stack;
use watch::Watcher;

/// What a run has seen.
#[derive(Debug)]
pub struct Report {
    /// Calls, by what was asked and what came of it.
    pub calls: BTreeMap<String, usize>,
    /// Registers.
    pub registers: usize,
    /// Sessions of the watcher, and messages in them.
    pub watched: (usize, usize),
    /// All calls.
    pub history: Vec<Entry>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} registers:", self.registers)?;
        for (what, count) in &self.calls {
            writeln!(f, "{count:7} {what}")?;
        }
        let (sessions, messages) = self.watched;
        write!(
            f,
            "{messages:7} messages to the watcher, in {sessions} sessions"
        )
    }
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// What all of it comes from.
    pub seed: u64,
    /// How long it is disturbed.
    pub length: Duration,
}

impl Run {
    /// Where a failed run's history and logs are kept.
    pub fn folder(&self) -> Result<PathBuf> {
        let target = places::bin_dir()?
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default();
        Ok(target.join("blackbox").join(format!("seed-{}", self.seed)))
    }

    /// Does it all, telling each step to `say`.
    ///
    /// # Errors
    /// What the cluster did that it should not, with the seed and how to do it again.
    pub fn run(&self, say: &(dyn Fn(&str) + Sync)) -> Result<Report> {
        let plan = Plan::new(self.seed, self.length);
        say(&plan.to_string());
        let folder = self.folder()?;
        let _ = fs::remove_dir_all(&folder);
        let lab = Lab::builder()
            .nodes(NODES)
            .managers(MANAGERS)
            .false_clocks()
            .up()?;
        let mut entries = Vec::new();
        let done = disturb(&lab, &plan, &mut entries, say).and_then(|report| {
            judge(&entries)?;
            Ok(report)
        });
        done.map_err(|error| {
            let kept = match keep(&lab, &plan, &entries, &folder) {
                Ok(()) => format!("its history and logs are in {}", folder.display()),
                Err(error) => format!("and its history could not be kept: {error:#}"),
            };
            let (seed, seconds) = (self.seed, self.length.as_secs());
            error.context(format!(
                "seed {seed} failed, and {kept}; the same plan again: make blackbox SECONDS={seconds} SEED={seed}"
            ))
        })
    }
}

/// Runs the plan, and waits until all is well again.
fn disturb(
    lab: &Lab,
    plan: &Plan,
    entries: &mut Vec<Entry>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Report> {
    let sockets: Result<Vec<PathBuf>> = lab.nodes().map(|node| node.socket()).collect();
    let shared = Arc::new(Shared {
        sockets: sockets?,
        keys: Keys::default(),
        history: History::default(),
    });
    let stack = Stack {
        number: std::process::id(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let token = lab
        .node(1)
        .run_ok(["clusterctl", "join-token", "worker", "-q"])?;
    let token: JoinToken = token.trim().parse().context("the join token")?;
    let managers = (1..=MANAGERS).map(|node| format!("{}:2377", lab.node(node).address()));
    let watcher = runtime.block_on(Watcher::join(
        &token,
        managers.collect(),
        lab.host_address()?,
    ))?;
    let (stop, stop_watching) = (CancellationToken::new(), CancellationToken::new());
    let watching = {
        let (watcher, stop) = (watcher.clone(), stop_watching.clone());
        runtime.spawn(async move { watcher.run(stop).await })
    };
    stack.deploy(lab)?;
    let clients = runtime.spawn(clients::run(shared.clone(), plan.seed, stop.clone()));
    let user = runtime.spawn(stack::user(shared.clone(), plan.seed, stop.clone()));
    let disturbed = faults::run(lab, plan, say);
    say("all is mended");
    let settled = disturbed
        .and_then(|()| faults::heal(lab))
        .and_then(|()| runtime.block_on(settle::writes_go_on(&shared)));
    stop.cancel();
    let joined = runtime.block_on(async { tokio::join!(clients, user) });
    let settled = settled.and_then(|()| {
        runtime.block_on(async {
            settle::registers(&shared).await?;
            settle::cluster(&shared, &stack, &watcher).await
        })
    });
    stop_watching.cancel();
    let watched = runtime.block_on(watching);
    entries.extend(shared.history.entries());
    // What was seen says more than that it did not settle.
    judge(entries)?;
    watched??;
    settled?;
    let (clients, user) = joined;
    clients?;
    user?;
    let view = watcher.view();
    Ok(Report {
        calls: counted(entries),
        registers: shared.keys.all().len(),
        watched: (view.sessions, view.messages),
        history: entries.clone(),
    })
}

/// Whether a history is one that a cluster may have.
///
/// # Errors
/// Why not.
pub fn judge(entries: &[Entry]) -> Result<()> {
    check::linearizable(entries)?;
    check::stale_reads(entries).map_err(anyhow::Error::msg)
}

fn counted(entries: &[Entry]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        let ask = match entry.ask {
            Ask::Set(_) => "set",
            Ask::Create(_) => "create",
            Ask::Remove => "remove",
            Ask::Read => "read",
            Ask::StaleRead => "stale read",
        };
        let answer = match &entry.answer {
            Answer::Done => "done",
            Answer::Exists => "exists",
            Answer::Absent => "absent",
            Answer::Holds(_) => "answered",
            Answer::Refused(_) => "refused",
            Answer::Unknown(_) => "unknown",
        };
        *counts.entry(format!("{ask}: {answer}")).or_default() += 1;
    }
    counts
}

/// Keeps all that tells what happened.
fn keep(lab: &Lab, plan: &Plan, entries: &[Entry], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("plan.txt"), plan.to_string())?;
    history::save(entries, &folder.join("history.jsonl"))?;
    for node in lab.nodes() {
        let log = folder.join(format!("{}.log", node.name()));
        fs::copy(node.log_path()?, log)?;
    }
    Ok(())
}

/// Judges a history that was kept.
///
/// # Errors
/// When it can't be read, or is not one that a cluster may have.
pub fn judge_file(path: &Path) -> Result<usize> {
    let entries = history::load(path)?;
    ensure!(!entries.is_empty(), "{} is empty", path.display());
    judge(&entries)?;
    Ok(entries.len())
}
