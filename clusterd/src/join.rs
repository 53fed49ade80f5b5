//! How this machine gets an identity from a cluster it has only a token of.
//!
//! First the root certificate, from whoever answers: nothing is told to it. Only when the root's digest is
//! the token's is the secret sent, over TLS that only a manager of that cluster can answer.

use crate::address::Place;
use crate::identity::{Identity, Who};
use anyhow::{Context, Result, anyhow, bail};
use api::convert;
use api::model::{JoinToken, Role, ca_digest};
use api::proto::ca_client::CaClient;
use api::proto::{GetRootRequest, IssueRequest, Root};
use manager::dialer::{root_cause, unidentified};
use manager::identity::KeyRequest;
use manager::tls;
use std::sync::Arc;
use std::time::Duration;

/// The port when none is given.
pub const PORT: u16 = 2377;
const BOUND: Duration = Duration::from_secs(10);
/// Clocks may differ by so much when a node joins, milliseconds.
pub const CLOCKS_APART_MS: u64 = 5 * 60 * 1_000;

/// `host` or `host:port`, with the port.
///
/// # Errors
/// When it is neither.
pub fn with_port(text: &str) -> Result<String> {
    let text = text.trim();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (
            host,
            port.parse::<u16>()
                .map_err(|_| anyhow!("{text:?}: {port:?} is no port"))?,
        ),
        None => (text, PORT),
    };
    if host.is_empty() || host.contains([' ', '/', ':']) || port == 0 {
        bail!("{text:?} is not HOST or HOST:PORT of a manager");
    }
    Ok(format!("{host}:{port}"))
}

/// What a joiner says of itself.
pub struct Joiner {
    /// Its name.
    pub hostname: String,
    /// Where others reach it.
    pub place: Place,
    /// The port it listens on.
    pub port: u16,
}

/// Asks a manager for an identity. Nothing is written.
///
/// # Errors
/// Says which step failed, and what to do.
pub async fn ask(manager: &str, token: &JoinToken, joiner: &Joiner) -> Result<Identity> {
    let fetched = fetch_root(manager).await?;
    let root = fetched.cert_pem;
    let der = tls::first_certificate(&root)
        .with_context(|| format!("{manager} sent a root certificate that is none"))?;
    if ca_digest(&der) != token.ca_digest {
        bail!(
            "the token is not of the cluster at {manager}: its CA is another; check the address, or get a new token with \
             `clusterctl join-token` on a manager of the cluster you mean"
        );
    }
    // Certificates are worth nothing where the clock is wrong, and what TLS would say of it misleads.
    if let Some(text) = clocks(manager, fetched.at, manager::now().0) {
        bail!("{text}");
    }
    let request = KeyRequest::generate().context("can't make a key")?;
    let channel = unidentified(manager, Arc::new(tls::joiner_config(&root)?));
    let issue = IssueRequest {
        secret: token.secret.clone(),
        csr_pem: request.csr_pem,
        hostname: joiner.hostname.clone(),
        addr: u32::from(joiner.place.addr),
        port: u32::from(joiner.port),
    };
    let issued = within(manager, CaClient::new(channel).issue(issue)).await?;
    let who = Who {
        cluster: convert::cluster_id(&issued.cluster_id)?,
        node: convert::node_id(&issued.node_id)?,
        role: match issued.role.as_str() {
            "manager" => Role::Manager,
            "worker" => Role::Worker,
            other => bail!(
                "{manager} gave this machine the role {other:?}, which this clusterd doesn't know; upgrade it"
            ),
        },
        addr: joiner.place.addr,
        addr_origin: joiner.place.origin.clone(),
        port: joiner.port,
        managers: issued.managers,
    };
    Ok(Identity {
        who,
        key_pem: request.key_pem,
        cert_pem: issued.cert_pem,
        ca_pem: match issued.roots_pem.is_empty() {
            true => root,
            false => issued.roots_pem,
        },
    })
}

