//! Asking the node's own name servers, from the host's namespace.

use super::{
    message::{Transport, answers, is_server_failure},
    resolv_conf,
};
use crate::linux::HostThread;
use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

/// Time for one server to answer.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);
/// Questions under way on this node at once.
const UNDER_WAY_MAX: usize = 200;

/// What tells one state of a file from another.
type FileState = (i64, i64, u64, u64);

/// The node's servers.
#[derive(Debug)]
pub struct Upstream {
    path: PathBuf,
    host: Arc<HostThread>,
    servers: Mutex<(Option<FileState>, Vec<SocketAddr>)>,
    under_way: Semaphore,
}

impl Upstream {
    /// Servers listed in `path`, asked from the host's namespace.
    #[must_use]
    pub fn new(path: PathBuf, host: Arc<HostThread>) -> Self {
        Self {
            path,
            host,
            servers: Mutex::new((None, Vec::new())),
            under_way: Semaphore::new(UNDER_WAY_MAX),
        }
    }

    /// Asks one server after another. `None` if none gave an answer, or too many questions are under
    /// way already.
    pub async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let _place = self.under_way.try_acquire().ok()?;
        let mut last = None;
        for server in self.servers() {
            let asked = async {
                match transport {
                    Transport::Udp => self.ask_udp(server, question).await,
                    Transport::Tcp => self.ask_tcp(server, question).await,
                }
            };
            match timeout(SERVER_TIMEOUT, asked).await {
                Ok(Ok(answer)) if is_server_failure(&answer) => last = Some(answer),
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(e)) => tracing::debug!(%server, error = %e, "name server failed"),
                Err(_) => tracing::debug!(%server, "name server didn't answer"),
            }
        }
        last
    }

    /// The list, read again if the file has changed.
    fn servers(&self) -> Vec<SocketAddr> {
        let state = fs::metadata(&self.path)
            .ok()
            .map(|m| (m.mtime(), m.mtime_nsec(), m.ino(), m.size()));
        let mut known = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != state || state.is_none() {
            let text = fs::read_to_string(&self.path).unwrap_or_default();
            *known = (state, resolv_conf::servers(&text));
        }
        known.1.clone()
    }

    /// A fresh socket for each question: its port is as hard to guess as its id.
    async fn ask_udp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self
            .host
            .run(move || {
                let any: SocketAddr = if server.is_ipv4() {
                    (Ipv4Addr::UNSPECIFIED, 0).into()
                } else {
                    (Ipv6Addr::UNSPECIFIED, 0).into()
                };
                let socket = std::net::UdpSocket::bind(any)?;
                socket.connect(server)?;
                socket.set_nonblocking(true)?;
                io::Result::Ok(socket)
            })
            .await
            .map_err(io::Error::other)??;
        let socket = UdpSocket::from_std(socket)?;
        let id: [u8; 2] = rand::random();
        socket.send(&with_id(question, id)).await?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let n = socket.recv(&mut buffer).await?;
            let answer = buffer.get(..n).unwrap_or_default();
            if answer.starts_with(&id) && answers(question, answer) {
                return Ok(with_id(answer, id_of(question)));
            }
        }
    }

    async fn ask_tcp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self
            .host
            .run(move || match server {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            })
            .await
            .map_err(io::Error::other)??;
        let mut stream = socket.connect(server).await?;
        let len = u16::try_from(question.len()).map_err(io::Error::other)?;
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(question);
        stream.write_all(&framed).await?;
        let len = usize::from(stream.read_u16().await?);
        let mut answer = vec![0; len];
        stream.read_exact(&mut answer).await?;
        if answer.starts_with(&id_of(question)) && answers(question, &answer) {
            Ok(answer)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

fn id_of(packet: &[u8]) -> [u8; 2] {
    match packet {
        [a, b, ..] => [*a, *b],
        _ => [0; 2],
    }
}

fn with_id(packet: &[u8], id: [u8; 2]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Some(head) = packet.get_mut(..2) {
        head.copy_from_slice(&id);
    }
    packet
}
