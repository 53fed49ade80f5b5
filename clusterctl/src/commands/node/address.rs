//! `clusterctl node update --addr` and `--manager`: this machine's own daemon is asked where the node is this machine,
//! since it needs no manager for it.

use super::{Update, fetch};
use crate::client::Client;
use anyhow::{Result, anyhow, bail};
use api::convert;
use api::proto::{DaemonInfo, GetInfoRequest, SetNodeAddressRequest, UpdateSelfRequest};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long a node may take to be there.
const BOUND: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(300);

pub async fn update(client: &Client, update: &Update) -> Result<()> {
    if !update.is_of_place() {
        return Ok(());
    }
    let info = client
        .daemon()
        .get_info(GetInfoRequest {})
        .await?
        .into_inner();
    if is_own(&info, &update.node) {
        let request = UpdateSelfRequest {
            addr: update.addr.clone().unwrap_or_default(),
            manager: update.manager.clone().unwrap_or_default(),
        };
        client.daemon().update_self(request).await?;
        return Ok(());
    }
    if update.manager.is_some() {
        bail!(
            "--manager is told to this machine's own clusterd, which is not {}: run it there, with `self` for the node",
            update.node
        );
    }
    let Some(addr) = &update.addr else {
        return Ok(());
    };
    let request = SetNodeAddressRequest {
        node: update.node.clone(),
        addr: addr.clone(),
    };
    let reply = client.control().set_node_address(request).await?;
    let id = convert::node_id(&reply.into_inner().node_id)?.to_string();
    wait(client, &id, addr.trim()).await
}

/// Whether this machine is meant.
fn is_own(info: &DaemonInfo, node: &str) -> bool {
    let id = convert::node_id(&info.node_id).map(|id| id.to_string());
    !node.is_empty() && (info.hostname == node || id.is_ok_and(|id| id == node))
}

/// Until the managers know the node there. They may be without a leader meanwhile.
async fn wait(client: &Client, id: &str, addr: &str) -> Result<()> {
    let end = Instant::now() + BOUND;
    loop {
        let last = match fetch(client, vec![id.to_owned()]).await {
            Ok(rows) => match rows.first() {
                Some(row) if row.node.addr.to_string() == addr => return Ok(()),
                Some(row) => anyhow!("the managers know it at {}", row.node.addr),
                None => anyhow!("the managers don't know it"),
            },
            Err(error) => error,
        };
        if Instant::now() >= end {
            return Err(last.context(format!(
                "the node took the address {addr}, and is not there within {} s; its log says why",
                BOUND.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_meant_by_its_name_and_its_id() {
        let id = api::model::NodeId(7);
        let info = DaemonInfo {
            hostname: "node1".into(),
            node_id: convert::id_bytes(id.0),
            ..DaemonInfo::default()
        };
        assert!(is_own(&info, "node1") && is_own(&info, &id.to_string()));
        assert!(!is_own(&info, "node2") && !is_own(&DaemonInfo::default(), ""));
    }
}
