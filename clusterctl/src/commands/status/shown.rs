//! What `status` shows, from what clusterd says.

use super::shortage::{self, Short};
use super::trouble::{self, Counts, Trouble};
use crate::commands::backup::ls;
use anyhow::Result;
use api::convert;
use api::proto::{ClusterStatus, DaemonInfo, ManagerStatus};
use serde::Serialize;
use std::fmt;

/// A sync that takes longer slows every change down, microseconds.
const SLOW_US: u64 = 100_000;

/// The whole.
#[derive(Serialize)]
pub struct Shown {
    pub cluster: String,
    pub node: String,
    pub hostname: String,
    pub role: String,
    pub addr: String,
    pub version: String,
    pub leader: Option<String>,
    pub quorum: Quorum,
    pub revision: u64,
    pub managers: Vec<Manager>,
    pub nodes: u32,
    pub nodes_ready: u32,
    /// The first nodes that are not ready, or whose clocks are wrong.
    pub troubles: Vec<Trouble>,
    pub services: u32,
    pub tasks_running: u32,
    pub tasks_wanted: u32,
    /// The first services that run fewer tasks than they should.
    pub services_short: Vec<Short>,
    /// How many do.
    pub services_short_count: u32,
    /// When and where, and when the next is due.
    pub last_backup: Option<String>,
    /// One manager's own view.
    pub stale: bool,
    /// Whose.
    pub answered_by: String,
    pub warnings: Vec<String>,
}

/// Whether a majority of the managers can be reached, by whoever answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quorum {
    pub voters: usize,
    pub reachable: usize,
    pub needed: usize,
    /// So many may still be lost; none where there is no quorum now.
    pub spare: Option<usize>,
}

impl Quorum {
    fn of(managers: &[Manager]) -> Self {
        let voters = managers.iter().filter(|m| m.voter).count();
        let reachable = managers.iter().filter(|m| m.voter && m.reachable).count();
        let needed = voters / 2 + 1;
        Self {
            voters,
            reachable,
            needed,
            spare: reachable.checked_sub(needed),
        }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            voters,
            reachable,
            needed,
            spare,
        } = self;
        let managers = if *voters == 1 { "manager" } else { "managers" };
        write!(
            f,
            "{reachable} of {voters} {managers} reachable, {needed} needed; "
        )?;
        match spare {
            None => f.write_str("lost: nothing can be changed"),
            Some(0) => f.write_str("none may be lost"),
            Some(spare) => write!(f, "{spare} may be lost"),
        }
    }
}

/// A manager.
#[derive(Debug, Serialize)]
pub struct Manager {
    pub id: String,
    pub hostname: String,
    pub addr: String,
    pub leader: bool,
    pub voter: bool,
    pub reachable: bool,
    /// Entries behind the leader.
    pub lag: u64,
    pub health: Option<Health>,
    /// Why it can't be reached.
    pub trouble: Option<String>,
}

/// A manager's store.
#[derive(Debug, Serialize)]
pub struct Health {
    pub applied: u64,
    /// The entry up to which its last snapshot goes; 0 for none.
    pub snapshot: u64,
    /// When that was written, milliseconds since the epoch.
    pub snapshot_at: i64,
    /// Syncs of the last minute.
    pub syncs: u64,
    pub sync_p50_us: u64,
    pub sync_p99_us: u64,
    pub sync_max_us: u64,
}

impl TryFrom<&ManagerStatus> for Manager {
    type Error = anyhow::Error;

    fn try_from(m: &ManagerStatus) -> Result<Self> {
        let health = m.health.as_ref().map(|health| Health {
            applied: health.applied,
            snapshot: health.snapshot,
            snapshot_at: health.snapshot_at,
            syncs: health.syncs,
            sync_p50_us: health.sync_p50_us,
            sync_p99_us: health.sync_p99_us,
            sync_max_us: health.sync_max_us,
        });
        Ok(Self {
            id: convert::node_id(&m.node_id)?.to_string(),
            hostname: m.hostname.clone(),
            addr: m.addr.clone(),
            leader: m.leader,
            voter: m.voter,
            reachable: m.reachable,
            lag: m.lag,
            health,
            trouble: Some(m.trouble.clone()).filter(|text| !text.is_empty()),
        })
    }
}

