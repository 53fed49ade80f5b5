//! The cluster's root certificate, and the certificates it signs.

use crate::identity::{MANAGER_NAME, node_name};
use api::model::{ClusterCa, ClusterId, NodeId, Role, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use std::time::{Duration, SystemTime};

/// How long the root is valid: 20 years.
const ROOT_VALID: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How long a node's certificate is valid: 90 days.
pub const NODE_VALID: Duration = Duration::from_secs(90 * 24 * 3600);
/// Certificates are valid from this much before now, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Why a certificate can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The request.
    #[error("the certificate request can't be read or is not signed by its own key")]
    Request(#[source] rcgen::Error),
    /// The CA's own certificate or key.
    #[error("the cluster's CA can't be used")]
    Root(#[source] rcgen::Error),
    /// Signing.
    #[error("no certificate could be made")]
    Sign(#[source] rcgen::Error),
}

fn at(now: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(now.since_ms(Timestamp(0)))
}

fn serial() -> SerialNumber {
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
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{cluster} CA"));
    params
        .distinguished_name
        .push(DnType::OrganizationName, cluster.to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = (at(now) - BACKDATED).into();
    params.not_after = (at(now) + ROOT_VALID).into();
    let certificate = params.self_signed(&key).map_err(CaError::Sign)?;
    Ok(ClusterCa {
        cert_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// Signs a node's request. Nothing it asks for is kept but its public key.
///
/// # Errors
/// When the request or the CA is damaged.
pub fn issue(
    ca: &ClusterCa,
    csr_pem: &str,
    cluster: ClusterId,
    node: NodeId,
    role: Role,
    now: Timestamp,
) -> Result<String, CaError> {
    let key = KeyPair::from_pem(&ca.key_pem).map_err(CaError::Root)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.cert_pem, key).map_err(CaError::Root)?;
    let mut request =
        CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
    let mut names = vec![node_name(node)];
    if role == Role::Manager {
        names.push(MANAGER_NAME.into());
    }
    let mut params = CertificateParams::new(names).map_err(CaError::Sign)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, node.to_string());
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, role.as_str());
    params
        .distinguished_name
        .push(DnType::OrganizationName, cluster.to_string());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.serial_number = Some(serial());
    params.use_authority_key_identifier_extension = true;
    params.not_before = (at(now) - BACKDATED).into();
    params.not_after = (at(now) + NODE_VALID).into();
    request.params = params;
    Ok(request.signed_by(&issuer).map_err(CaError::Sign)?.pem())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, KeyRequest, Material};
    use crate::tls;
    use x509_parser::prelude::{FromDer, X509Certificate};

    const NOW: Timestamp = Timestamp(1_750_000_000_000);

    #[test]
    fn a_certificate_says_what_the_ca_says_not_what_was_asked() {
        let (cluster, node) = (ClusterId(1), NodeId(2));
        let ca = make_root(cluster, NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut asked =
            CertificateParams::new(vec![MANAGER_NAME.into(), "example.org".into()]).unwrap();
        asked
            .distinguished_name
            .push(DnType::CommonName, NodeId(99).to_string());
        asked
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "manager");
        let csr = asked.serialize_request(&key).unwrap().pem().unwrap();

        let pem = issue(&ca, &csr, cluster, node, Role::Worker, NOW).unwrap();
        assert_eq!(
            Identity::from_pem(&pem),
            Ok(Identity {
                cluster,
                node,
                role: Role::Worker
            })
        );
        let der = tls::first_certificate(&pem).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let names: Vec<_> = parsed
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, [format!("DNSName({})", node_name(node))]);
        assert_eq!(
            parsed.validity().not_before.timestamp(),
            NOW.0 / 1000 - 3600
        );
        assert_eq!(
            parsed.validity().not_after.timestamp(),
            NOW.0 / 1000 + 90 * 86_400
        );
        assert!(!parsed.is_ca());
        let key_pem = key.serialize_pem();
        tls::server_config(&Material {
            ca_pem: ca.cert_pem,
            cert_pem: pem,
            key_pem,
        })
        .unwrap();
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let ca = make_root(ClusterId(1), NOW).unwrap();
        let csr = KeyRequest::generate().unwrap().csr_pem;
        // One character of the key or the signature.
        let at = csr.len() / 2;
        let other = if csr.as_bytes()[at] == b'A' { "B" } else { "A" };
        let broken = format!("{}{other}{}", &csr[..at], &csr[at + 1..]);
        for text in ["", "hello", broken.as_str(), ca.cert_pem.as_str()] {
            let refused = issue(&ca, text, ClusterId(1), NodeId(2), Role::Worker, NOW);
            assert!(
                matches!(refused, Err(CaError::Request(_))),
                "{text:?} was signed"
            );
        }
    }

    #[test]
    fn material_that_does_not_fit_is_refused() {
        let ca = make_root(ClusterId(1), NOW).unwrap();
        let (one, two) = (
            KeyRequest::generate().unwrap(),
            KeyRequest::generate().unwrap(),
        );
        let cert_pem = issue(
            &ca,
            &one.csr_pem,
            ClusterId(1),
            NodeId(2),
            Role::Worker,
            NOW,
        )
        .unwrap();
        let wrong = Material {
            ca_pem: ca.cert_pem,
            cert_pem,
            key_pem: two.key_pem,
        };
        assert!(matches!(
            tls::server_config(&wrong),
            Err(tls::TlsError::Unfit(_))
        ));
    }
}
