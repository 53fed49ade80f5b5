//! How far one manager goes, measured by the program `scale`: a million tasks, two thousand agents.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{figure::Figure, memory, number_of};
use crate::{Lab, lab::daemon, run};

/// The rows, in the order they are measured.
pub const ROWS: [&str; 2] = ["scale-tasks", "scale-agents"];

const AGENTS: usize = 2_000;
const LIMIT: Duration = Duration::from_secs(120);
const TASKS_LIMIT: Duration = Duration::from_secs(900);
/// How long the manager's processor time is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// A million tasks on ten thousand nodes, on one manager.
///
/// # Errors
/// When it does not come to an end.
pub fn tasks(bin_dir: &Path) -> Result<Vec<Figure>> {
    let mut command = Command::new(bin_dir.join("scale"));
    let output = run::bounded(command.arg("tasks"), b"", TASKS_LIMIT)?.checked()?;
    output
        .stdout
        .lines()
        .map(|line| {
            let read: Printed =
                serde_json::from_str(line).with_context(|| format!("scale printed {line:?}"))?;
            let unit = ["s", "MiB", "tasks"]
                .into_iter()
                .find(|unit| *unit == read.unit);
            let unit = unit.with_context(|| format!("scale printed the unit {:?}", read.unit))?;
            Figure::of(&read.row, &read.system, unit, &read.runs).context("scale measured nothing")
        })
        .collect()
}

/// A figure of another process.
#[derive(serde::Deserialize)]
struct Printed {
    row: String,
    system: String,
    unit: String,
    runs: Vec<f64>,
}

/// The process with the agents; ended with this.
struct Agents {
    child: Child,
    /// How many sessions are open, whenever that has changed.
    open: Receiver<usize>,
}

impl Drop for Agents {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agents {
    fn start(bin_dir: &Path, lab: &Lab) -> Result<Self> {
        let token = lab
            .node(1)
            .run_ok(["clusterctl", "join-token", "--quiet", "worker"])?;
        let mut child = Command::new(bin_dir.join("scale"))
            .args([
                "agents",
                "--count",
                &AGENTS.to_string(),
                "--token",
                token.trim(),
            ])
            .args(lab.nodes().map(|node| format!("{}:2377", node.address())))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start scale")?;
        let out = child.stdout.take().context("scale has no output")?;
        let (tx, open) = mpsc::channel();
        // Ends with the process.
        thread::spawn(move || {
            let numbers = BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| line.parse().ok());
            for number in numbers {
                if tx.send(number).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, open })
    }

    /// Waits until the number of open sessions is as wanted.
    fn wait(&self, what: &str, wanted: impl Fn(usize) -> bool) -> Result<()> {
        let end = Instant::now() + LIMIT;
        let mut last = 0;
        loop {
            match self
                .open
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(open) if wanted(open) => return Ok(()),
                Ok(open) => last = open,
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{what}: {last} of {AGENTS} sessions after {} s",
                        LIMIT.as_secs()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => bail!("{what}: the agents have ended"),
            }
        }
    }
}

/// Two thousand agents on one of three managers: what they cost it, and how soon they are back when it is killed.
///
/// # Errors
/// When they don't get their sessions.
pub fn agents(bin_dir: &Path) -> Result<Vec<Figure>> {
    let lab = Lab::builder()
        .nodes(super::NODES)
        .managers(super::NODES)
        .bin_dir(bin_dir.to_owned())
        .up()?;
    let agents = Agents::start(bin_dir, &lab)?;
    agents.wait("all have joined", |open| open == AGENTS)?;
    let leader = leader(&lab)?;
    let record = lab.record();
    let name = lab.node(leader).name();
    let pid = daemon::running(record, name)?
        .with_context(|| format!("no clusterd on {name}"))?
        .pid;
    let (start, before) = (Instant::now(), cpu_seconds(pid)?);
    thread::sleep(WATCHED);
    let percent = (cpu_seconds(pid)? - before) / start.elapsed().as_secs_f64() * 100.0;
    ensure!(
        agents.open.try_iter().all(|open| open == AGENTS),
        "sessions were lost"
    );
    let resident = memory::resident_mib(pid)?;
    let start = Instant::now();
    lab.node(leader).kill()?;
    agents.wait("they notice", |open| open < AGENTS / 2)?;
    agents.wait("all are back", |open| open == AGENTS)?;
    let back = start.elapsed().as_secs_f64();
    let row = |what: &str| format!("scale-agents-{what}");
    [
        Figure::of(&row("processor"), "ours", "%", &[percent]),
        Figure::of(&row("memory"), "ours", "MiB", &[resident]),
        Figure::of(&row("back"), "ours", "s", &[back]),
    ]
    .into_iter()
    .map(|figure| figure.context("no figure"))
    .collect()
}

fn leader(lab: &Lab) -> Result<usize> {
    let status = lab
        .node(1)
        .run_json(["clusterctl", "status", "--format", "json"])?;
    let name = status.get("leader").and_then(|name| name.as_str());
    number_of(lab, name.context("nobody leads")?)
}

/// Processor time a process has had, seconds.
fn cpu_seconds(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name, in brackets, may hold anything; after it the 12th and 13th are user's and system's.
    let (_, rest) = text.rsplit_once(')').context("a process without a name")?;
    let ticks: f64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>())
        .sum::<Result<f64, _>>()
        .with_context(|| format!("{path}: {text}"))?;
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    Ok(ticks / hertz.context("no clock ticks")? as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_grows_with_work() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let before = cpu_seconds(own).expect("before");
        let mut sum = 0u64;
        while cpu_seconds(own).expect("after") <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
