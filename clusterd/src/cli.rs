//! The daemon's options.

use clap::Parser;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

/// The node daemon of the cluster
#[derive(Debug, Clone, Parser)]
#[command(
    name = "clusterd",
    version,
    after_help = "It runs in the foreground and logs to stderr. The machine then becomes part of a cluster by \
                  `clusterctl init` or `clusterctl join`.\n\nStopping or restarting it touches no running \
                  container.\n\nExamples:\n  clusterd\n  clusterd --advertise-addr 192.168.205.10 --log debug"
)]
pub struct Cli {
    /// Where state is kept: identity, cluster state, images, containers, volumes
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/clusterd",
        env = "CLUSTERD_STATE_DIR"
    )]
    pub state_dir: PathBuf,
    /// Where what lasts until the next boot is kept; on a tmpfs
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/run/clusterd",
        env = "CLUSTERD_RUN_DIR"
    )]
    pub run_dir: PathBuf,
    /// The socket clusterctl talks to [default: RUN_DIR/clusterd.sock]
    #[arg(long, value_name = "PATH", env = "CLUSTERD_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Where other nodes' connections are taken
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "0.0.0.0:2377",
        env = "CLUSTERD_LISTEN_ADDR"
    )]
    pub listen_addr: SocketAddrV4,
    /// The address other nodes reach this machine at [default: the only one it has, or the default route's]
    #[arg(long, value_name = "IP", env = "CLUSTERD_ADVERTISE_ADDR")]
    pub advertise_addr: Option<Ipv4Addr>,
    /// What is logged: error, warn, info, debug, trace, or per part, as in RUST_LOG
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "CLUSTERD_LOG"
    )]
    pub log: String,
}

impl Cli {
    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket
            .clone()
            .unwrap_or_else(|| self.run_dir.join("clusterd.sock"))
    }
}
