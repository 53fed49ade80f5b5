//! Removing a lab: everything of it, whatever state it is in.
//!
//! Every step is tried even when earlier ones failed; all failures are told at the end.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    find::{self, Marks},
    holder, links, names,
    record::{self, Record},
};
use crate::{places, procfs::ProcessId};

const LIMIT: Duration = Duration::from_secs(30);

/// Removes a lab. One that isn't there is removed already.
///
/// With `keep_logs`, the logs stay in its folder and their places are returned.
pub fn down(name: &str, keep_logs: bool) -> Result<Vec<PathBuf>> {
    names::check(name)?;
    let _lock = record::lock()?;
    remove(name, keep_logs)
}

/// How long the logs of a failed test are kept.
const LOGS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Removes the labs whose owner (a test that was killed, say) has died, and logs kept long enough.
pub fn down_orphans() -> Result<()> {
    let _lock = record::lock()?;
    let mut problems = Vec::new();
    for name in record::all()? {
        let over = match Record::load(&name) {
            Ok(Some(record)) => record.owner.is_some_and(|o| !o.is_alive()),
            // A folder without a record holds kept logs.
            Ok(None) => age(&places::labs()?.join(&name)).is_some_and(|age| age > LOGS_KEPT),
            Err(_) => false,
        };
        if over {
            problems.extend(remove(&name, false).err().map(|e| format!("{e:#}")));
        }
    }
    conclude("labs of dead tests", problems).map(drop)
}

fn age(path: &Path) -> Option<Duration> {
    fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()
}

fn remove(name: &str, keep_logs: bool) -> Result<Vec<PathBuf>> {
    let dir = places::labs()?.join(name);
    let mut problems = Vec::new();
    // A damaged record still leaves the folder, whose marks find nearly everything.
    let record = Record::load(name).unwrap_or_else(|e| {
        problems.push(format!("{e:#}"));
        None
    });
    let nodes = node_dirs(&dir);
    let marks: Vec<Marks> = nodes.iter().map(|n| Marks::of(n)).collect();
    let recorded: Vec<ProcessId> = record
        .iter()
        .flat_map(|r| {
            r.switch
                .into_iter()
                .chain(r.nodes.iter().filter_map(|n| n.holder))
        })
        .collect();

    let mut cgroups = find::cgroups_left(&nodes);
    if let Err(e) = kill_all(&dir, &marks, &recorded, &mut cgroups) {
        problems.push(format!("{e:#}"));
    }
    problems.extend(cgroups.iter().flat_map(|path| remove_cgroup(path)));
    let link = record
        .as_ref()
        .map_or_else(|| names::link(name), |r| r.link.clone());
    if let Err(e) = links::remove(&link) {
        problems.push(format!("{e:#}"));
    }
    let logs = if keep_logs && problems.is_empty() {
        clear_but_logs(&dir, &nodes, &mut problems)
    } else {
        vec![]
    };
    // While something is left the record stays, so that the next try knows of it.
    if problems.is_empty() && logs.is_empty() {
        remove_dir(&dir, &mut problems);
    }
    if record::all()?.iter().all(|other| other == name) {
        remove_mount_points();
    }
    conclude(name, problems)?;
    Ok(logs)
}

fn conclude(name: &str, problems: Vec<String>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        "lab {name} was not removed wholly; try again:\n  {}",
        problems.join("\n  ")
    )
}

/// Kills until a look finds nobody any more: what is killed may just have started others.
fn kill_all(
    dir: &Path,
    marks: &[Marks],
    recorded: &[ProcessId],
    cgroups: &mut BTreeSet<String>,
) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let mut recorded = recorded.to_vec();
        recorded.extend(holders(dir)?);
        let found = find::processes(marks, &recorded)?;
        if found.is_empty() {
            recorded.iter().for_each(ProcessId::reap);
            return Ok(());
        }
        cgroups.extend(find::cgroups_of(&found));
        for process in &found {
            process.id.signal(libc::SIGKILL)?;
        }
        if Instant::now() >= end {
            let names = found
                .iter()
                .map(|p| format!("{} ({})", p.id.pid, p.command));
            bail!(
                "these processes outlive SIGKILL: {}",
                names.collect::<Vec<_>>().join(", ")
            );
        }
        thread::sleep(Duration::from_millis(5));
        found.iter().for_each(|p| p.id.reap());
    }
}

/// Holders of this lab by their command line: one may have been started just before a crash, and be
/// in no record and without marks yet.
fn holders(dir: &Path) -> Result<Vec<ProcessId>> {
    let mut found = Vec::new();
    for process in crate::procfs::processes()? {
        let line = fs::read(format!("/proc/{}/cmdline", process.id.pid)).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        if words.get(1) == Some(&holder::COMMAND.as_bytes())
            && let Some(place) = words.get(2)
            && Path::new(String::from_utf8_lossy(place).as_ref()).parent() == Some(dir)
        {
            found.push(process.id);
        }
    }
    Ok(found)
}

fn node_dirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| e.path())
        .filter(|p| p.join("state").is_dir())
        .collect()
}

/// Removes a cgroup in every hierarchy. The kernel may need a moment after the last process's end.
fn remove_cgroup(path: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for root in find::cgroup_roots() {
        let group = root.join(path.trim_start_matches('/'));
        let done = crate::wait_for("the cgroup is empty", Duration::from_secs(5), || {
            remove_cgroup_tree(&group).map_err(Into::into)
        });
        if let Err(e) = done {
            problems.push(format!("cannot remove cgroup {}: {e:#}", group.display()));
        }
    }
    problems
}

fn remove_cgroup_tree(group: &Path) -> std::io::Result<bool> {
    if !group.is_dir() {
        return Ok(true);
    }
    for child in fs::read_dir(group)?.flatten() {
        if child.file_type()?.is_dir() {
            remove_cgroup_tree(&child.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(true),
    }
}

fn clear_but_logs(dir: &Path, nodes: &[PathBuf], problems: &mut Vec<String>) -> Vec<PathBuf> {
    let mut logs = Vec::new();
    for node in nodes {
        remove_dir(&node.join("state"), problems);
        let log = node.join("log").join("clusterd.log");
        logs.extend(log.is_file().then_some(log));
    }
    if !logs.is_empty() {
        let _ = fs::remove_file(dir.join("lab.json"));
    }
    logs
}

fn remove_dir(dir: &Path, problems: &mut Vec<String>) {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            problems.push(format!("cannot remove {}: {e}", dir.display()));
        }
        _ => {}
    }
}

/// The empty folders that the last lab leaves on the machine. In use, they are not empty: they stay.
fn remove_mount_points() {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mounted: BTreeSet<String> = crate::procfs::mounts(own)
        .into_iter()
        .map(|m| m.point)
        .collect();
    for point in holder::MOUNT_POINTS {
        if !mounted.contains(point) {
            let _ = fs::remove_dir(point);
        }
    }
    for root in find::cgroup_roots() {
        let _ = fs::remove_dir(root.join("clusterd"));
    }
}
