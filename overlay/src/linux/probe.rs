//! What the machine must have, checked before anything is made.

use super::{HostThread, NftSocket, Ns, Rtnl, read};
use crate::{Config, Error, Result, plan::VXLAN};
use rtnetlink::LinkVxlan;
use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd},
    process::{Command, Stdio},
};

/// The link that carries the overlay's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Its name.
    pub name: String,
    /// Its MTU, bytes.
    pub mtu: u32,
}

/// Smallest MTU over which IPv4 and VXLAN make sense, bytes.
const UNDERLAY_MTU_MIN: u32 = 626;

/// Checks the machine and finds the underlay.
///
/// # Errors
/// One clear error for the first thing that is missing.
pub async fn probe(config: &Config, host: &Rtnl, thread: &HostThread) -> Result<Underlay> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    if config.vxlan_port == 0 {
        return Err(Error::BadConfig {
            name: "vxlan_port",
            reason: "port 0 is no port".into(),
        });
    }
    if let Some(pool) = config.gateway_pools.iter().find(|p| p.prefix_len() > 29) {
        return Err(Error::BadConfig {
            name: "gateway_pools",
            reason: format!("{pool} is too small; a /29 or larger is needed"),
        });
    }
    let underlay = underlay(host, config.vtep).await?;
    if underlay.mtu < UNDERLAY_MTU_MIN {
        return Err(Error::BadConfig {
            name: "vtep",
            reason: format!(
                "link {} has an mtu of {} bytes; at least {UNDERLAY_MTU_MIN} are needed",
                underlay.name, underlay.mtu
            ),
        });
    }
    thread
        .run(|| {
            Command::new("nft")
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .map_err(Error::NoNft)?;
            NftSocket::open().map_err(|_| Error::Kernel {
                what: "nf_tables",
                cure: "load it (modprobe nf_tables) or use a kernel with CONFIG_NF_TABLES",
            })?;
            Ok(())
        })
        .await??;
    kernel_has_vxlan(host).await?;
    Ok(underlay)
}

async fn underlay(host: &Rtnl, vtep: Ipv4Addr) -> Result<Underlay> {
    let addresses = read::addresses(host).await?;
    let links = read::links(host).await?;
    let index = addresses
        .iter()
        .find_map(|(index, addr)| (addr.addr() == vtep).then_some(*index));
    links
        .into_iter()
        .find(|link| Some(link.index) == index)
        .map(|link| Underlay {
            name: link.name,
            mtu: link.mtu,
        })
        .ok_or_else(|| {
            let has: Vec<_> = addresses
                .iter()
                .map(|(_, net)| net.addr())
                .filter(|addr| !addr.is_loopback())
                .map(|addr| addr.to_string())
                .collect();
            Error::NotOurAddress {
                vtep,
                has: if has.is_empty() {
                    "none".into()
                } else {
                    has.join(", ")
                },
            }
        })
}

/// Makes a port in a namespace that is thrown away with it.
async fn kernel_has_vxlan(host: &Rtnl) -> Result<()> {
    let trial = Ns::anonymous()?;
    let message = LinkVxlan::new(VXLAN, 1)
        .port(1)
        .setns_by_fd(trial.as_fd().as_raw_fd())
        .build();
    host.link()
        .add(message)
        .execute()
        .await
        .map_err(|_| Error::Kernel {
            what: "vxlan",
            cure: "load it (modprobe vxlan) or use a kernel with CONFIG_VXLAN",
        })
}
