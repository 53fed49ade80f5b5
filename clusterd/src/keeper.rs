//! Keeps this node's identity as it should be: its certificate young, of the right root and role; the manager part
//! running or not, as the certificate says. It goes on where an earlier daemon has stopped, since it looks at what
//! is, not at what has happened.

use crate::duty::Duty;
use crate::identity::{Identity, Papers};
use crate::join;
use crate::vault::Vault;
use anyhow::{Context, Result, anyhow, bail};
use api::model::{Role, Timestamp};
use api::proto::ca_client::CaClient;
use api::proto::{RenewRequest, Standing};
use manager::auth::Origin;
use manager::certificate::{BACKDATED_MS, Certificate};
use manager::dialer::Dialer;
use manager::identity::KeyRequest;
use manager::proxy::{Upstream, control};
use manager::tls::is_vouched;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How long a renewal may take.
const RENEW_BOUND: Duration = Duration::from_secs(15);
/// How long the managers are given to hear of a new certificate.
const NEWS_BOUND: Duration = Duration::from_secs(3);
/// How long the managers are given to take this one in.
const JOIN_BOUND: Duration = Duration::from_secs(60);
/// Between two tries at what has failed, doubling.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// It looks at least this often: a clock may have been set.
const LOOK: Duration = Duration::from_secs(600);

/// What is to be done about the certificate.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// Nothing before that time.
    Nothing(Timestamp),
    /// A new one, because of this.
    Renew(&'static str),
    /// Other roots are to be trusted.
    Trust,
}

/// Pure. `random` says when within its time a renewal falls.
fn need(
    certificate: &Certificate,
    roots_pem: &str,
    standing: Option<&Standing>,
    random: u32,
    now: Timestamp,
) -> Need {
    let due = certificate.renew_at(random);
    if now >= due {
        return Need::Renew("it is due");
    }
    let Some(standing) = standing else {
        return Need::Nothing(due);
    };
    if standing.role != certificate.identity.role.as_str() {
        return Need::Renew("this node's role changes");
    }
    if standing.issuer != standing.held_issuer && !standing.held_issuer.is_empty() {
        return Need::Renew("the cluster's CA changes");
    }
    if standing.roots_pem != roots_pem && !standing.roots_pem.is_empty() {
        return Need::Trust;
    }
    Need::Nothing(due)
}

/// What it works with.
pub struct Keeper {
    /// Who this node is.
    pub papers: Arc<Papers>,
    /// Where that is kept.
    pub dir: PathBuf,
    /// What a manager's is sealed with.
    pub vault: Arc<Vault>,
    /// How it reaches others.
    pub dialer: Dialer,
    /// The manager part.
    pub duty: Arc<Duty>,
    /// The way to the leader.
    pub upstream: Arc<dyn Upstream>,
    /// What the managers say this node should be.
    pub standing: watch::Receiver<Option<Standing>>,
    /// Managers known to the agent.
    pub managers: watch::Receiver<Vec<String>>,
    /// Begins the agent's session anew.
    pub anew: Arc<Notify>,
}

impl Keeper {
    /// Goes on until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = RETRY_MIN;
        let mut told = String::new();
        let mut random = rand_u32();
        loop {
            // Nothing here is cut off in the middle: an identity that is written is used, too.
            let (wait, is_retry) = match self.once(random, &stop).await {
                Ok(Done::Changed) => {
                    random = rand_u32();
                    told.clear();
                    pause = RETRY_MIN;
                    continue;
                }
                Ok(Done::Until(at)) => {
                    told.clear();
                    pause = RETRY_MIN;
                    (
                        Duration::from_millis(at.since_ms(manager::now())).min(LOOK),
                        false,
                    )
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    // The same trouble again and again is one line.
                    if why != told {
                        tracing::warn!("this node's identity is not as it should be yet: {why}");
                        told = why;
                    }
                    let wait = pause;
                    pause = (pause * 2).min(RETRY_MAX);
                    (wait, true)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                changed = self.standing.changed() => if changed.is_err() {
                    // The agent has ended: so does this node's membership.
                    return;
                } else if is_retry {
                    pause = RETRY_MIN;
                },
            }
        }
    }

