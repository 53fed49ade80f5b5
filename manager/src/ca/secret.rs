//! Join tokens on the managers' side: making secrets, checking them, and slowing down who guesses.

use api::model::{Cluster, JoinSecrets, JoinToken, Role, ca_digest};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::tls::{TlsError, only_certificate};

/// Wrong tokens one address may show within [`WINDOW`].
const TRIES: u32 = 10;
/// For how long wrong tokens are remembered.
const WINDOW: Duration = Duration::from_secs(60);
/// Wrong tokens that all addresses together may show within [`WINDOW`].
const TRIES_ALL: u32 = 100;
/// Addresses remembered.
const ADDRESSES: usize = 1024;

/// A new secret: 128 random bits.
#[must_use]
pub fn new_secret() -> String {
    // Written as ids are, which is what the token's reader expects.
    api::model::TaskId::random().to_string()
}

/// New secrets for both roles.
#[must_use]
pub fn new_secrets() -> JoinSecrets {
    JoinSecrets {
        worker: new_secret(),
        manager: new_secret(),
    }
}

/// The join tokens of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// For workers.
    pub worker: JoinToken,
    /// For managers.
    pub manager: JoinToken,
}

impl Tokens {
    /// Of this cluster.
    ///
    /// # Errors
    /// When its root certificate is damaged.
    pub fn of(cluster: &Cluster) -> Result<Self, TlsError> {
        let ca_digest = ca_digest(&only_certificate(cluster.token_root_pem())?);
        let token = |secret: &str| JoinToken {
            ca_digest: ca_digest.clone(),
            secret: secret.to_owned(),
        };
        Ok(Self {
            worker: token(&cluster.tokens.worker),
            manager: token(&cluster.tokens.manager),
        })
    }
}

/// Which role a secret gives. Takes as long for a wrong secret as for a right one.
#[must_use]
pub fn role_of(secret: &str, secrets: &JoinSecrets) -> Option<Role> {
    let worker = same(secret, &secrets.worker);
    let manager = same(secret, &secrets.manager);
    match (worker, manager) {
        (_, true) => Some(Role::Manager),
        (true, _) => Some(Role::Worker),
        _ => None,
    }
}

fn same(shown: &str, kept: &str) -> bool {
    if shown.len() != kept.len() || kept.is_empty() {
        return false;
    }
    let difference = shown
        .bytes()
        .zip(kept.bytes())
        .fold(0u8, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// Counts wrong tokens by address, and says who has to wait.
#[derive(Debug, Default)]
pub struct Limiter {
    seen: BTreeMap<IpAddr, (u32, Instant)>,
    /// Of all addresses, those forgotten too.
    all: Option<(u32, Instant)>,
}

/// Who has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// This address has shown too many wrong tokens.
    Address(Duration),
    /// All together have.
    Everybody(Duration),
}

fn left(count: u32, since: Instant, tries: u32, now: Instant) -> Option<Duration> {
    let left = (since + WINDOW).checked_duration_since(now)?;
    (count >= tries && !left.is_zero()).then_some(left)
}

fn count(entry: &mut (u32, Instant), now: Instant) {
    if entry.1 + WINDOW <= now {
        *entry = (0, now);
    }
    entry.0 = entry.0.saturating_add(1);
}

impl Limiter {
    /// How long this address has to wait before it may try again; none when it may.
    #[must_use]
    pub fn wait(&self, addr: IpAddr, now: Instant) -> Option<Wait> {
        let own = self.seen.get(&addr).copied();
        if let Some(wait) = own.and_then(|(count, since)| left(count, since, TRIES, now)) {
            return Some(Wait::Address(wait));
        }
        let (count, since) = self.all?;
        left(count, since, TRIES_ALL, now).map(Wait::Everybody)
    }

    /// Notes a wrong token.
    pub fn wrong(&mut self, addr: IpAddr, now: Instant) {
        if !self.seen.contains_key(&addr) && self.seen.len() >= ADDRESSES {
            self.seen.retain(|_, (_, since)| *since + WINDOW > now);
            if self.seen.len() >= ADDRESSES
                && let Some(oldest) = self
                    .seen
                    .iter()
                    .min_by_key(|(_, (_, since))| *since)
                    .map(|(a, _)| *a)
            {
                self.seen.remove(&oldest);
            }
        }
        count(self.seen.entry(addr).or_insert((0, now)), now);
        count(self.all.get_or_insert((0, now)), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn addr(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    #[test]
    fn a_secret_gives_its_role_and_no_other_does() {
        let secrets = new_secrets();
        assert_eq!(role_of(&secrets.worker, &secrets), Some(Role::Worker));
        assert_eq!(role_of(&secrets.manager, &secrets), Some(Role::Manager));
        for wrong in ["", &secrets.worker[1..], &new_secret()] {
            assert_eq!(role_of(wrong, &secrets), None, "{wrong:?}");
        }
        let none = JoinSecrets {
            worker: String::new(),
            manager: String::new(),
        };
        assert_eq!(role_of("", &none), None);
    }

    #[test]
    fn a_new_secret_makes_a_token_that_can_be_read() {
        let token = JoinToken {
            ca_digest: ca_digest(b"x"),
            secret: new_secret(),
        };
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn who_guesses_has_to_wait_and_nobody_else() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        for _ in 0..TRIES {
            assert_eq!(limiter.wait(addr(1), start), None);
            limiter.wrong(addr(1), start);
        }
        assert_eq!(limiter.wait(addr(1), start), Some(Wait::Address(WINDOW)));
        assert_eq!(limiter.wait(addr(2), start), None);
        assert_eq!(limiter.wait(addr(1), start + WINDOW), None);
        limiter.wrong(addr(1), start + WINDOW);
        assert_eq!(limiter.wait(addr(1), start + WINDOW), None);
    }

    #[test]
    fn the_table_of_guessers_is_bounded() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        for n in 0..5_000 {
            limiter.wrong(addr(n), start);
        }
        assert_eq!(limiter.seen.len(), ADDRESSES);
        // And who takes an address for each guess gets no further.
        let wait = limiter.wait(addr(9_999), start);
        assert_eq!(wait, Some(Wait::Everybody(WINDOW)));
        assert_eq!(limiter.wait(addr(9_999), start + WINDOW), None);
    }
}
