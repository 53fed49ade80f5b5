//! `clusterctl init`

use super::ca::OwnCa;
use super::cluster::PaceArgs;
use super::recovered;
use crate::client::Client;
use crate::output;
use anyhow::Result;
use api::proto::{ForceNewClusterRequest, InitRequest};
use std::time::Duration;

/// Make a cluster, with this machine as its first manager
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clusterctl init\n  clusterctl init --advertise-addr 192.168.205.10\n  clusterctl init \
                        --address-pool 10.64.0.0/12 --subnet-prefix 22\n  clusterctl init --autolock\n  clusterctl init --cert-expiry 720h --ca-cert \
                        ca.crt --ca-key ca.key\n  clusterctl init --force-new-cluster   # the other managers are lost for good"
)]
pub struct Args {
    /// The address other nodes reach this machine at; needed when it has several
    #[arg(long, value_name = "IP")]
    advertise_addr: Option<String>,
    /// Where networks get their subnets from; must not overlap what your machines route
    #[arg(long, value_name = "CIDR", default_value = "10.0.0.0/8")]
    address_pool: String,
    /// Prefix length of each network's subnet
    #[arg(long, value_name = "BITS", default_value_t = 20)]
    subnet_prefix: u32,
    /// Refuse `exec` when it is called on a worker
    #[arg(long)]
    no_worker_exec: bool,
    /// Lock managers when they start, until `clusterctl unlock` is given the unlock key, which this prints
    #[arg(long)]
    autolock: bool,
    /// How long nodes' certificates are valid; they are renewed after half of it or a little more
    #[arg(long, value_name = "DURATION", default_value = "2160h", value_parser = crate::time::length)]
    cert_expiry: Duration,
    #[command(flatten)]
    own: OwnCa,
    /// On a manager whose cluster has lost its majority for good: go on with this machine as the only manager
    ///
    /// It keeps what it has of the cluster's state, the cluster's id and CA, and all workers with their containers.
    /// Changes that only the lost managers had are lost. Refused while a majority can be reached.
    #[arg(
        long,
        conflicts_with_all = ["advertise_addr", "address_pool", "subnet_prefix", "no_worker_exec", "autolock", "heartbeat", "dead_after", "task_history", "cert_expiry", "ca_cert", "ca_key"]
    )]
    force_new_cluster: bool,
    #[command(flatten)]
    pace: PaceArgs,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    if args.force_new_cluster {
        let request = ForceNewClusterRequest {};
        let stream = client
            .daemon()
            .force_new_cluster(request)
            .await?
            .into_inner();
        return recovered::tell(&recovered::follow(stream).await?);
    }
    let (ca_cert_pem, ca_key_pem) = args.own.read()?;
    let request = InitRequest {
        advertise_addr: args.advertise_addr.unwrap_or_default(),
        address_pool: args.address_pool,
        subnet_prefix: args.subnet_prefix,
        no_worker_exec: args.no_worker_exec,
        heartbeat_ms: args.pace.heartbeat.unwrap_or(0),
        dead_after_ms: args.pace.dead_after.unwrap_or(0),
        task_history: args.pace.task_history,
        cert_expiry_ms: u64::try_from(args.cert_expiry.as_millis()).unwrap_or(u64::MAX),
        ca_cert_pem,
        ca_key_pem,
        autolock: args.autolock,
    };
    let made = client.daemon().init(request).await?.into_inner();
    let node = api::convert::node_id(&made.node_id)?;
    output::line(format!(
        "Cluster made: this machine (node {node}) is its first manager.\n\nTo add a worker, run on another machine:\n\n    \
         clusterctl join --token {} {}\n\nFor a manager, `clusterctl join-token manager` here prints the command.",
        made.worker_token, made.addr
    ))?;
    match made.unlock_key.as_str() {
        "" => Ok(()),
        key => output::line(format!("\n{}", super::unlock_key::advice(key))),
    }
}
