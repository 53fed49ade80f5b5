//! The two doors: TCP with TLS for other nodes, a unix socket for this machine's users.

use anyhow::{Context, Result, bail};
use futures_util::Stream;
use manager::revoked::Guarded;
use manager::tls::Tls;
use nix::unistd::{Gid, Group, chown};
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// The group whose members may use the socket.
const GROUP: &str = "clusterd";
/// A peer that hasn't finished its handshake by then is dropped.
const HANDSHAKE_BOUND: Duration = Duration::from_secs(5);
/// Handshakes under way at once; more wait to be accepted.
const HANDSHAKES: usize = 256;

/// Takes the control port.
///
/// # Errors
/// Says who may have it and what to do.
pub async fn bind_tcp(addr: SocketAddrV4) -> Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {} is taken by another program (see `ss -ltnp sport = :{0}`); stop it, or start clusterd with \
             another --listen-addr",
            addr.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!("{} is not an address of this machine; start clusterd with another --listen-addr", addr.ip())
        }
        _ => anyhow::Error::new(error).context(format!("can't listen on {addr}")),
    })
}

/// Connections with their handshake done. Each takes the certificate of its moment; a slow peer holds up
/// nobody.
pub fn tls_incoming(
    listener: TcpListener,
    tls: Arc<Tls>,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Guarded<TlsStream<TcpStream>>>> {
    let (tx, rx) = mpsc::channel(64);
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(place) = room.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: it passes.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (tx, acceptor) = (tx.clone(), TlsAcceptor::from(tls.server()));
            let revoked = tls.revoked().clone();
            tokio::spawn(async move {
                let _place = place;
                let peer_addr = stream.peer_addr();
                // Without it small messages wait; nothing breaks.
                let _ = stream.set_nodelay(true);
                match tokio::time::timeout(HANDSHAKE_BOUND, acceptor.accept(stream)).await {
                    // The server may have ended meanwhile.
                    Ok(Ok(stream)) => {
                        let peer = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
                        let stream = revoked.guard_caller(stream, peer.as_deref());
                        drop(tx.send(Ok(stream)).await);
                    }
                    Ok(Err(error)) => tracing::debug!(?peer_addr, %error, "no TLS handshake"),
                    Err(_) => tracing::debug!(?peer_addr, "a TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(rx)
}

/// Takes the socket: root's, and the group's if there is one.
///
/// # Errors
/// When another clusterd listens on it, or it can't be made.
pub async fn bind_unix(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("can't make {}", parent.display()))?;
    }
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            bail!(
                "another clusterd listens on {shown}; stop it, or give this one its own --socket"
            );
        }
        let kind = std::fs::symlink_metadata(path)
            .with_context(|| format!("can't look at {shown}"))?
            .file_type();
        if !kind.is_socket() {
            bail!("{shown} is there and is no socket; remove it, or give another --socket");
        }
        std::fs::remove_file(path)
            .with_context(|| format!("can't remove the old socket {shown}"))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("can't listen on {shown}"))?;
    let group = Group::from_name(GROUP).ok().flatten().map(|g| g.gid);
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    chown(path, None, Some(group.unwrap_or(Gid::from_raw(0))))
        .with_context(|| format!("can't give {shown} its group"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("can't set the mode of {shown}"))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let std::net::SocketAddr::V4(addr) = first.local_addr().unwrap() else {
            panic!()
        };
        let error = bind_tcp(addr).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("port {} is taken", addr.port())),
            "{error}"
        );
        assert!(error.contains("--listen-addr"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_in_use_is_left_alone_and_an_old_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/clusterd.sock");
        let first = bind_unix(&path).await.unwrap();
        assert!(
            bind_unix(&path)
                .await
                .unwrap_err()
                .to_string()
                .contains("another clusterd")
        );
        drop(first);
        bind_unix(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        std::fs::write(&path, "mine").unwrap();
        let error = bind_unix(&path).await.unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
