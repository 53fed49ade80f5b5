//! How far one manager goes: a million tasks, thousands of agents. Run as a process of its own, so that its
//! memory is the measured part's alone.

pub mod agents;
pub mod tasks;

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use api::model::{ClusterSpec, NodeDescription};
use manager::{Founding, Manager, ManagerConfig, Pace, dialer::Dialer, tls::Tls};
use seal::Keys;

/// A cluster of one manager, in a folder on the disk, that runs in this process.
///
/// # Errors
/// When the disk refuses.
pub async fn one_manager(dir: &Path, spec: ClusterSpec) -> Result<(Manager, Founding)> {
    let addr = Ipv4Addr::LOCALHOST;
    let description = NodeDescription {
        hostname: "manager".into(),
        ..NodeDescription::default()
    };
    let founding = Founding::new(
        spec,
        None,
        Default::default(),
        description,
        addr,
        2377,
        manager::now(),
    )?;
    let config = ManagerConfig {
        instance: Default::default(),
        dir: dir.join("raft"),
        keys: Arc::new(Keys::create(&dir.join("raft.key"))?),
        identity: founding.identity,
        addr: format!("{addr}:2377"),
        ca_pem: founding.material.ca_pem.clone(),
        dialer: Dialer::new(Tls::new(&founding.material)?),
        pace: Pace::default(),
    };
    let manager = Manager::init(config, &founding).await?;
    Ok((manager, founding))
}

/// The most memory this process has had, MiB.
///
/// # Errors
/// When the system doesn't say.
pub fn peak_mib() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("/proc/self/status has no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