    async fn once(&mut self, random: u32, stop: &CancellationToken) -> Result<Done> {
        let identity = self.papers.load();
        let standing = self.standing.borrow_and_update().clone();
        if let Some(standing) = &standing {
            let gone = standing.revoked.iter();
            let gone = gone.filter_map(|id| api::convert::node_id(id).ok());
            self.dialer.tls().revoked().add(gone);
        }
        let certificate = Certificate::from_pem(&identity.cert_pem)
            .context("this node's certificate can't be read")?;
        let now = manager::now();
        let need = need(
            &certificate,
            &identity.ca_pem,
            standing.as_ref(),
            random,
            now,
        );
        let until = match need {
            Need::Renew(why) => {
                tracing::info!("asking for a new certificate: {why}");
                let renewed = tokio::select! {
                    renewed = self.ask(&identity) => renewed?,
                    () = stop.cancelled() => bail!("stopped"),
                };
                self.adopt(renewed)?;
                self.follow_role(stop).await?;
                // The managers hear of it by the next hello; what they said before is of before.
                self.anew.notify_one();
                self.wait_for_news(stop).await;
                return Ok(Done::Changed);
            }
            Need::Trust => {
                let roots = standing
                    .map(|standing| standing.roots_pem)
                    .unwrap_or_default();
                let trusting = Identity {
                    ca_pem: roots,
                    ..Identity::clone(&identity)
                };
                self.adopt(trusting)?;
                return Ok(Done::Changed);
            }
            Need::Nothing(until) => until,
        };
        self.follow_role(stop).await?;
        if self.duty.runs() && !self.duty.votes() {
            if standing.is_some_and(|standing| standing.role == "manager") {
                let known = self.managers.borrow().clone();
                tracing::info!("asking the managers to take this one in");
                tokio::select! {
                    joined = self.duty.join(&known, JOIN_BOUND) => joined?,
                    () = stop.cancelled() => bail!("stopped"),
                }
            }
            // Its log may not have said so yet.
            return Ok(Done::Until(now.plus_ms(1_000)));
        }
        Ok(Done::Until(until))
    }

