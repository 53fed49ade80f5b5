//! Root certificates: made here, or brought along; and the one before vouching for the next.

use super::issue::issue;
use crate::certificate::{BACKDATED_MS, Certificate};
use crate::identity::KeyRequest;
use crate::tls::{TlsError, is_vouched, only_certificate};
use api::model::{
    Cluster, ClusterCa, ClusterId, ClusterSpec, JoinSecrets, Meta, NodeId, RetiringCa, Role,
    Timestamp, ca_digest,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long the root is valid, milliseconds: 20 years.
const ROOT_VALID_MS: u64 = 20 * 365 * 24 * 3_600 * 1_000;

/// Why a certificate can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The request.
    #[error("the certificate request can't be read or is not signed by its own key")]
    Request(#[source] rcgen::Error),
    /// The CA's own certificate or key.
    #[error("the cluster's CA can't be used")]
    Root(#[source] rcgen::Error),
    /// The same, by TLS's judgement.
    #[error("the cluster's CA can't be used")]
    Unusable(#[from] TlsError),
    /// Signing.
    #[error("no certificate could be made")]
    Sign(#[source] rcgen::Error),
    /// A CA that was brought along.
    #[error("this CA can't be the cluster's: {0}")]
    Unfit(String),
}

pub(super) fn at(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(time.since_ms(Timestamp(0)))
}

/// Long enough before that clocks which are behind take it for valid.
pub(super) fn backdated(now: Timestamp) -> SystemTime {
    at(now) - Duration::from_millis(BACKDATED_MS)
}

pub(super) fn serial() -> SerialNumber {
    let mut bytes = rand::random::<[u8; 16]>();
    // Positive and without a leading zero, as DER wants it.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Makes a cluster's root: ECDSA P-256, self-signed.
///
/// # Errors
/// When the system has no randomness.
pub fn make_root(cluster: ClusterId, now: Timestamp) -> Result<ClusterCa, CaError> {
    let key = KeyPair::generate().map_err(CaError::Sign)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Its time tells it from the one before.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{cluster} CA {}", now.0));
    params
        .distinguished_name
        .push(DnType::OrganizationName, cluster.to_string());
    // One step below it: the next root, while both are trusted.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = backdated(now).into();
    params.not_after = at(now.plus_ms(ROOT_VALID_MS)).into();
    let certificate = params.self_signed(&key).map_err(CaError::Sign)?;
    Ok(ClusterCa {
        cert_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// The digest of a root, as join tokens carry it.
///
/// # Errors
/// When it is no certificate.
pub fn root_digest(cert_pem: &str) -> Result<String, CaError> {
    Ok(ca_digest(&only_certificate(cert_pem)?))
}

/// When a root ends.
pub(super) fn root_ends(cert_pem: &str) -> Result<Timestamp, CaError> {
    let der = only_certificate(cert_pem)?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| CaError::Unfit(e.to_string()))?;
    let seconds = parsed.validity().not_after.timestamp();
    Ok(Timestamp(seconds.saturating_mul(1_000)))
}

/// Has the old root sign the new one's name and key. Who trusts only the old one then believes what the new one
/// signs, so that the trust in the new one need not be everywhere before it is used.
///
/// # Errors
/// When one of them is damaged.
pub fn cross_sign(old: &ClusterCa, new: &ClusterCa, now: Timestamp) -> Result<RetiringCa, CaError> {
    let old_key = KeyPair::from_pem(&old.key_pem).map_err(CaError::Root)?;
    let old_issuer = Issuer::from_ca_cert_pem(&old.cert_pem, old_key).map_err(CaError::Root)?;
    let new_key = KeyPair::from_pem(&new.key_pem).map_err(CaError::Root)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject_of(&new.cert_pem)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.serial_number = Some(serial());
    params.not_before = backdated(now).into();
    params.not_after = at(root_ends(&old.cert_pem)?.min(root_ends(&new.cert_pem)?)).into();
    params.use_authority_key_identifier_extension = true;
    let cross = params
        .signed_by(&new_key, &old_issuer)
        .map_err(CaError::Sign)?;
    Ok(RetiringCa {
        cert_pem: old.cert_pem.clone(),
        cross_pem: cross.pem(),
        since: now,
    })
}

/// A CA that was brought along, checked, as a cluster keeps it.
///
/// # Errors
/// Says which rule it breaks, and what to do.
pub fn bring(
    cert_pem: &str,
    key_pem: &str,
    expiry_ms: u64,
    now: Timestamp,
) -> Result<ClusterCa, CaError> {
    let unfit = |text: String| CaError::Unfit(text);
    let der = only_certificate(cert_pem)
        .map_err(|e| unfit(format!("{e}; give one certificate in PEM, the CA's own")))?;
    let (_, parsed) = X509Certificate::from_der(&der)
        .map_err(|e| unfit(format!("its certificate can't be read: {e}")))?;
    let key = KeyPair::from_pem(key_pem).map_err(|e| {
        unfit(format!(
            "its key can't be read ({e}); give it unencrypted as PKCS #8 (`openssl pkcs8 -topk8 -nocrypt -in KEY`): \
             ECDSA P-256 or P-384, Ed25519, or RSA"
        ))
    })?;
    if key.subject_public_key_info() != parsed.public_key().raw {
        return Err(unfit(
            "the key is not the certificate's; give the pair".into(),
        ));
    }
    if !parsed.is_ca() {
        return Err(unfit(
            "its certificate is no CA's (basic constraints say CA:FALSE, or nothing)".into(),
        ));
    }
    if let Ok(Some(usage)) = parsed.key_usage()
        && !usage.value.key_cert_sign()
    {
        return Err(unfit(
            "its certificate may not sign others (key usage lacks keyCertSign)".into(),
        ));
    }
    let validity = parsed.validity();
    let (from, until) = (
        validity.not_before.timestamp().saturating_mul(1_000),
        validity.not_after.timestamp().saturating_mul(1_000),
    );
    if now.0 < from {
        return Err(unfit(format!(
            "its certificate begins at {}, which is to come by this machine's clock",
            validity.not_before
        )));
    }
    if now.0 >= until {
        return Err(unfit(format!(
            "its certificate ended at {}",
            validity.not_after
        )));
    }
    if Timestamp(until) < now.plus_ms(expiry_ms) {
        return Err(unfit(format!(
            "its certificate ends at {}, before one made for a node today would; take a CA that lasts longer, or \
             give the nodes' certificates a shorter life (--cert-expiry)",
            validity.not_after
        )));
    }
    let ca = ClusterCa {
        cert_pem: block(cert_pem),
        key_pem: key.serialize_pem(),
    };
    prove(&ca, now).map_err(|why| {
        unfit(format!(
            "a certificate that it signs is not believed ({why}); does it have a path length, name constraints or an \
             algorithm that forbids it?"
        ))
    })?;
    Ok(ca)
}

/// Only the certificate, without what else stood in its file.
fn block(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let from = pem.find("-----BEGIN CERTIFICATE-----").unwrap_or(0);
    let rest = &pem[from..];
    let until = rest.find(END).map_or(rest.len(), |at| at + END.len());
    format!("{}\n", &rest[..until])
}

/// A root's name, to the letter: chains are built by it.
fn subject_of(cert_pem: &str) -> Result<DistinguishedName, CaError> {
    let der = only_certificate(cert_pem)?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| CaError::Unfit(e.to_string()))?;
    let mut name = DistinguishedName::new();
    for attribute in parsed.subject().iter_attributes() {
        let unfit = || CaError::Unfit("a part of its name is no text".into());
        let oid: Vec<u64> = attribute.attr_type().iter().ok_or_else(unfit)?.collect();
        let value = attribute.attr_value();
        let text = std::str::from_utf8(value.data).map_err(|_| unfit())?;
        let value = match value.header.tag() {
            Tag::PrintableString => {
                DnValue::PrintableString(text.try_into().map_err(CaError::Root)?)
            }
            Tag::Ia5String => DnValue::Ia5String(text.try_into().map_err(CaError::Root)?),
            _ => DnValue::Utf8String(text.to_owned()),
        };
        name.push(DnType::from_oid(&oid), value);
    }
    Ok(name)
}

/// Signs a certificate and has TLS judge it.
fn prove(ca: &ClusterCa, now: Timestamp) -> Result<(), String> {
    let cluster = Cluster {
        id: ClusterId(0),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        ca: ca.clone(),
        retiring: None,
        tokens: JoinSecrets {
            worker: String::new(),
            manager: String::new(),
        },
        revoked: BTreeMap::new(),
        lock: Default::default(),
        recovery: Default::default(),
    };
    let request = KeyRequest::generate().map_err(|e| e.to_string())?;
    let pem = issue(&cluster, &request.csr_pem, NodeId(0), Role::Manager, now)
        .map_err(|e| e.to_string())?;
    let certificate = Certificate::from_pem(&pem).map_err(|e| e.to_string())?;
    let judged_at = Timestamp(certificate.not_after.0 - 1_000).min(now);
    is_vouched(&ca.cert_pem, &pem, judged_at).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::ExtendedKeyUsagePurpose;

    const NOW: Timestamp = Timestamp(1_750_000_000_000);
    const DAY: u64 = 24 * 3_600 * 1_000;

    /// A CA as a company has one, changed.
    fn made(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = DnValue::PrintableString("Our CA".try_into().unwrap());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = at(NOW).into();
        params.not_after = at(NOW.plus_ms(365 * DAY)).into();
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn refusal(cert: &str, key: &str) -> String {
        bring(cert, key, 90 * DAY, NOW)
            .expect_err("it was taken")
            .to_string()
    }

    #[test]
    fn a_ca_of_ones_own_is_taken_and_can_be_replaced() {
        let (cert, key) = made(|_| {});
        let text = format!("subject=Our CA\n{cert}\n");
        let ours = bring(&text, &key, 90 * DAY, NOW).unwrap();
        assert_eq!(ours.cert_pem, cert);
        // And by one of the cluster's own, and the other way round.
        let own = make_root(ClusterId(1), NOW).unwrap();
        for (old, new) in [(&ours, &own), (&own, &ours)] {
            let cross = cross_sign(old, new, NOW).unwrap();
            let cluster = Cluster {
                id: ClusterId(1),
                meta: Meta::default(),
                spec: ClusterSpec::default(),
                ca: new.clone(),
                retiring: Some(cross),
                tokens: JoinSecrets {
                    worker: String::new(),
                    manager: String::new(),
                },
                revoked: BTreeMap::new(),
                lock: Default::default(),
                recovery: Default::default(),
            };
            let csr = KeyRequest::generate().unwrap().csr_pem;
            let pem = issue(&cluster, &csr, NodeId(2), Role::Worker, NOW).unwrap();
            is_vouched(&old.cert_pem, &pem, NOW).unwrap();
            is_vouched(&new.cert_pem, &pem, NOW).unwrap();
        }
    }

    #[test]
    fn what_is_no_ca_or_not_ones_own_is_refused_with_its_reason() {
        let (cert, key) = made(|_| {});
        let (other, _) = made(|_| {});
        for (cert, key, why) in [
            ("", key.as_str(), "holds no certificate"),
            (&format!("{cert}{other}"), &key, "2 certificates"),
            (&cert, "", "can't be read"),
            (&other, &key, "the key is not the certificate's"),
        ] {
            let text = refusal(cert, key);
            assert!(text.contains(why), "{text}");
        }
        type Change = fn(&mut CertificateParams);
        let cases: [(Change, &str); 6] = [
            (|p| p.is_ca = IsCa::ExplicitNoCa, "is no CA's"),
            (
                |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature],
                "keyCertSign",
            ),
            (|p| p.not_before = at(NOW.plus_ms(DAY)).into(), "to come"),
            (|p| p.not_after = at(NOW).into(), "ended at"),
            (
                |p| p.not_after = at(NOW.plus_ms(DAY)).into(),
                "lasts longer",
            ),
            (
                |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
                "",
            ),
        ];
        for (change, why) in cases {
            let (cert, key) = made(change);
            match why {
                // A root's purposes bind nobody: it is trusted as it is.
                "" => drop(bring(&cert, &key, 90 * DAY, NOW).unwrap()),
                _ => {
                    let text = refusal(&cert, &key);
                    assert!(text.contains(why), "{text}");
                }
            }
        }
    }
}
