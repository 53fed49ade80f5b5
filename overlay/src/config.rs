//! What a node's overlay needs to know at start.

use ipnet::Ipv4Net;
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Settings of one node, fixed for the life of an [`Overlay`](crate::Overlay).
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder for the namespaces' mount points (`<run_dir>/netns`); one per daemon.
    pub run_dir: PathBuf,
    /// This node's advertise address: where other nodes send its VXLAN packets.
    pub vtep: Ipv4Addr,
    /// UDP port of VXLAN, the same on all nodes of a cluster.
    pub vxlan_port: u16,
    /// Candidates for the node-local network that joins tasks to the host; the first that overlaps
    /// no route of the host is taken, and kept as long as the bridge lives.
    pub gateway_pools: Vec<Ipv4Net>,
    /// The host's resolver settings, read again when changed.
    pub resolv_conf: PathBuf,
    /// How often what is there is compared with what is wanted.
    pub resync_every: Duration,
}

impl Config {
    /// Defaults for a node that advertises `vtep`.
    #[must_use]
    pub fn new(run_dir: PathBuf, vtep: Ipv4Addr) -> Self {
        let pool = |second: u8| Ipv4Net::new_assert(Ipv4Addr::new(172, second, 0, 0), 16);
        Self {
            run_dir,
            vtep,
            vxlan_port: 4789,
            gateway_pools: vec![
                pool(30),
                pool(29),
                pool(28),
                pool(27),
                Ipv4Net::new_assert(Ipv4Addr::new(10, 254, 0, 0), 16),
                Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 224, 0), 20),
            ],
            resolv_conf: Path::new("/etc/resolv.conf").to_owned(),
            resync_every: Duration::from_secs(30),
        }
    }
}
