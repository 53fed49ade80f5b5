//! One task's namespace: made, completed and removed. Jobs of different tasks run side by side.

use super::context::{Context, NetNs, sysctl};
use crate::{
    Error, Result, TaskId,
    linux::{
        self, NftSocket, Ns, ResolverSockets, Rtnl, delete_link, make_link, read_task, set_addr,
        set_gateway_route,
    },
    plan::{
        BRIDGE, GATEWAY_IF, LinkPicture, PeerAt, Picture, TaskOp, TaskPicture, diff_task,
        gateway_of,
    },
};
use nix::libc;
use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) type Networks = BTreeMap<u32, Arc<NetNs>>;

/// How long a dropped namespace may take to take its links with it, before they are deleted one by one.
const VANISH: Duration = Duration::from_millis(400);

/// A task's namespace, complete.
#[derive(Debug)]
pub(super) struct Built {
    pub ns: Ns,
    pub nft: NftSocket,
    pub sockets: ResolverSockets,
    /// What was made.
    pub pictured: TaskPicture,
}

/// What to build.
#[derive(Debug)]
pub(super) struct Build {
    pub id: TaskId,
    pub wanted: TaskPicture,
    pub networks: Networks,
    pub adopted: Option<Vec<OwnedFd>>,
}

/// Makes a task's namespace what is wanted, from whatever is there. A namespace made here is
/// removed again on failure; one that was there stays.
pub(super) async fn build(context: &Context, build: Build) -> Result<Built> {
    let path = context.task_path(&build.id);
    let (rt, opened_path) = (tokio::runtime::Handle::current(), path.clone());
    let adopted = build.adopted;
    let (fresh, ns, rtnl, nft, sockets) =
        blocking(move || open_or_create(&opened_path, adopted, &rt)).await?;
    let mut built = Built {
        ns,
        nft,
        sockets,
        pictured: build.wanted,
    };
    let completed = complete(context, &build.networks, &rtnl, &mut built, fresh).await;
    drop(rtnl);
    match completed {
        Ok(()) => Ok(built),
        Err(e) if fresh => {
            let wanted = built.pictured.clone();
            drop(built);
            if let Err(undo) = remove(context, &path, &wanted, &build.networks).await {
                tracing::warn!(task = %build.id, error = %undo, "undoing a failed attachment");
            }
            Err(e)
        }
        Err(e) => Err(e),
    }
}

type Opened = (bool, Ns, Rtnl, NftSocket, ResolverSockets);

fn open_or_create(
    path: &Path,
    adopted: Option<Vec<OwnedFd>>,
    rt: &tokio::runtime::Handle,
) -> Result<Opened> {
    let open_nft = || NftSocket::open().map_err(Error::io("opening a netfilter socket"));
    if let Ok(ns) = Ns::open(path) {
        let (rtnl, nft, sockets) = ns.run(|| {
            let sockets = match adopted {
                Some(fds) if !fds.is_empty() => ResolverSockets::from_fds(fds)?,
                _ => ResolverSockets::bind_here()?,
            };
            Ok((Rtnl::open_here(rt)?, open_nft()?, sockets))
        })?;
        return Ok((false, ns, rtnl, nft, sockets));
    }
    // A file without a mount, left by a machine that lost power.
    Ns::unmount(path)?;
    let (ns, (rtnl, nft, sockets)) = Ns::create(path, || {
        prepare()?;
        Ok((
            Rtnl::open_here(rt)?,
            open_nft()?,
            ResolverSockets::bind_here()?,
        ))
    })?;
    Ok((true, ns, rtnl, nft, sockets))
}

/// Settings of a new task's namespace, on a thread inside it.
fn prepare() -> Result<()> {
    // Networks are IPv4 only; the loopback keeps ::1, which programs expect.
    sysctl("ipv6/conf/default/disable_ipv6", "1");
    // The host's hints are about its own side of the address translation.
    sysctl("ipv4/conf/all/accept_redirects", "0");
    sysctl("ipv4/conf/default/accept_redirects", "0");
    // In a container, any user may bind any port and ping, as Docker has it.
    sysctl("ipv4/ip_unprivileged_port_start", "0");
    sysctl("ipv4/ping_group_range", "0 2147483647");
    loopback_up().map_err(Error::io("bringing up the loopback"))
}

/// By ioctl: the one message that would otherwise need a connection, before the resolver can bind.
fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::try_from(*from).unwrap_or_default();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
    // SAFETY: the descriptor is open and `request` outlives the call, which reads it.
    let done = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SIOCSIFFLAGS,
            &raw const request,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

