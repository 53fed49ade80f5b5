//! What is known of a lab, on disk: `<labs>/<name>/lab.json`.
//!
//! Written before the thing it names is made, so that a crash at any point leaves a record that
//! covers what exists.

use std::{
    fs,
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::{places, procfs::ProcessId};

const FILE: &str = "lab.json";
const FORMAT: u32 = 1;

/// A lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this file's format.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The machine's own interface into the lab.
    pub link: String,
    /// Where `clusterd` and `clusterctl` are.
    pub bin_dir: PathBuf,
    /// Arguments every clusterd is started with.
    pub clusterd_args: Vec<String>,
    /// The library that gives every clusterd a wall clock of its own, if they have one.
    #[serde(default)]
    pub false_clock: Option<PathBuf>,
    /// The process that it must not outlive; none for a lab made by hand.
    pub owner: Option<ProcessId>,
    /// Keeps the namespace of the bridge.
    pub switch: Option<ProcessId>,
    /// The nodes, node1 first.
    pub nodes: Vec<NodeRecord>,
}

/// A node of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// `node1`, ...; its host name too.
    pub name: String,
    /// The address of its eth0.
    pub address: Ipv4Addr,
    /// Whether it is to be a manager.
    pub manager: bool,
    /// Keeps its namespaces.
    pub holder: Option<ProcessId>,
}

impl Record {
    /// A record of nothing yet.
    #[must_use]
    pub fn new(name: String, subnet: Ipv4Net, link: String, bin_dir: PathBuf) -> Self {
        Self {
            format: FORMAT,
            name,
            subnet,
            link,
            bin_dir,
            clusterd_args: vec![],
            false_clock: None,
            owner: None,
            switch: None,
            nodes: vec![],
        }
    }

    /// The lab's folder.
    pub fn dir(&self) -> Result<PathBuf> {
        Ok(places::labs()?.join(&self.name))
    }

    /// A node's folder.
    pub fn node_dir(&self, node: &str) -> Result<PathBuf> {
        Ok(self.dir()?.join(node))
    }

    /// The node of this name; `1` does for `node1`.
    pub fn node(&self, name: &str) -> Result<&NodeRecord> {
        let all: Vec<&str> = self.nodes.iter().map(|n| n.name.as_str()).collect();
        match self
            .nodes
            .iter()
            .find(|n| n.name == name || n.name.strip_prefix("node") == Some(name))
        {
            Some(node) => Ok(node),
            None => bail!(
                "lab {} has no node {name:?}; it has {}",
                self.name,
                all.join(", ")
            ),
        }
    }

    /// Reads the record of a lab; none when there is no such lab.
    pub fn load(name: &str) -> Result<Option<Self>> {
        let path = places::labs()?.join(name).join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let record: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is damaged: remove it and run `lab down`",
                path.display()
            )
        })?;
        if record.format != FORMAT {
            bail!(
                "{} has format {}, this lab tool reads {FORMAT}",
                path.display(),
                record.format
            );
        }
        Ok(Some(record))
    }

    /// Reads the record of a lab that has to be there.
    pub fn find(name: &str) -> Result<Self> {
        super::names::check(name)?;
        match Self::load(name)? {
            Some(record) => Ok(record),
            None => bail!("there is no lab {name}: make it with `lab up --name {name}`"),
        }
    }

    /// Writes the record, whole or not at all.
    pub fn save(&self) -> Result<()> {
        let dir = self.dir()?;
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&dir)?;
            let new = dir.join("lab.json.new");
            let mut file = fs::File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_data()?;
            fs::rename(new, dir.join(FILE))
        };
        write().with_context(|| format!("cannot write {}", dir.join(FILE).display()))
    }
}

/// The names of all labs that have a folder, with or without a readable record.
pub fn all() -> Result<Vec<String>> {
    let labs = places::labs()?;
    let entries = match fs::read_dir(&labs) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", labs.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && super::names::check(&name).is_ok() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Held while labs are named, numbered or removed; one holder on this machine.
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<fs::File>);

/// Waits for the lock.
pub fn lock() -> Result<Lock> {
    let labs = places::labs()?;
    let path: &Path = &labs.join(".lock");
    let open = || -> std::io::Result<fs::File> {
        fs::create_dir_all(&labs)?;
        fs::File::options().create(true).append(true).open(path)
    };
    let file = open().with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusive) {
        Ok(lock) => Ok(Lock(lock)),
        Err((_, e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}