impl Shown {
    /// From what clusterd says of its machine and of the cluster.
    ///
    /// # Errors
    /// When an id is none.
    pub fn new(info: DaemonInfo, cluster: ClusterStatus) -> Result<Self> {
        let managers = cluster
            .managers
            .iter()
            .map(Manager::try_from)
            .collect::<Result<Vec<_>>>()?;
        let answered_by = convert::node_id(&cluster.answered_by)
            .ok()
            .map(|id| id.to_string())
            .and_then(|id| managers.iter().find(|m| m.id == id))
            .map(|m| m.hostname.clone())
            .unwrap_or_default();
        let quorum = Quorum::of(&managers);
        let troubles = cluster
            .troubles
            .into_iter()
            .map(Trouble::try_from)
            .collect::<Result<Vec<_>>>()?;
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let counts = Counts {
            ready: count(cluster.nodes_ready),
            not_ready: count(cluster.nodes.saturating_sub(cluster.nodes_ready)),
            wrong_clocks: count(cluster.wrong_clocks),
        };
        let leader = managers.iter().find(|m| m.leader && m.reachable);
        let leader = leader.map(|m| m.hostname.clone());
        let named = leader.as_deref().unwrap_or("the leader");
        let of_nodes = trouble::warnings(&troubles, counts, named, jiff::Timestamp::now());
        let services_short: Vec<Short> = cluster
            .services_short
            .into_iter()
            .map(Short::from)
            .collect();
        let backups = cluster.backups.clone().unwrap_or_default();
        Ok(Self {
            cluster: convert::cluster_id(&cluster.cluster_id)?.to_string(),
            node: convert::node_id(&info.node_id)?.to_string(),
            hostname: info.hostname,
            role: info.role,
            addr: info.advertise_addr,
            version: info.version,
            leader,
            quorum,
            revision: cluster.revision,
            last_backup: ls::summary(&backups),
            warnings: warnings(info.warnings, &managers, quorum)
                .into_iter()
                .chain(of_nodes)
                .chain(shortage::warnings(
                    &services_short,
                    cluster.services_short_count,
                ))
                .chain(ls::failure(&backups))
                .collect(),
            managers,
            nodes: cluster.nodes,
            nodes_ready: cluster.nodes_ready,
            troubles,
            services: cluster.services,
            tasks_running: cluster.tasks_running,
            tasks_wanted: cluster.tasks_wanted,
            services_short,
            services_short_count: cluster.services_short_count,
            stale: cluster.stale,
            answered_by,
        })
    }
}

/// What the user should know beside the figures.
fn warnings(mut warnings: Vec<String>, managers: &[Manager], quorum: Quorum) -> Vec<String> {
    if quorum.voters == 2 {
        warnings.push(
            "with two managers the loss of either stops all changes; add a third with `clusterctl join-token manager`"
                .into(),
        );
    }
    for manager in managers.iter().filter(|m| !m.reachable) {
        // Most reasons begin with the address, which is said already.
        let why = manager.trouble.as_ref().map(|why| {
            let said = format!("{} can't be reached: ", manager.addr);
            format!(": {}", why.strip_prefix(&said).unwrap_or(why))
        });
        let why = why.unwrap_or_default();
        warnings.push(format!(
            "manager {} ({}) can't be reached{why}",
            manager.hostname, manager.addr
        ));
    }
    for (manager, health) in managers
        .iter()
        .filter_map(|m| Some((m, m.health.as_ref()?)))
    {
        if health.sync_p99_us > SLOW_US {
            warnings.push(format!(
                "the disk of manager {} is slow: it takes up to {} ms to make a change durable",
                manager.hostname,
                health.sync_p99_us / 1_000
            ));
        }
    }
    if quorum.voters > 2 && quorum.spare == Some(0) {
        warnings.push("the loss of one more manager stops all changes".into());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managers(reachable: &[bool]) -> Vec<Manager> {
        let manager = |reachable: &bool| Manager {
            id: String::new(),
            hostname: "node".into(),
            addr: "10.0.0.1:2377".into(),
            leader: false,
            voter: true,
            reachable: *reachable,
            lag: 0,
            health: None,
            trouble: (!reachable).then(|| "no answer".into()),
        };
        reachable.iter().map(manager).collect()
    }

    #[test]
    fn the_quorum_is_told_in_one_line() {
        let told = |reachable: &[bool]| Quorum::of(&managers(reachable)).to_string();
        assert_eq!(
            told(&[true]),
            "1 of 1 manager reachable, 1 needed; none may be lost"
        );
        assert_eq!(
            told(&[true, true, true]),
            "3 of 3 managers reachable, 2 needed; 1 may be lost"
        );
        assert_eq!(
            told(&[true, false, false]),
            "1 of 3 managers reachable, 2 needed; lost: nothing can be changed"
        );
    }

    #[test]
    fn what_is_wrong_is_warned_of() {
        let told = |reachable: &[bool]| {
            let managers = managers(reachable);
            warnings(vec![], &managers, Quorum::of(&managers)).join("\n")
        };
        assert_eq!(told(&[true, true, true]), "");
        assert!(told(&[true, true]).contains("the loss of either"));
        let one_gone = told(&[true, true, false]);
        assert!(
            one_gone.contains("can't be reached: no answer"),
            "{one_gone}"
        );
        assert!(
            one_gone.contains("the loss of one more manager"),
            "{one_gone}"
        );
    }
}
