//! The command line: help, man pages and completions all come from here and from the commands' own files.

use crate::client::DEFAULT_HOST;
use crate::commands::{
    backup, ca, cluster, completions, config, deploy, exec, image, init, join, join_token, leave,
    man, network, node, restore, secret, service, stack, status, unlock, unlock_key,
};
use clap::{Parser, Subcommand};

/// Make a cluster of Linux machines, and run Compose files on it
#[derive(Debug, Parser)]
#[command(
    name = "clusterctl",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  clusterctl init --advertise-addr 192.168.205.10\n  clusterctl network create -d overlay \
                  demo\n  clusterctl deploy -c flask-redis.yml shop\n  clusterctl service ls\n\nExit codes: 0 done, 1 \
                  refused or failed, 2 wrong call, 130 interrupted; `exec` passes its command's on."
)]
pub struct Cli {
    /// The clusterd to talk to: unix:///PATH
    #[arg(short = 'H', long, global = true, env = "CLUSTERCTL_HOST", default_value = DEFAULT_HOST, value_name = "HOST")]
    pub host: String,

    /// Have what is looked at answered by the local manager (on a worker: any) from what it has, which may be old,
    /// even without a leader; for commands that only look
    #[arg(long, global = true)]
    pub stale: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::Args),
    Join(join::Args),
    JoinToken(join_token::Args),
    Leave(leave::Args),
    Status(status::Args),
    Cluster(cluster::Args),
    Unlock(unlock::Args),
    UnlockKey(unlock_key::Args),
    Node(node::Args),
    Ca(ca::Args),
    Network(network::Args),
    Deploy(deploy::Args),
    Stack(stack::Args),
    Service(service::Args),
    Secret(secret::Args),
    Config(config::Args),
    Exec(exec::Args),
    Image(image::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Completions(completions::Args),
    Man(man::Args),
}
