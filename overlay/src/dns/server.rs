//! Serves one task's resolver sockets. Thin: zone and message decide.
//!
//! Two tasks of the runtime per container, both owned by [`Server`]: one reads datagrams, one accepts
//! connections; questions to be asked elsewhere run in bounded sets owned by these.

use super::{
    message::{self, Reply, Transport},
    upstream::Upstream,
    zone::{Asker, Meaning, Zones, reverse_name},
};
use crate::{Error, Result, linux::ResolverSockets};
use arc_swap::ArcSwap;
use rand::seq::SliceRandom;
use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// Forwarded questions or connections of one container at once.
const PER_TASK_MAX: usize = 64;
/// Silence after which a connection is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after an error that isn't a client's, so that it can't spin.
const PAUSE: Duration = Duration::from_millis(100);

/// What all servers of a node share.
#[derive(Debug)]
pub struct Shared {
    /// Zones, swapped as a whole.
    pub zones: ArcSwap<Zones>,
    /// The node's own servers.
    pub upstream: Upstream,
}

/// A task's resolver, running.
#[derive(Debug)]
pub struct Server {
    asker: Arc<ArcSwap<Asker>>,
    udp: JoinHandle<()>,
    tcp: JoinHandle<()>,
}

impl Server {
    /// Serves duplicates of `sockets`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the descriptors can't be used.
    pub fn start(sockets: &ResolverSockets, asker: Asker, shared: Arc<Shared>) -> Result<Self> {
        let what = "serving a resolver's sockets";
        let mut fds = sockets.duplicate()?.into_iter();
        let (Some(udp), Some(tcp)) = (fds.next(), fds.next()) else {
            return Err(Error::Stopped);
        };
        let udp = udp_from(udp).map_err(Error::io(what))?;
        let tcp = tcp_from(tcp).map_err(Error::io(what))?;
        let asker = Arc::new(ArcSwap::from_pointee(asker));
        let resolver = Resolver {
            asker: asker.clone(),
            shared,
        };
        Ok(Self {
            asker,
            udp: tokio::spawn(serve_udp(Arc::new(udp), resolver.clone())),
            tcp: tokio::spawn(serve_tcp(tcp, resolver)),
        })
    }

    /// Replaces what is known of the asker.
    pub fn set_asker(&self, asker: Asker) {
        if **self.asker.load() != asker {
            self.asker.store(Arc::new(asker));
        }
    }

    /// Stops serving. Questions stay queued in the sockets as long as somebody holds them.
    pub async fn stop(self) {
        self.udp.abort();
        self.tcp.abort();
        let _ = self.udp.await;
        let _ = self.tcp.await;
    }
}

fn udp_from(fd: OwnedFd) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::from(fd);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn tcp_from(fd: OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(fd);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

#[derive(Debug, Clone)]
struct Resolver {
    asker: Arc<ArcSwap<Asker>>,
    shared: Arc<Shared>,
}

impl Resolver {
    fn reply(&self, packet: &[u8], transport: Transport) -> Reply {
        let (asker, zones) = (self.asker.load(), self.shared.zones.load());
        message::reply(
            packet,
            transport,
            |name| asker.forward(&zones, name),
            |name| {
                reverse_name(name).map_or(Meaning::Elsewhere, |addr| asker.reverse(&zones, addr))
            },
            |addrs| addrs.shuffle(&mut rand::rng()),
        )
    }

    /// The answer to a question of others' names.
    async fn forward(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match self.shared.upstream.ask(packet, transport).await {
            Some(answer) => Some(answer),
            None => message::failure(packet),
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, resolver: Resolver) {
    let mut forwarding = JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        let (n, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(e) => {
                tracing::debug!(error = %e, "resolver socket");
                sleep(PAUSE).await;
                continue;
            }
        };
        while forwarding.try_join_next().is_some() {}
        let packet = buffer.get(..n).unwrap_or_default();
        let answer = match resolver.reply(packet, Transport::Udp) {
            Reply::Answer(answer) => Some(answer),
            Reply::Ignore => None,
            Reply::Forward if forwarding.len() >= PER_TASK_MAX => message::failure(packet),
            Reply::Forward => {
                let (socket, resolver) = (socket.clone(), resolver.clone());
                let packet = packet.to_vec();
                forwarding.spawn(async move {
                    if let Some(answer) = resolver.forward(&packet, Transport::Udp).await {
                        // A client that is gone needs no answer.
                        let _ = socket.send_to(&answer, from).await;
                    }
                });
                None
            }
        };
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, resolver: Resolver) {
    let mut connections = JoinSet::new();
    loop {
        // At the limit, the next client waits in the backlog until one is done.
        while connections.len() >= PER_TASK_MAX {
            let _ = connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let resolver = resolver.clone();
                connections.spawn(async move {
                    // An error is the client's: it is gone.
                    let _ = serve_stream(stream, &resolver).await;
                });
            }
            Err(e) => {
                tracing::debug!(error = %e, "resolver listener");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_stream(mut stream: TcpStream, resolver: &Resolver) -> io::Result<()> {
    loop {
        let packet = timeout(IDLE, async {
            let len = usize::from(stream.read_u16().await?);
            let mut packet = vec![0; len];
            stream.read_exact(&mut packet).await?;
            io::Result::Ok(packet)
        })
        .await??;
        let answer = match resolver.reply(&packet, Transport::Tcp) {
            Reply::Answer(answer) => Some(answer),
            Reply::Forward => resolver.forward(&packet, Transport::Tcp).await,
            Reply::Ignore => None,
        };
        let Some(answer) = answer else {
            return Ok(());
        };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
