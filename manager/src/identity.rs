//! Who a node is: the identity in its certificate, and the names certificates carry.
//!
//! A node's id, role and cluster stand in the subject (CN, OU, O); nothing of it is an address. Knows
//! neither Raft nor the state, so that a node that is only a worker uses it too.

use api::model::{ClusterId, NodeId, Role};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

/// The name every manager's certificate carries.
pub const MANAGER_NAME: &str = "manager.cluster.internal";

/// The name a node's certificate carries.
#[must_use]
pub fn node_name(node: NodeId) -> String {
    format!("{node}.node.cluster.internal")
}

/// Who a certificate says its holder is. Only worth something when the CA's signature was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Which node.
    pub node: NodeId,
    /// Manager or worker.
    pub role: Role,
}

/// Why a certificate names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate.
    #[error("the certificate can't be read: {0}")]
    Unreadable(String),
    /// Not one of a node.
    #[error("the certificate is not a node's: its {field} is {value:?}")]
    Field {
        /// Which part of its subject.
        field: &'static str,
        /// What stands there.
        value: String,
    },
}

impl Identity {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// When it is no certificate, or not one of a node.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|e| IdentityError::Unreadable(e.to_string()))?;
        let subject = certificate.subject();
        let cluster = text(subject.iter_organization());
        let node = text(subject.iter_common_name());
        let role = text(subject.iter_organizational_unit());
        Ok(Self {
            cluster: cluster
                .parse()
                .map_err(|_| field("organization", &cluster))?,
            node: node.parse().map_err(|_| field("common name", &node))?,
            role: match role.as_str() {
                "worker" => Role::Worker,
                "manager" => Role::Manager,
                other => return Err(field("organizational unit", other)),
            },
        })
    }

    /// Reads a PEM certificate.
    ///
    /// # Errors
    /// When it is no certificate, or not one of a node.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| IdentityError::Unreadable(e.to_string()))?;
        Self::from_der(&der)
    }
}

fn text<'a>(mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> String {
    values
        .next()
        .and_then(|value| value.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn field(field: &'static str, value: &str) -> IdentityError {
    IdentityError::Field {
        field,
        value: value.chars().take(40).collect(),
    }
}

/// What a node proves itself with, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The cluster's root certificate.
    pub ca_pem: String,
    /// The node's certificate.
    pub cert_pem: String,
    /// The node's private key, PKCS #8.
    pub key_pem: String,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// A fresh private key and the request to have it certified. The key never leaves the node.
pub struct KeyRequest {
    /// Certificate signing request, PEM. It asks for nothing: the CA decides every field.
    pub csr_pem: String,
    /// Private key, PKCS #8, PEM.
    pub key_pem: String,
}

impl KeyRequest {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, rcgen::Error> {
        Self::of(&KeyPair::generate()?)
    }

    /// A request for a key that the node has already.
    ///
    /// # Errors
    /// When it is no private key.
    pub fn for_key(key_pem: &str) -> Result<Self, rcgen::Error> {
        Self::of(&KeyPair::from_pem(key_pem)?)
    }

    fn of(key: &KeyPair) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(Self {
            csr_pem: params.serialize_request(key)?.pem()?,
            key_pem: key.serialize_pem(),
        })
    }
}
