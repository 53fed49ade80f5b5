//! Published ports are taken for real, so that two programs can't believe they have one.

use super::HostThread;
use crate::{Error, Protocol, PublishedPort, Result, TaskId};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
};

/// A port of the host that is ours while this lives: a bound socket that never listens, so the
/// kernel gives the port to nobody else, not even to an outgoing connection.
#[derive(Debug)]
pub struct Reservation {
    _socket: OwnedFd,
}

impl Reservation {
    /// Takes a port in the host's namespace.
    ///
    /// # Errors
    /// [`Error::PortTaken`] naming the holder as far as it can be found.
    pub async fn take(host: &HostThread, task: &TaskId, port: PublishedPort) -> Result<Self> {
        let taken = host
            .run(move || bind_port(port.protocol, port.published).map_err(|e| (e, holder(port))))
            .await?;
        match taken {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err((nix::Error::EADDRINUSE, holder)) => Err(Error::PortTaken {
                task: task.clone(),
                protocol: port.protocol,
                port: port.published,
                holder: holder.unwrap_or_else(|| "another program".into()),
            }),
            Err((e, _)) => Err(Error::errno(format!(
                "taking port {}/{}",
                port.published, port.protocol
            ))(e)),
        }
    }
}

fn bind_port(protocol: Protocol, port: u16) -> nix::Result<OwnedFd> {
    let attempt = |reuse: bool| {
        let kind = match protocol {
            Protocol::Tcp => SockType::Stream,
            Protocol::Udp => SockType::Datagram,
        };
        let fd = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &reuse)?;
        bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?;
        Ok(fd)
    };
    match attempt(false) {
        // Connections that have ended may still occupy the port (TIME_WAIT); a listener fails this too.
        Err(nix::Error::EADDRINUSE) if protocol == Protocol::Tcp => attempt(true),
        other => other,
    }
}

/// Who has a port, if `/proc` tells: `name (pid 12)`.
fn holder(port: PublishedPort) -> Option<String> {
    let inode = inode_of(port)?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|n| n.parse::<u32>().is_ok()) else {
            continue;
        };
        let Ok(fds) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let has = |fd: fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|target| target.to_str() == Some(&wanted))
        };
        if fds.flatten().any(has) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", command.trim()));
        }
    }
    None
}

fn inode_of(port: PublishedPort) -> Option<u64> {
    let tables: &[&str] = match port.protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
    };
    tables.iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        text.lines()
            .skip(1)
            .filter_map(socket_line)
            .find_map(|(local, listens, inode)| {
                let bound = port.protocol == Protocol::Udp || listens;
                (local == port.published && bound && inode != 0).then_some(inode)
            })
    })
}

/// Local port, whether in state LISTEN, inode.
fn socket_line(line: &str) -> Option<(u16, bool, u64)> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?.rsplit_once(':')?.1;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some((u16::from_str_radix(local, 16).ok()?, state == "0A", inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_socket_table_is_read() {
        let line = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0";
        assert_eq!(socket_line(line), Some((22, true, 12345)));
        assert_eq!(socket_line("rubbish"), None);
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let published = listener.local_addr().unwrap().port();
        let port = PublishedPort {
            protocol: Protocol::Tcp,
            published,
            target: 80,
        };
        assert_eq!(
            bind_port(port.protocol, published).unwrap_err(),
            nix::Error::EADDRINUSE
        );
        let pid = format!("(pid {})", std::process::id());
        assert!(holder(port).unwrap().ends_with(&pid));
    }
}
