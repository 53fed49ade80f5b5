//! Connections to other nodes: one per address, expected name and lane, kept and shared.
//!
//! The cache is bounded; what falls out of it lives on while somebody holds it. A channel connects when it
//! is first used and again after it broke. Knows neither Raft nor the state.

use crate::identity::{MANAGER_NAME, node_name};
use crate::revoked::{Guarded, Revoked};
use crate::tls::Tls;
use api::model::NodeId;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Connections kept.
const CACHE: usize = 256;
/// How long TCP and TLS together may take.
const CONNECT_BOUND: Duration = Duration::from_secs(3);
/// An idle connection is asked for life this often.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// And is given up when it doesn't answer for this long.
const KEEPALIVE_BOUND: Duration = Duration::from_secs(3);

/// Which connection, where one address has several: what must not wait behind bulk has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Calls of all kinds.
    Calls,
    /// The log of the managers.
    Raft,
    /// Raft's heartbeats and votes.
    Pulse,
    /// Snapshots.
    Bulk,
}

/// Why a node can't be reached.
#[derive(Debug, thiserror::Error)]
#[error("{addr} can't be reached: {cause}")]
pub struct DialError {
    /// `host:port`.
    pub addr: String,
    /// What the network, or TLS, said.
    pub cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    addr: String,
    name: String,
    lane: Lane,
}

#[derive(Debug, Default)]
struct Cache {
    channels: HashMap<Key, (Channel, u64)>,
    clock: u64,
}

/// Makes and keeps the connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialer {
    tls: Arc<Tls>,
    cache: Arc<Mutex<Cache>>,
}

impl Dialer {
    /// With this node's certificate.
    #[must_use]
    pub fn new(tls: Arc<Tls>) -> Self {
        Self {
            tls,
            cache: Arc::default(),
        }
    }

    /// This node's TLS.
    #[must_use]
    pub fn tls(&self) -> &Arc<Tls> {
        &self.tls
    }

    /// A channel to whatever manager listens at `host:port`.
    #[must_use]
    pub fn manager(&self, addr: &str) -> Channel {
        self.channel(addr, MANAGER_NAME, Lane::Calls)
    }

    /// A channel to this very node at `host:port`.
    #[must_use]
    pub fn node(&self, addr: &str, node: NodeId) -> Channel {
        self.channel(addr, &node_name(node), Lane::Calls)
    }

    /// A channel to this very node, in a lane.
    #[must_use]
    pub fn lane(&self, addr: &str, node: NodeId, lane: Lane) -> Channel {
        self.channel(addr, &node_name(node), lane)
    }

    /// Forgets every connection, so that the next calls are made with the certificate of then.
    pub fn forget_all(&self) {
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .channels
            .clear();
    }

    /// Whether something listens at `host:port` that is a manager of this cluster.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn probe(&self, addr: &str) -> Result<(), DialError> {
        connect(addr, MANAGER_NAME, self.tls.client(), self.tls.revoked())
            .await
            .map(drop)
    }

    fn channel(&self, addr: &str, name: &str, lane: Lane) -> Channel {
        let key = Key {
            addr: addr.to_owned(),
            name: name.to_owned(),
            lane,
        };
        // A panic while it was held leaves a map that is whole.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let clock = cache.clock;
        if let Some((channel, used)) = cache.channels.get_mut(&key) {
            *used = clock;
            return channel.clone();
        }
        if cache.channels.len() >= CACHE
            && let Some(oldest) = cache
                .channels
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(k, _)| k.clone())
        {
            cache.channels.remove(&oldest);
        }
        let (tls, to) = (self.tls.clone(), key.clone());
        let channel = lazy(move || {
            let (tls, to) = (tls.clone(), to.clone());
            async move { connect(&to.addr, &to.name, tls.client(), tls.revoked()).await }
        });
        cache.channels.insert(key, (channel.clone(), clock));
        channel
    }
}

/// A channel that connects when it is first used.
fn lazy<F, Fut>(connect: F) -> Channel
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Guarded<TlsStream<TcpStream>>, DialError>> + Send + 'static,
{
    Endpoint::from_static("http://node.cluster.internal")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_BOUND)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let stream = connect();
            async move { stream.await.map(TokioIo::new) }
        }))
}

/// A channel for one who has no certificate yet.
#[must_use]
pub fn unidentified(addr: &str, config: Arc<ClientConfig>) -> Channel {
    let addr = addr.to_owned();
    lazy(move || {
        let (addr, config) = (addr.clone(), config.clone());
        async move { connect(&addr, MANAGER_NAME, config, &Revoked::default()).await }
    })
}

