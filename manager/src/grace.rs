//! Certificates that have ended, and are still good for getting a new one.
//!
//! A server lets their holders in for a while after their end; the table in [`crate::auth`] opens them no call but
//! the one for a new certificate. A node whose own certificate has ended believes managers in the same state: where
//! all were off for long, there is nobody else who could begin.

use crate::certificate::{Certificate, GRACE_MS};
use api::model::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;

/// A moment at which the certificate was valid, if it has ended not long ago.
fn before_its_end(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<UnixTime> {
    let end_ms = Certificate::from_der(certificate).ok()?.not_after.0;
    let now_ms = i64::try_from(now.as_secs()).ok()?.saturating_mul(1_000);
    let since_ms = Timestamp(now_ms).since_ms(Timestamp(end_ms));
    if since_ms > GRACE_MS {
        return None;
    }
    let seconds = u64::try_from(end_ms / 1_000).ok()?.checked_sub(1)?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

fn has_ended(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        )
    )
}

/// A server's: takes callers whose certificate has ended, too.
#[derive(Debug)]
pub struct Callers(pub Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Callers {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(error) if has_ended(&error) => match before_its_end(end_entity, now) {
                Some(then) => self.0.verify_client_cert(end_entity, intermediates, then),
                None => Err(error),
            },
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A client's: once its own certificate has ended, it takes servers whose certificate has ended, too.
#[derive(Debug)]
pub struct Servers {
    /// What judges.
    pub strict: Arc<dyn ServerCertVerifier>,
    /// When the client's own certificate ends.
    pub own_end: Timestamp,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judge = |at| {
            self.strict
                .verify_server_cert(end_entity, intermediates, name, ocsp, at)
        };
        let own_ended = i64::try_from(now.as_secs())
            .is_ok_and(|seconds| seconds.saturating_mul(1_000) >= self.own_end.0);
        match judge(now) {
            Err(error) if own_ended && has_ended(&error) => match before_its_end(end_entity, now) {
                Some(then) => judge(then),
                None => Err(error),
            },
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}
