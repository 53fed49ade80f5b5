//! The files of a container's folder, written whole: beside, then renamed.

use crate::error::{Error, IoContext, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A container's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(pub PathBuf);

/// What is to be run: the shim's orders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The container.
    pub spec: crate::ContainerSpec,
    /// How many descriptors the shim holds, from [`crate::shim::HELD_FROM`] on.
    pub held: usize,
}

/// A process that may be gone, and its pid another's by now: its start time tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub pid: i32,
    /// Clock ticks since boot.
    pub started: u64,
}

/// A container that was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    pub shim: ProcessId,
    pub init: ProcessId,
    pub started_at_ms: i64,
    /// Folders of its cgroups.
    pub cgroups: Vec<PathBuf>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    pub finished_at_ms: i64,
    pub message: Option<String>,
}

impl Folder {
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Since when the node's lease runs.
    pub fn renewed(&self) -> Option<u64> {
        crate::lease::read(self.0.parent()?)
    }

    /// A record; none when it is not there.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.file(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(|| format!("reading {}", path.display())),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Record { path, source })
    }

    /// Writes a record.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let path = self.file(name);
        let bytes = serde_json::to_vec(value).map_err(|source| Error::Record {
            path: path.clone(),
            source,
        })?;
        let fresh = self.file(&format!("{name}.new"));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().context(|| format!("writing {}", path.display()))
    }
}

pub(crate) const ORDERS: &str = "orders.json";
pub(crate) const RUNNING: &str = "running.json";
pub(crate) const EXIT: &str = "exit.json";

/// Now, milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Whether a path is there, for folders that may vanish meanwhile.
pub(crate) fn is_dir(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_dir())
}
