//! What stands in a node's certificate beside who it is, and when a new one is due.
//!
//! Knows no clock: the time is an argument.

use crate::identity::{Identity, IdentityError};
use api::model::{NodeCert, Timestamp, ca_digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates are valid from this much before they are made, for clocks that are behind, milliseconds.
pub const BACKDATED_MS: u64 = 3_600 * 1_000;
/// For so long after its end a certificate still gets its node a new one, milliseconds: 90 days.
pub const GRACE_MS: u64 = 90 * 24 * 3_600 * 1_000;

/// A node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub identity: Identity,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// SHA-256 of its public key, lower-case hex.
    pub key_digest: String,
}

impl Certificate {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// When it is no certificate, or not one of a node.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let identity = Identity::from_der(der)?;
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|e| IdentityError::Unreadable(e.to_string()))?;
        let validity = parsed.validity();
        let ms = |seconds: i64| Timestamp(seconds.saturating_mul(1_000));
        Ok(Self {
            identity,
            not_before: ms(validity.not_before.timestamp()),
            not_after: ms(validity.not_after.timestamp()),
            key_digest: ca_digest(parsed.public_key().raw),
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none, or it is not one of a node.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| IdentityError::Unreadable(e.to_string()))?;
        Self::from_der(&der)
    }

    /// When its node asks for the next: at a point of 50 to 80 % of its life, so that nodes made together don't
    /// ask together. `random` says which.
    #[must_use]
    pub fn renew_at(&self, random: u32) -> Timestamp {
        renew_at(self.not_before, self.not_after, random)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        now >= self.not_after
    }

    /// As the state keeps it.
    #[must_use]
    pub fn record(&self, issuer: String) -> NodeCert {
        NodeCert {
            role: self.identity.role,
            key_digest: self.key_digest.clone(),
            issuer,
            not_after: self.not_after,
        }
    }
}

/// 50 to 80 % of the way from when it was made to its end.
#[must_use]
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, random: u32) -> Timestamp {
    let made = not_before.plus_ms(BACKDATED_MS);
    // One that nobody here has made.
    let made = if made < not_after { made } else { not_before };
    let life = u128::from(not_after.since_ms(made));
    let parts = 500 + u128::from(random) * 300 / u128::from(u32::MAX);
    made.plus_ms(u64::try_from(life * parts / 1_000).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_renewal_is_due_between_half_and_four_fifths_of_the_life() {
        let day = 24 * 3_600 * 1_000;
        let made = Timestamp(1_750_000_000_000);
        let before = Timestamp(made.0 - 3_600_000);
        let end = made.plus_ms(90 * day);
        assert_eq!(renew_at(before, end, 0), made.plus_ms(45 * day));
        assert_eq!(renew_at(before, end, u32::MAX), made.plus_ms(72 * day));
        // A life of ten seconds is not half over before it begins.
        let end = made.plus_ms(10_000);
        assert_eq!(renew_at(before, end, 0), made.plus_ms(5_000));
    }

    proptest! {
        #[test]
        fn a_renewal_is_never_after_the_end(from: u32, life: u32, random: u32) {
            let from = Timestamp(i64::from(from) * 1_000);
            let end = from.plus_ms(u64::from(life) * 1_000);
            let at = renew_at(from, end, random);
            prop_assert!(at <= end && at >= from);
        }
    }
}
