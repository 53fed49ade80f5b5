//! Nodes' certificates: the CA decides every field, whatever is asked for.

use super::root::{CaError, at, backdated, root_ends, serial};
use crate::identity::{MANAGER_NAME, node_name};
use api::model::{Cluster, NodeId, Role, Timestamp, ca_digest};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};

/// Signs a node's request. Nothing it asks for is kept but its public key. What is returned is the certificate and,
/// while the CA is being replaced, the new root as the old one has signed it.
///
/// # Errors
/// When the request or the CA is damaged.
pub fn issue(
    cluster: &Cluster,
    csr_pem: &str,
    node: NodeId,
    role: Role,
    now: Timestamp,
) -> Result<String, CaError> {
    let ca = &cluster.ca;
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
        .push(DnType::OrganizationName, cluster.id.to_string());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.serial_number = Some(serial());
    params.use_authority_key_identifier_extension = true;
    params.not_before = backdated(now).into();
    // Nothing is believed longer than who has signed it.
    let end = now
        .plus_ms(cluster.spec.cert_expiry_ms)
        .min(root_ends(&ca.cert_pem)?);
    params.not_after = at(end).into();
    request.params = params;
    let mut pem = request.signed_by(&issuer).map_err(CaError::Sign)?.pem();
    if let Some(old) = &cluster.retiring {
        pem.push_str(&old.cross_pem);
    }
    Ok(pem)
}

/// The digest of the key that a request is for, as [`crate::certificate::Certificate::key_digest`] has it.
///
/// # Errors
/// When the request is damaged, or not signed by its own key.
pub fn request_key_digest(csr_pem: &str) -> Result<String, CaError> {
    let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
    Ok(ca_digest(&request.public_key.subject_public_key_info()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{make_root, new_secrets, root_digest};
    use crate::certificate::Certificate;
    use crate::identity::{Identity, KeyRequest, Material};
    use crate::tls;
    use api::model::{ClusterId, ClusterSpec, Meta};
    use x509_parser::prelude::{FromDer, X509Certificate};

    const NOW: Timestamp = Timestamp(1_750_000_000_000);

    fn cluster() -> Cluster {
        Cluster {
            id: ClusterId(1),
            meta: Meta::default(),
            spec: ClusterSpec::default(),
            ca: make_root(ClusterId(1), NOW).unwrap(),
            retiring: None,
            tokens: new_secrets(),
            revoked: Default::default(),
            lock: Default::default(),
            recovery: Default::default(),
        }
    }

    #[test]
    fn a_certificate_says_what_the_ca_says_not_what_was_asked() {
        let (cluster, node) = (cluster(), NodeId(2));
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

        let pem = issue(&cluster, &csr, node, Role::Worker, NOW).unwrap();
        let read = Certificate::from_pem(&pem).unwrap();
        let identity = Identity {
            cluster: cluster.id,
            node,
            role: Role::Worker,
        };
        assert_eq!(read.identity, identity);
        assert_eq!(read.not_before, Timestamp(NOW.0 - 3_600_000));
        assert_eq!(read.not_after, Timestamp(NOW.0 + 90 * 86_400_000));
        assert_eq!(read.key_digest, request_key_digest(&csr).unwrap());
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
        assert!(!parsed.is_ca());
        tls::server_config(&Material {
            ca_pem: cluster.ca.cert_pem,
            cert_pem: pem,
            key_pem: key.serialize_pem(),
        })
        .unwrap();
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let cluster = cluster();
        let csr = KeyRequest::generate().unwrap().csr_pem;
        // One character of the key or the signature.
        let at = csr.len() / 2;
        let other = if csr.as_bytes()[at] == b'A' { "B" } else { "A" };
        let broken = format!("{}{other}{}", &csr[..at], &csr[at + 1..]);
        for text in ["", "hello", broken.as_str(), cluster.ca.cert_pem.as_str()] {
            let refused = issue(&cluster, text, NodeId(2), Role::Worker, NOW);
            assert!(
                matches!(refused, Err(CaError::Request(_))),
                "{text:?} was signed"
            );
        }
    }

    #[test]
    fn material_that_does_not_fit_is_refused() {
        let cluster = cluster();
        let (one, two) = (
            KeyRequest::generate().unwrap(),
            KeyRequest::generate().unwrap(),
        );
        let cert_pem = issue(&cluster, &one.csr_pem, NodeId(2), Role::Worker, NOW).unwrap();
        let wrong = Material {
            ca_pem: cluster.ca.cert_pem,
            cert_pem,
            key_pem: two.key_pem,
        };
        assert!(matches!(
            tls::server_config(&wrong),
            Err(tls::TlsError::Unfit(_))
        ));
    }

    #[test]
    fn while_the_ca_is_replaced_either_root_vouches_for_new_certificates() {
        let mut cluster = cluster();
        let csr = KeyRequest::generate().unwrap().csr_pem;
        let before = issue(&cluster, &csr, NodeId(2), Role::Worker, NOW).unwrap();
        let old = cluster.ca.clone();
        let later = NOW.plus_ms(1_000);
        cluster.ca = make_root(cluster.id, later).unwrap();
        cluster.retiring = Some(crate::ca::cross_sign(&old, &cluster.ca, later).unwrap());
        let after = issue(&cluster, &csr, NodeId(2), Role::Worker, later).unwrap();
        for root in [&old.cert_pem, &cluster.ca.cert_pem] {
            tls::is_vouched(root, &after, later).unwrap();
        }
        tls::is_vouched(&cluster.roots_pem(), &before, later).unwrap();
        assert!(tls::is_vouched(&cluster.ca.cert_pem, &before, later).is_err());
        let issuer = |pem: &str| crate::ca::issuer_of(&cluster, pem, later.plus_ms(60_000));
        assert_eq!(issuer(&before), root_digest(&old.cert_pem).unwrap());
        assert_eq!(issuer(&after), root_digest(&cluster.ca.cert_pem).unwrap());
        // A token given out before the end of it all leads to the old root.
        assert_eq!(cluster.token_root_pem(), old.cert_pem);
        // Another cluster's CA vouches for nobody here.
        let other = make_root(ClusterId(2), NOW).unwrap();
        assert!(tls::is_vouched(&other.cert_pem, &after, later).is_err());
    }

    #[test]
    fn a_certificate_ends_no_later_than_its_ca() {
        let mut cluster = cluster();
        cluster.spec.cert_expiry_ms = u64::MAX;
        let csr = KeyRequest::generate().unwrap().csr_pem;
        let pem = issue(&cluster, &csr, NodeId(2), Role::Worker, NOW).unwrap();
        let end = Certificate::from_pem(&pem).unwrap().not_after;
        assert_eq!(end, super::root_ends(&cluster.ca.cert_pem).unwrap());
    }
}
