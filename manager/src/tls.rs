//! TLS between nodes: 1.3 only, HTTP/2 only, both sides certified by the cluster's CA.
//!
//! A server takes callers without a certificate too, for the one service that gives certificates; what they
//! may call is [`crate::auth`]'s matter. Knows neither Raft nor the state.

use crate::certificate::Certificate;
use crate::grace::{Callers, Servers};
use crate::identity::Material;
use crate::revoked::Revoked;
use api::model::Timestamp;
use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Why no TLS can be made from some material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text that is none.
    #[error("the {what} is no PEM: {cause}")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// The parts don't fit each other.
    #[error("the certificate, its key and the root don't fit together")]
    Unfit(#[source] rustls::Error),
    /// More, or fewer, certificates than one.
    #[error("there are {0} certificates where one is wanted")]
    NotOne(usize),
    /// A certificate that the root does not vouch for.
    #[error("the certificate is not of this CA")]
    NotVouched(#[source] rustls::Error),
    /// The root can't vouch for callers.
    #[error("the root certificate can't be used: {0}")]
    Root(String),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(TlsError::Pem {
            what,
            cause: "it holds no certificate".into(),
        }),
        Err(error) => Err(TlsError::Pem {
            what,
            cause: error.to_string(),
        }),
    }
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::Pem {
        what: "private key",
        cause: e.to_string(),
    })
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in certificates("root certificate", ca_pem)? {
        store.add(root).map_err(|e| TlsError::Root(e.to_string()))?;
    }
    Ok(Arc::new(store))
}

/// The DER of the first certificate of a PEM text.
///
/// # Errors
/// When there is none.
pub fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::Pem {
        what: "certificate",
        cause: e.to_string(),
    })
}

/// The DER of the only certificate of a PEM text.
///
/// # Errors
/// When there is none, or more than one.
pub fn only_certificate(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    let mut found = certificates("certificate", pem)?;
    match (found.pop(), found.len()) {
        (Some(certificate), 0) => Ok(certificate),
        (_, others) => Err(TlsError::NotOne(others + 1)),
    }
}

/// Whether these roots vouch for a node's certificate (with what stands between them behind it) at that moment.
///
/// # Errors
/// Why not.
pub fn is_vouched(roots_pem: &str, chain_pem: &str, at: Timestamp) -> Result<(), TlsError> {
    let chain = certificates("certificate", chain_pem)?;
    let Some((certificate, between)) = chain.split_first() else {
        return Err(TlsError::NotOne(0));
    };
    let at = UnixTime::since_unix_epoch(Duration::from_millis(at.since_ms(Timestamp(0))));
    strict_callers(roots_pem)?
        .verify_client_cert(certificate, between, at)
        .map(drop)
        .map_err(TlsError::NotVouched)
}

fn strict_callers(roots_pem: &str) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(roots(roots_pem)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| TlsError::Root(e.to_string()))
}

/// A server's side.
///
/// # Errors
/// When the material is damaged or doesn't fit together.
pub fn server_config(material: &Material) -> Result<ServerConfig, TlsError> {
    let verifier = Arc::new(Callers(strict_callers(&material.ca_pem)?));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Unfit)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            certificates("certificate", &material.cert_pem)?,
            key(&material.key_pem)?,
        )
        .map_err(TlsError::Unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn end_of(material: &Material) -> Timestamp {
    Certificate::from_pem(&material.cert_pem)
        .map_or(Timestamp(i64::MAX), |certificate| certificate.not_after)
}

/// A client's side, with the node's certificate.
///
/// # Errors
/// When the material is damaged or doesn't fit together.
pub fn client_config(material: &Material) -> Result<ClientConfig, TlsError> {
    let strict = WebPkiServerVerifier::builder_with_provider(roots(&material.ca_pem)?, provider())
        .build()
        .map_err(|e| TlsError::Root(e.to_string()))?;
    let own_end = end_of(material);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Unfit)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers { strict, own_end }))
        .with_client_auth_cert(
            certificates("certificate", &material.cert_pem)?,
            key(&material.key_pem)?,
        )
        .map_err(TlsError::Unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A joiner's side, which has no certificate yet but knows the root.
///
/// # Errors
/// When the root is damaged.
pub fn joiner_config(ca_pem: &str) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Unfit)?
        .with_root_certificates(roots(ca_pem)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A stranger's side: believes whatever certificate it meets. Only to fetch the root, which is then held
/// against the digest in the join token.
///
/// # Errors
/// When the crypto provider has no TLS 1.3.
pub fn stranger_config() -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Unfit)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider())))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Takes any certificate, but checks that the other side holds its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A node's TLS, which can be replaced while it runs: connections made from then on use the new one.
#[derive(Debug)]
pub struct Tls {
    server: ArcSwap<ServerConfig>,
    client: ArcSwap<ClientConfig>,
    revoked: Arc<Revoked>,
    /// When the certificate ends, milliseconds since the Unix epoch.
    end_ms: AtomicI64,
}

impl Tls {
    /// From a node's material.
    ///
    /// # Errors
    /// When it is damaged or doesn't fit together.
    pub fn new(material: &Material) -> Result<Arc<Self>, TlsError> {
        let server = ArcSwap::from_pointee(server_config(material)?);
        let client = ArcSwap::from_pointee(client_config(material)?);
        Ok(Arc::new(Self {
            server,
            client,
            revoked: Arc::default(),
            end_ms: AtomicI64::new(end_of(material).0),
        }))
    }

    /// Takes new material.
    ///
    /// # Errors
    /// When it is damaged or doesn't fit together; the old one stays then.
    pub fn reload(&self, material: &Material) -> Result<(), TlsError> {
        let (server, client) = (server_config(material)?, client_config(material)?);
        self.server.store(Arc::new(server));
        self.client.store(Arc::new(client));
        self.end_ms.store(end_of(material).0, Ordering::Relaxed);
        Ok(())
    }

    /// Whether this node's certificate has ended.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        now.0 >= self.end_ms.load(Ordering::Relaxed)
    }

    /// The nodes that no connection leads to, and none from.
    #[must_use]
    pub fn revoked(&self) -> &Arc<Revoked> {
        &self.revoked
    }

    /// For the next connection that comes in.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.load_full()
    }

    /// For the next connection that goes out.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client.load_full()
    }
}