    /// Until the managers have heard what this node holds now, or too long after.
    async fn wait_for_news(&mut self, stop: &CancellationToken) {
        tokio::select! {
            _ = self.standing.changed() => {}
            () = tokio::time::sleep(NEWS_BOUND) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Runs the manager part, or not, as the certificate says.
    async fn follow_role(&self, stop: &CancellationToken) -> Result<()> {
        if stop.is_cancelled() {
            bail!("stopped");
        }
        let role = self.papers.load().who.role;
        match role {
            Role::Manager if !self.duty.runs() => self.duty.take_up().await,
            Role::Worker if self.duty.runs() => self.duty.lay_down().await,
            _ => Ok(()),
        }
    }

    async fn ask(&self, identity: &Identity) -> Result<Identity> {
        let request =
            KeyRequest::for_key(&identity.key_pem).context("this node's key is damaged")?;
        let mut call = tonic::Request::new(RenewRequest {
            csr_pem: request.csr_pem,
        });
        // Where this manager leads, the call needs no connection, and no certificate that is valid.
        let node = identity.who.node;
        call.extensions_mut().insert(Origin::operator(Some(node)));
        let mut client = CaClient::new(control(self.upstream.clone()));
        let renewed = match tokio::time::timeout(RENEW_BOUND, client.renew(call)).await {
            Ok(Ok(renewed)) => renewed.into_inner(),
            Ok(Err(status)) => bail!("{}", status.message()),
            Err(_) => bail!("no manager answered within {} s", RENEW_BOUND.as_secs()),
        };
        let read = Certificate::from_pem(&renewed.cert_pem)
            .context("the managers sent a certificate that is none")?;
        if read.identity.node != node || read.identity.cluster != identity.who.cluster {
            bail!("the managers sent the certificate of another node");
        }
        let then = Timestamp(read.not_after.0.saturating_sub(1_000));
        is_vouched(&renewed.roots_pem, &renewed.cert_pem, then).map_err(|error| {
            anyhow!("the managers sent a certificate that can't be used: {error}")
        })?;
        match clocks(&read, manager::now()) {
            Clocks::Agree => {}
            Clocks::Differ(text) => tracing::warn!("{text}"),
            Clocks::TooFar(text) => bail!("{text}"),
        }
        let mut who = identity.who.clone();
        who.role = read.identity.role;
        Ok(Identity {
            who,
            key_pem: identity.key_pem.clone(),
            cert_pem: renewed.cert_pem,
            ca_pem: renewed.roots_pem,
        })
    }

    /// Writes it down, then uses it: connections made from now on show it.
    fn adopt(&self, identity: Identity) -> Result<()> {
        let material = identity.material();
        // What TLS doesn't take is not written either.
        manager::tls::server_config(&material)?;
        identity.replace(&self.dir, &self.vault)?;
        self.dialer.tls().reload(&material)?;
        self.dialer.forget_all();
        tracing::info!(
            role = identity.who.role.as_str(),
            "this node has a new certificate"
        );
        self.papers.store(Arc::new(identity));
        Ok(())
    }
}

/// How this machine's clock and the leader's go together, as a certificate tells that was made just now.
#[derive(Debug, PartialEq, Eq)]
enum Clocks {
    Agree,
    /// It can be used; the clocks should be looked at.
    Differ(String),
    /// By one of the two, it is not valid now: nobody would take it.
    TooFar(String),
}

fn clocks(new: &Certificate, now: Timestamp) -> Clocks {
    let made = new.not_before.plus_ms(BACKDATED_MS);
    let off_ms = now.0.saturating_sub(made.0);
    if off_ms.unsigned_abs() <= join::CLOCKS_APART_MS {
        return Clocks::Agree;
    }
    let text = join::clocks_differ("the leader's", made.0, now.0);
    if now < new.not_before || new.has_ended(now) {
        return Clocks::TooFar(format!(
            "the new certificate is not valid by this machine's clock: {text}"
        ));
    }
    Clocks::Differ(text)
}

/// How a look went.
enum Done {
    /// Something has changed: look again.
    Changed,
    /// All is well until then.
    Until(Timestamp),
}

fn rand_u32() -> u32 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::model::{ClusterId, NodeId};

    fn held() -> Certificate {
        Certificate {
            identity: manager::identity::Identity {
                cluster: ClusterId(1),
                node: NodeId(2),
                role: Role::Worker,
            },
            not_before: Timestamp(0),
            not_after: Timestamp(3_600_000 + 10_000),
            key_digest: String::new(),
        }
    }

    fn standing() -> Standing {
        Standing {
            role: "worker".into(),
            roots_pem: "root".into(),
            issuer: "new".into(),
            held_issuer: "new".into(),
            ..Standing::default()
        }
    }

    #[test]
    fn a_certificate_is_renewed_when_due_or_other_than_it_should_be() {
        let made = Timestamp(3_600_000);
        let due = made.plus_ms(5_000);
        let look = |standing: Option<&Standing>, now| need(&held(), "root", standing, 0, now);
        assert_eq!(look(None, made), Need::Nothing(due));
        assert!(matches!(look(None, due), Need::Renew(_)));
        assert_eq!(look(Some(&standing()), made), Need::Nothing(due));
        let promoted = Standing {
            role: "manager".into(),
            ..standing()
        };
        assert!(matches!(look(Some(&promoted), made), Need::Renew(_)));
        let replaced = Standing {
            held_issuer: "old".into(),
            ..standing()
        };
        assert!(matches!(look(Some(&replaced), made), Need::Renew(_)));
        let more = Standing {
            roots_pem: "rootold".into(),
            ..standing()
        };
        assert_eq!(look(Some(&more), made), Need::Trust);
    }

    #[test]
    fn a_certificate_made_by_a_clock_an_hour_off_says_so() {
        let hour = 3_600_000;
        // Made at one hour after 1970, and valid from 1970 on for 90 days.
        let made = Certificate {
            not_after: Timestamp(90 * 24 * hour),
            ..held()
        };
        assert_eq!(clocks(&made, Timestamp(hour + 60_000)), Clocks::Agree);
        let Clocks::Differ(ahead) = clocks(&made, Timestamp(2 * hour)) else {
            panic!("an hour ahead is not told")
        };
        assert!(
            ahead.contains("this machine's clock is 60 min ahead of the leader's")
                && ahead.contains("02:00:00 UTC here, 1970-01-01 01:00:00 UTC there"),
            "{ahead}"
        );
        let Clocks::TooFar(behind) = clocks(&made, Timestamp(-1_000)) else {
            panic!("a certificate that is not valid here is taken")
        };
        assert!(
            behind.contains("60 min behind the leader's") && behind.contains("timedatectl"),
            "{behind}"
        );
    }
}