/// What to say of two clocks that differ too much; `theirs` is 0 where it is not told.
fn clocks(manager: &str, theirs: i64, ours: i64) -> Option<String> {
    let off = ours.saturating_sub(theirs);
    if theirs == 0 || off.unsigned_abs() <= CLOCKS_APART_MS {
        return None;
    }
    let whose = format!("the manager's at {manager}");
    Some(format!(
        "{}, then join again",
        clocks_differ(&whose, theirs, ours)
    ))
}

/// That this machine's clock is not as another's, which has that time, and what to do.
pub fn clocks_differ(whose: &str, theirs: i64, ours: i64) -> String {
    let show = |ms| {
        jiff::Timestamp::from_millisecond(ms).map_or_else(
            |_| format!("{ms} ms after 1970"),
            |at| at.strftime("%F %T UTC").to_string(),
        )
    };
    let off = ours.saturating_sub(theirs);
    let minutes = off.unsigned_abs() / 60_000;
    let direction = if off < 0 { "behind" } else { "ahead of" };
    format!(
        "this machine's clock is {minutes} min {direction} {whose} ({} here, {} there), and certificates don't hold \
         across such a gap; set the clock that is wrong (`timedatectl set-ntp true`)",
        show(ours),
        show(theirs)
    )
}

async fn fetch_root(manager: &str) -> Result<Root> {
    let channel = unidentified(manager, Arc::new(tls::stranger_config()?));
    within(manager, CaClient::new(channel).get_root(GetRootRequest {})).await
}

async fn within<T>(
    manager: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(BOUND, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) if status.code() == tonic::Code::Unavailable => bail!(
            "can't reach a manager: {}; is clusterd running there, part of a cluster, and its port open to this machine?",
            root_cause(&status)
        ),
        // A worker's door doesn't know these calls.
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => bail!(
            "{manager} is no manager of a cluster but one of its workers: join at a manager's address, which `clusterctl node \
             ls` shows on any node of it"
        ),
        Ok(Err(status)) => bail!("{}", told(manager, &status)),
        Err(_) => bail!(
            "the manager at {manager} did not answer within {} s",
            BOUND.as_secs()
        ),
    }
}

/// What was answered; a status without a text is at least named.
fn told(manager: &str, status: &tonic::Status) -> String {
    match status.message() {
        "" => format!("{manager} refused: {}", status.code()),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{clocks, told, with_port};

    #[test]
    fn no_refusal_is_without_a_text() {
        let empty = tonic::Status::new(tonic::Code::Internal, "");
        assert_eq!(told("m:1", &empty), "m:1 refused: Internal error");
        assert_eq!(told("m:1", &tonic::Status::internal("why")), "why");
    }

    #[test]
    fn a_clock_an_hour_off_is_told_from_one_that_is_not() {
        let (now, hour) = (1_750_000_000_000, 3_600_000);
        assert_eq!(clocks("m:1", now, now + 60_000), None);
        assert_eq!(clocks("m:1", 0, now), None);
        let behind = clocks("m:1", now, now - hour).unwrap();
        assert!(
            behind.contains("60 min behind the manager's at m:1"),
            "{behind}"
        );
        assert!(
            behind.contains("14:06:40 UTC here") && behind.contains("15:06:40 UTC there"),
            "{behind}"
        );
        let ahead = clocks("m:1", now, now + hour).unwrap();
        assert!(ahead.contains("60 min ahead of"), "{ahead}");
    }

    #[test]
    fn a_manager_is_a_host_with_or_without_port() {
        assert_eq!(with_port("192.168.205.10").unwrap(), "192.168.205.10:2377");
        assert_eq!(with_port("node1:99").unwrap(), "node1:99");
        for wrong in ["", ":1", "a:b", "a:0", "a:70000", "http://a", "a b"] {
            assert!(with_port(wrong).is_err(), "{wrong:?}");
        }
    }
}
