//! Which processes and cgroups belong to a lab, told from what the kernel shows of them.
//!
//! Pids and namespace numbers are recycled, so neither is trusted once its owner may be dead. What
//! marks a process is what it has mounted: a node's own tmpfs, something out of the node's state
//! folder, or a root file system whose writable layer lies in that folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::holder;
use crate::procfs::{self, Mount, Process, ProcessId};

/// What identifies one node's processes.
#[derive(Clone, Debug)]
pub struct Marks {
    /// Source of the node's tmpfs mounts.
    source: String,
    /// Device and path of the state folder.
    state: Option<(String, String)>,
    /// The state folder itself.
    state_dir: PathBuf,
}

impl Marks {
    /// The marks of the node with this folder.
    #[must_use]
    pub fn of(node_dir: &Path) -> Self {
        let state_dir = node_dir.join("state");
        Self {
            source: holder::marker(node_dir),
            state: procfs::place_of(&state_dir),
            state_dir,
        }
    }

    fn on(&self, mount: &Mount) -> bool {
        if mount.source == self.source {
            return true;
        }
        if let Some((device, path)) = &self.state
            && mount.device == *device
            && Path::new(&mount.root).starts_with(path)
        {
            return true;
        }
        // As the node names it: /var/lib/clusterd/containers/ID/upper. The ids tell labs apart.
        mount
            .options
            .split(',')
            .filter_map(|option| option.strip_prefix("upperdir="))
            .filter_map(|upper| Path::new(upper).strip_prefix(holder::MOUNT_POINTS[0]).ok())
            .any(|inside| inside.components().count() > 0 && self.state_dir.join(inside).exists())
    }
}

/// All live processes of a lab but `recorded` ones' strangers: marked ones, those in their network
/// namespaces, the recorded ones, and whatever descends from any of these. Never the caller.
pub fn processes(marks: &[Marks], recorded: &[ProcessId]) -> Result<Vec<Process>> {
    let all = procfs::processes()?;
    let own = ProcessId::own()?;
    let own_namespaces = ["mnt", "net"].map(|kind| procfs::namespace(own.pid, kind));
    let mut known: BTreeMap<String, bool> = BTreeMap::new();
    let mut found: BTreeSet<ProcessId> = recorded.iter().copied().collect();
    let mut networks = BTreeSet::new();
    for process in &all {
        let Some(namespace) = procfs::namespace(process.id.pid, "mnt") else {
            continue;
        };
        if Some(&namespace) == own_namespaces[0].as_ref() {
            continue;
        }
        // Read before the answer is kept: a process that ended meanwhile shows no mounts.
        let marked = *known.entry(namespace).or_insert_with(|| {
            procfs::mounts(process.id.pid)
                .iter()
                .any(|mount| marks.iter().any(|m| m.on(mount)))
        });
        if marked {
            found.insert(process.id);
            networks.extend(procfs::namespace(process.id.pid, "net"));
        }
    }
    networks.retain(|n| Some(n) != own_namespaces[1].as_ref());
    for process in &all {
        if procfs::namespace(process.id.pid, "net").is_some_and(|n| networks.contains(&n)) {
            found.insert(process.id);
        }
    }
    add_descendants(&all, &mut found);
    found.remove(&own);
    Ok(all
        .into_iter()
        .filter(|p| found.contains(&p.id) && p.id.is_alive())
        .collect())
}

fn add_descendants(all: &[Process], found: &mut BTreeSet<ProcessId>) {
    loop {
        let pids: BTreeSet<i32> = all
            .iter()
            .filter(|p| found.contains(&p.id))
            .map(|p| p.id.pid)
            .collect();
        let before = found.len();
        found.extend(
            all.iter()
                .filter(|p| pids.contains(&p.parent))
                .map(|p| p.id),
        );
        if found.len() == before {
            return;
        }
    }
}

