//! What actor and jobs share: the node's fixed facts and its host namespace.

use crate::{
    Config, Result, TaskId,
    linux::{HostTable, HostThread, Ns, Rtnl, Underlay},
    plan::NodeParams,
};
use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// Prefix of networks' namespaces in the run folder; a VNI follows.
pub(super) const NETWORK_PREFIX: &str = "n-";
/// Prefix of tasks' namespaces in the run folder; a task id follows.
pub(super) const TASK_PREFIX: &str = "t-";

/// The node.
#[derive(Debug)]
pub(super) struct Context {
    pub config: Config,
    pub netns_dir: PathBuf,
    pub rtnl: Rtnl,
    pub thread: Arc<HostThread>,
    pub table: Arc<Mutex<HostTable>>,
    pub params: NodeParams,
    pub underlay: Underlay,
}

impl Context {
    pub fn network_path(&self, vni: u32) -> PathBuf {
        self.netns_dir.join(format!("{NETWORK_PREFIX}{vni}"))
    }

    pub fn task_path(&self, task: &TaskId) -> PathBuf {
        self.netns_dir.join(format!("{TASK_PREFIX}{task}"))
    }
}

/// A network's namespace, open.
#[derive(Debug)]
pub(super) struct NetNs {
    pub ns: Ns,
    pub rtnl: Rtnl,
}

impl NetNs {
    /// Opens a namespace that is there.
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let ns = Ns::open(path)?;
        let rtnl = Rtnl::open(&ns)?;
        Ok(Self { ns, rtnl })
    }

    /// Makes one. A file without a mount, left by a machine that lost power, is replaced.
    pub fn create(path: &std::path::Path) -> Result<Self> {
        let rt = tokio::runtime::Handle::current();
        Ns::unmount(path)?;
        let (ns, rtnl) = Ns::create(path, || {
            for conf in ["all", "default"] {
                sysctl(&format!("ipv6/conf/{conf}/disable_ipv6"), "1");
            }
            Rtnl::open_here(&rt)
        })?;
        Ok(Self { ns, rtnl })
    }
}

/// Sets a value below `net` for the calling thread's namespace. A kernel without it needs none.
pub(super) fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    match fs::write(&path, value) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(error = %e, path, value, "can't set a kernel parameter");
        }
        _ => {}
    }
}