async fn complete(
    context: &Context,
    networks: &Networks,
    rtnl: &Rtnl,
    built: &mut Built,
    fresh: bool,
) -> Result<()> {
    let wanted = &built.pictured;
    let (actual, whole) = if fresh {
        (TaskPicture::default(), Picture::default())
    } else {
        (
            read_task(rtnl, wanted).await?,
            peers(context, networks, wanted).await?,
        )
    };
    for op in diff_task(wanted, &actual, &whole) {
        match op {
            TaskOp::Vips(change) => built
                .nft
                .change_vips(&change)
                .map_err(Error::io("setting a task's virtual addresses"))?,
            op => perform_task_op(context, networks, rtnl, &built.ns, &op).await?,
        }
    }
    Ok(())
}

/// Which of the wanted links' other ends are there.
async fn peers(context: &Context, networks: &Networks, wanted: &TaskPicture) -> Result<Picture> {
    let mut whole = Picture::default();
    for link in wanted.links.values() {
        match link.at {
            PeerAt::Host => {
                if linux::link_exists(&context.rtnl, &link.peer).await? {
                    whole.host.veths.insert(link.peer.clone(), None);
                }
            }
            PeerAt::Network(vni) => {
                if let Some(network) = networks.get(&vni)
                    && linux::link_exists(&network.rtnl, &link.peer).await?
                {
                    let ports = &mut whole.networks.entry(vni).or_default().ports;
                    ports.insert(link.peer.clone(), true);
                }
            }
        }
    }
    Ok(whole)
}

/// Performs a step in a task's namespace; VIPs are not for here.
pub(super) async fn perform_task_op(
    context: &Context,
    networks: &Networks,
    rtnl: &Rtnl,
    ns: &Ns,
    op: &TaskOp,
) -> Result<()> {
    match op {
        TaskOp::MakeLink(name, link) => link_up(context, networks, rtnl, ns, name, link).await,
        TaskOp::SetAddr(name, addr) => set_addr(rtnl, name, *addr).await,
        TaskOp::SetGateway(via) => set_gateway_route(rtnl, GATEWAY_IF, *via).await,
        TaskOp::Vips(_) => Ok(()),
    }
}

async fn link_up(
    context: &Context,
    networks: &Networks,
    rtnl: &Rtnl,
    ns: &Ns,
    name: &str,
    link: &LinkPicture,
) -> Result<()> {
    match link.at {
        PeerAt::Host => {
            make_link(&context.rtnl, None, rtnl, ns, name, link).await?;
            let addr = link.addr.map_or(Ipv4Addr::UNSPECIFIED, |net| net.addr());
            route_host_end(context, &link.peer, addr).await
        }
        PeerAt::Network(vni) => {
            let network = networks.get(&vni).ok_or_else(|| Error::Io {
                what: format!("finding the namespace of vni {vni}"),
                source: io::ErrorKind::NotFound.into(),
            })?;
            make_link(&network.rtnl, Some(BRIDGE), rtnl, ns, name, link).await
        }
    }
}

/// Leads the host's end of a gateway link to its task, for connections by 127.0.0.1 too.
pub(super) async fn route_host_end(context: &Context, veth: &str, addr: Ipv4Addr) -> Result<()> {
    let parameter = format!("ipv4/conf/{veth}/route_localnet");
    let set = context.thread.run(move || sysctl(&parameter, "1"));
    set.await?;
    let own = gateway_of(context.params.pool);
    linux::route_veth(&context.rtnl, veth, own, addr).await
}

/// Removes a task's namespace and the links into it, and goes on past errors. Its own processes and
/// sockets should be gone; if not, the links go all the same.
///
/// The namespace is dropped first: the kernel then removes many at once, where each link deleted by
/// itself would wait for all processors.
pub(super) async fn remove(
    context: &Context,
    path: &Path,
    pictured: &TaskPicture,
    networks: &Networks,
) -> Result<()> {
    let mut errors = Vec::new();
    if let Err(e) = Ns::unmount(path) {
        errors.push(e);
    }
    let until = Instant::now() + VANISH;
    for link in pictured.links.values() {
        let rtnl = match link.at {
            PeerAt::Host => &context.rtnl,
            PeerAt::Network(vni) => match networks.get(&vni) {
                Some(network) => &network.rtnl,
                None => continue,
            },
        };
        while Instant::now() < until
            && matches!(linux::link_exists(rtnl, &link.peer).await, Ok(true))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Err(e) = delete_link(rtnl, &link.peer).await {
            errors.push(e);
        }
    }
    Error::all(errors)
}

/// Runs `f` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Stopped),
        },
    }
}

/// Removes the folder of namespaces, if it is empty.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()))(e))
        }
        _ => Ok(()),
    }
}