async fn connect(
    addr: &str,
    name: &str,
    config: Arc<ClientConfig>,
    revoked: &Revoked,
) -> Result<Guarded<TlsStream<TcpStream>>, DialError> {
    let failed = |cause: String| DialError {
        addr: addr.to_owned(),
        cause,
    };
    let opened = tokio::time::timeout(CONNECT_BOUND, async {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        let peer = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        revoked.guard(stream, peer.as_deref())
    })
    .await;
    match opened {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(explain(&error, name))),
        Err(_) => Err(failed(format!(
            "no answer within {} s",
            CONNECT_BOUND.as_secs()
        ))),
    }
}

/// TLS's own words, or those that say what they mean here.
fn explain(error: &io::Error, name: &str) -> String {
    use rustls::CertificateError as Bad;
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(Bad::UnknownIssuer)) => {
            "its certificate is not of this cluster".into()
        }
        Some(rustls::Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        )) => {
            if name == MANAGER_NAME {
                "it is no manager".into()
            } else {
                format!(
                    "it is another node than {}",
                    name.split('.').next().unwrap_or(name)
                )
            }
        }
        Some(rustls::Error::InvalidCertificate(Bad::ExpiredContext { time, not_after })) => {
            let (then, now) = (shown(not_after.as_secs()), shown(time.as_secs()));
            format!("its certificate has expired, at {then}, and here it is {now}; {CLOCKS}")
        }
        Some(rustls::Error::InvalidCertificate(Bad::Expired)) => {
            format!("its certificate has expired; {CLOCKS}")
        }
        Some(rustls::Error::InvalidCertificate(Bad::NotValidYetContext { time, not_before })) => {
            let (then, now) = (shown(not_before.as_secs()), shown(time.as_secs()));
            format!("its certificate is not valid before {then}, and here it is {now}; {CLOCKS}")
        }
        Some(rustls::Error::InvalidCertificate(Bad::NotValidYet)) => {
            format!("its certificate is not valid yet; {CLOCKS}")
        }
        Some(other) => refusal_of_ours(other).unwrap_or_else(|| format!("TLS: {other}")),
        None => error.to_string(),
    }
}

/// What to do where the times of certificates don't fit.
const CLOCKS: &str = "one of the two machines' clocks may be wrong: compare them, and set the wrong one \
                      (`timedatectl set-ntp true`)";

/// A moment, as people write it.
fn shown(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| format!("{seconds} s after 1970"),
        |at| at.strftime("%F %T UTC").to_string(),
    )
}

/// What the other side has against this node's certificate, which TLS tells in one word.
fn refusal_of_ours(error: &rustls::Error) -> Option<String> {
    match error {
        // Said of those that are not valid yet, too.
        rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired) => Some(
            format!("it says that this node's certificate is not valid now; {CLOCKS}"),
        ),
        _ => None,
    }
}

/// What to tell of a call that failed on its way: the deepest cause, which names address and reason.
#[must_use]
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
        if deepest.is::<DialError>() {
            break;
        }
    }
    // A refusal comes after the handshake, with the first answer.
    let inner = deepest
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let tls = inner
        .and_then(|inner| inner.downcast_ref())
        .or_else(|| deepest.downcast_ref());
    tls.and_then(refusal_of_ours)
        .unwrap_or_else(|| deepest.to_string())
}

/// Whether a call failed because there was no connection: then nothing of it was sent.
#[must_use]
pub fn was_not_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<DialError>() || error.is::<tonic::ConnectError>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use rustls::{AlertDescription, CertificateError, Error};

    fn told(error: Error) -> String {
        explain(&io::Error::other(error), MANAGER_NAME)
    }

    #[test]
    fn a_clock_an_hour_off_is_named_with_both_times() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let (now, hour) = (1_750_000_000, 3_600);
        let early = told(Error::InvalidCertificate(
            CertificateError::NotValidYetContext {
                time: at(now - hour),
                not_before: at(now),
            },
        ));
        for part in [
            "not valid before 2025-06-15 15:06:40 UTC",
            "here it is 2025-06-15 14:06:40 UTC",
            "clocks may be wrong",
            "timedatectl set-ntp true",
        ] {
            assert!(early.contains(part), "{part}: {early}");
        }
        let late = told(Error::InvalidCertificate(
            CertificateError::ExpiredContext {
                time: at(now + hour),
                not_after: at(now),
            },
        ));
        assert!(
            late.contains("has expired, at 2025-06-15 15:06:40 UTC")
                && late.contains("here it is 2025-06-15 16:06:40 UTC")
                && late.contains("clocks may be wrong"),
            "{late}"
        );
    }

    #[test]
    fn what_the_other_side_has_against_ours_is_told_though_it_comes_late() {
        let refusal = || Error::AlertReceived(AlertDescription::CertificateExpired);
        let told = [
            told(refusal()),
            root_cause(&io::Error::other(refusal())),
            root_cause(&refusal()),
        ];
        for text in told {
            assert!(
                text.contains("this node's certificate is not valid now")
                    && text.contains("clocks"),
                "{text}"
            );
        }
        assert_eq!(root_cause(&io::Error::other("as it is")), "as it is");
    }
}
