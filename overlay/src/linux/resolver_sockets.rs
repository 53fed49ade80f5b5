//! The sockets of a task's resolver: born in its namespace, served from outside, and kept by the
//! container's shim while nobody serves them.

use crate::{Error, Result};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, getsockopt, listen,
    setsockopt, socket, sockopt,
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

/// Where a container finds its resolver.
pub const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);

/// Connections that may wait for a resolver that restarts.
const BACKLOG: i32 = 64;

/// UDP socket and TCP listener.
#[derive(Debug)]
pub struct ResolverSockets {
    /// UDP.
    pub udp: OwnedFd,
    /// TCP, listening.
    pub tcp: OwnedFd,
}

impl ResolverSockets {
    /// Binds them in the calling thread's namespace.
    ///
    /// # Errors
    /// If somebody else has the port there.
    pub fn bind_here() -> Result<Self> {
        let open = |kind: SockType| -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Inet, kind, flags, None)?;
            // A container's own name server may bind all addresses beside it, if it sets this too.
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            bind(fd.as_raw_fd(), &SockaddrIn::from(RESOLVER))?;
            Ok(fd)
        };
        let what = || format!("binding the resolver to {RESOLVER}");
        let udp = open(SockType::Datagram).map_err(Error::errno(what()))?;
        let tcp = open(SockType::Stream).map_err(Error::errno(what()))?;
        let backlog = Backlog::new(BACKLOG).map_err(Error::errno(what()))?;
        listen(&tcp, backlog).map_err(Error::errno(what()))?;
        Ok(Self { udp, tcp })
    }

    /// Takes back what [`ResolverSockets::duplicate`] gave away.
    ///
    /// # Errors
    /// If these are not such sockets.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Result<Self> {
        let (mut udp, mut tcp) = (None, None);
        for fd in fds {
            let bound: SockaddrIn =
                getsockname(fd.as_raw_fd()).map_err(Error::errno("reading a resolver socket"))?;
            if SocketAddrV4::from(bound) != RESOLVER {
                continue;
            }
            match getsockopt(&fd, sockopt::SockType) {
                Ok(SockType::Datagram) => udp = Some(fd),
                Ok(SockType::Stream) => tcp = Some(fd),
                _ => {}
            }
        }
        match (udp, tcp) {
            (Some(udp), Some(tcp)) => Ok(Self { udp, tcp }),
            _ => Err(Error::Io {
                what: "taking back the resolver's sockets".into(),
                source: std::io::Error::new(
                    std::io::ErrorKind::InvalidInput,
                    format!("need a udp and a tcp socket bound to {RESOLVER}"),
                ),
            }),
        }
    }

    /// Duplicates to hand out: UDP, TCP.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn duplicate(&self) -> Result<Vec<OwnedFd>> {
        let dup = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(Error::io("duplicating a resolver socket"))
        };
        Ok(vec![dup(&self.udp)?, dup(&self.tcp)?])
    }
}
