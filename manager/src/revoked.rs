//! Nodes that were removed: their connections end, and no new ones are made.
//!
//! A node's id is never used again, so that one which is gone stays gone. Knows neither Raft nor the state: who is
//! gone, the state says on managers, and the session on every node.

use crate::identity::Identity;
use api::model::{NodeId, REVOKED_MAX};
use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// How long a connection of a node that was removed may last: it is told so.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Who is gone, and which connections would have to end.
#[derive(Debug, Default)]
pub struct Revoked(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    gone: BTreeSet<NodeId>,
    /// Ends the connections of each.
    open: BTreeMap<NodeId, CancellationToken>,
}

impl Revoked {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        // A panic while it was held leaves a table that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are gone, beside those before. Their connections end.
    pub fn add(&self, gone: impl IntoIterator<Item = NodeId>) {
        let mut table = self.table();
        let mut named = BTreeSet::new();
        for node in gone {
            named.insert(node);
            if table.gone.insert(node) {
                tracing::debug!(%node, "its connections end: it was removed");
            }
            if let Some(open) = table.open.remove(&node) {
                open.cancel();
            }
        }
        // Who is not named any more has no certificate that is valid.
        if table.gone.len() > 2 * REVOKED_MAX {
            table.gone = named;
        }
    }

    /// Whether this node is gone.
    #[must_use]
    pub fn is_gone(&self, node: NodeId) -> bool {
        self.table().gone.contains(&node)
    }

    /// What ends a connection of this node; none when it is gone and may have no connection.
    fn admit(&self, node: NodeId) -> Option<CancellationToken> {
        let mut table = self.table();
        if table.gone.contains(&node) {
            return None;
        }
        Some(table.open.entry(node).or_default().child_token())
    }

    /// A connection that has come in, with its handshake done. It ends when its other side is removed; one who was
    /// removed before has just the time to hear so, since no call of it is served.
    pub fn guard_caller<S>(&self, stream: S, peer: Option<&[CertificateDer<'_>]>) -> Guarded<S> {
        let over: BoxFuture<'static, ()> = match node_of(peer) {
            Some(node) => match self.admit(node) {
                Some(over) => Box::pin(async move {
                    over.cancelled().await;
                    tokio::time::sleep(LAST_WORD).await;
                }),
                None => Box::pin(tokio::time::sleep(LAST_WORD)),
            },
            // Nobody that could be removed.
            None => Box::pin(std::future::pending()),
        };
        Guarded {
            inner: stream,
            over: Some(over),
        }
    }

    /// A connection that was made, with its handshake done, which ends when its other side is removed.
    ///
    /// # Errors
    /// When it was removed before.
    pub fn guard<S>(
        &self,
        stream: S,
        peer: Option<&[CertificateDer<'_>]>,
    ) -> io::Result<Guarded<S>> {
        match node_of(peer).filter(|node| self.is_gone(*node)) {
            Some(node) => Err(io::Error::other(format!(
                "node {node} was removed from the cluster"
            ))),
            None => Ok(self.guard_caller(stream, peer)),
        }
    }
}

fn node_of(peer: Option<&[CertificateDer<'_>]>) -> Option<NodeId> {
    let certificate = peer.and_then(|chain| chain.first())?;
    let identity = Identity::from_der(certificate).ok()?;
    Some(identity.node)
}

/// A connection that ends when its other side is removed from the cluster.
pub struct Guarded<S> {
    inner: S,
    /// None once it has.
    over: Option<BoxFuture<'static, ()>>,
}

impl<S> Guarded<S> {
    fn check(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(over) = &mut self.over else {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        };
        over.as_mut().poll(cx).map(|()| {
            self.over = None;
            io::ErrorKind::ConnectionAborted.into()
        })
    }
}

impl<S: Connected> Connected for Guarded<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.inner.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.check(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(error) = self.check(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(error) = self.check(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