/// The cgroups made for containers (below a folder `clusterd`) that these processes are in, as paths
/// inside their hierarchy.
#[must_use]
pub fn cgroups_of(processes: &[Process]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in processes {
        let text =
            fs::read_to_string(format!("/proc/{}/cgroup", process.id.pid)).unwrap_or_default();
        let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        found.extend(
            paths
                .filter(|path| is_of_a_container(path))
                .map(str::to_owned),
        );
    }
    found
}

/// The container cgroups left behind by dead ones: their name is that of a folder of the lab.
pub fn cgroups_left(node_dirs: &[PathBuf]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for dir in node_dirs {
        folder_names(&dir.join("state"), 3, &mut ids);
    }
    let mut found = BTreeSet::new();
    for root in cgroup_roots() {
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with("clusterd") {
                continue;
            }
            for child in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let name = child.file_name().to_string_lossy().into_owned();
                if ids.contains(&name)
                    && let Ok(path) = child.path().strip_prefix(&root)
                {
                    found.insert(format!("/{}", path.display()));
                }
            }
        }
    }
    found
}

/// Where the cgroup hierarchies are mounted.
#[must_use]
pub fn cgroup_roots() -> BTreeSet<PathBuf> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mounts = procfs::mounts(own);
    let groups = mounts
        .into_iter()
        .filter(|m| m.kind == "cgroup" || m.kind == "cgroup2");
    groups.map(|m| PathBuf::from(m.point)).collect()
}

fn is_of_a_container(path: &str) -> bool {
    let mut parts = path.split('/').filter(|p| !p.is_empty());
    // systemd's own unit is clusterd.service; nothing in it is a container's.
    parts.any(|p| p.starts_with("clusterd") && !p.ends_with(".service")) && parts.next().is_some()
}

fn folder_names(dir: &Path, depth: usize, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Shorter ones are words of the layout, not ids.
            if name.len() >= 12 {
                names.insert(name);
            }
            if depth > 1 {
                folder_names(&entry.path(), depth - 1, names);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(root: &str, source: &str, options: &str) -> Mount {
        Mount {
            device: "8:1".into(),
            root: root.into(),
            point: "/anywhere".into(),
            kind: "x".into(),
            source: source.into(),
            options: options.into(),
        }
    }

    #[test]
    fn mounts_mark_their_lab_and_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("state/containers/0123456789ab/upper"))
            .expect("folders");
        let marks = Marks {
            source: "cluster-lab:/l/demo/node1".into(),
            state: Some(("8:1".into(), "/l/demo/node1/state".into())),
            state_dir: dir.path().join("state"),
        };
        assert!(marks.on(&mount("/", "cluster-lab:/l/demo/node1", "")));
        assert!(!marks.on(&mount("/", "cluster-lab:/l/demo/node10", "")));
        assert!(marks.on(&mount("/l/demo/node1/state/volumes/v", "/dev/sda1", "")));
        assert!(!marks.on(&mount("/l/demo/node1/state2", "/dev/sda1", "")));
        assert!(!marks.on(&mount("/l/demo", "/dev/sda1", "rw")));
        let upper = |id| {
            format!("rw,lowerdir=/a,upperdir=/var/lib/clusterd/containers/{id}/upper,workdir=/w")
        };
        assert!(marks.on(&mount("/", "overlay", &upper("0123456789ab"))));
        assert!(!marks.on(&mount("/", "overlay", &upper("ba9876543210"))));
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let process = |pid, parent| Process {
            id: ProcessId {
                pid,
                start_ticks: 1,
            },
            parent,
            state: 'S',
            command: String::new(),
        };
        let all = [process(5, 4), process(4, 3), process(3, 1), process(9, 1)];
        let mut found = BTreeSet::from([all[2].id]);
        add_descendants(&all, &mut found);
        assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn only_cgroups_below_clusterd_are_containers() {
        assert!(is_of_a_container("/clusterd/0123"));
        assert!(is_of_a_container("/system.slice/clusterd.slice/c1"));
        assert!(!is_of_a_container("/clusterd"));
        assert!(!is_of_a_container("/system.slice/clusterd.service"));
        assert!(!is_of_a_container("/user.slice/session"));
    }
}
