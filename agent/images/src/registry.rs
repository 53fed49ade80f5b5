//! A registry, asked for one image: manifests bounded in size, blobs as streams.
//!
//! The OCI client does authentication and blobs. Manifests are fetched here, since it would read one of any
//! size into memory.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use oci_client::RegistryOperation;
use oci_client::client::{
    Certificate, CertificateEncoding, ClientConfig, ClientProtocol, SizedStream,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderMap};

use crate::digest::Digest;
use crate::document::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::limits::within;
use crate::pull::PullOptions;
use crate::reference::Reference;

const USER_AGENT: &str = concat!("clusterd/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Without a byte for so long, a registry has hung.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of an error's text.
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// Who asks. The secrets don't print.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody in particular. The registry's token server may still hand out a token.
    #[default]
    Anonymous,
    /// An account of the registry; exchanged for a token where it wants one.
    Basic {
        /// Account.
        username: String,
        /// Password or access token.
        password: String,
    },
    /// A token of the registry's token server.
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => write!(f, "Basic({username}, …)"),
            Self::Bearer(_) => f.write_str("Bearer(…)"),
        }
    }
}

/// One image's place in its registry.
pub(crate) struct Registry {
    /// The image, for messages.
    name: String,
    reference: oci_client::Reference,
    client: oci_client::Client,
    http: reqwest::Client,
    /// `http` or `https`.
    scheme: &'static str,
    auth: Auth,
    /// From the token server.
    token: Option<String>,
    metadata_bytes_max: u64,
}

impl Registry {
    /// Prepares to ask, and authenticates.
    pub(crate) async fn connect(
        reference: &Reference,
        auth: &Auth,
        options: &PullOptions,
    ) -> Result<Self> {
        // Already installed is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name = reference.familiar();
        let host = reference.oci().resolve_registry().to_owned();
        let ca = match &options.ca_file {
            Some(path) => Some(fs::read(path).map_err(Error::io("read", path))?),
            None => None,
        };
        let may_be_plain = is_loopback(&host) || options.insecure_registries.contains(&host);
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| Error::Registry {
            name: name.clone(),
            registry: host.clone(),
            hint: "this machine's root certificates (package ca-certificates) or the given CA file",
            source: error,
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        if let Some(ca) = &ca {
            let certificates =
                reqwest::Certificate::from_pem_bundle(ca).map_err(|e| unusable(e.into()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|e| unusable(e.into()))?;
        let scheme = if may_be_plain && !speaks_https(&http, &host).await {
            "http"
        } else {
            "https"
        };
        let config = ClientConfig {
            protocol: if scheme == "http" {
                ClientProtocol::Http
            } else {
                ClientProtocol::Https
            },
            extra_root_certificates: ca.iter().flat_map(|ca| pem_certificates(ca)).collect(),
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        };
        let client = oci_client::Client::try_from(config).map_err(|e| unusable(e.into()))?;
        let mut registry = Self {
            name,
            reference: reference.oci().clone(),
            client,
            http,
            scheme,
            auth: auth.clone(),
            token: None,
            metadata_bytes_max: options.limits.metadata_bytes_max,
        };
        let secret = match auth {
            Auth::Anonymous => RegistryAuth::Anonymous,
            Auth::Basic { username, password } => {
                RegistryAuth::Basic(username.clone(), password.clone())
            }
            Auth::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        };
        registry.token = registry
            .client
            .auth(&registry.reference, &secret, RegistryOperation::Pull)
            .await
            .map_err(|error| registry.failed(error, "authentication"))?;
        Ok(registry)
    }

    /// The manifest or index of a tag or digest, verified where a digest is known.
    pub(crate) async fn manifest(&self, wanted: Option<Digest>) -> Result<(Vec<u8>, Digest)> {
        let asked = match wanted {
            Some(digest) => digest.to_string(),
            None => self.reference.tag().unwrap_or("latest").to_owned(),
        };
        let repository = self.reference.repository();
        let url = format!(
            "{}://{}/v2/{repository}/manifests/{asked}",
            self.scheme,
            self.host()
        );
        let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        let mut request = self.http.get(url).header(ACCEPT, accept);
        request = match (&self.token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Auth::Basic { username, password }) => {
                request.basic_auth(username, Some(password))
            }
            (None, _) => request,
        };
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let object = format!("{}: manifest {asked}", self.name);
        let limit = if status.is_success() {
            self.metadata_bytes_max
        } else {
            ERROR_BYTES_MAX
        };
        let body = self.bounded(response, limit, &object).await;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body.unwrap_or_default())
                .chars()
                .take(300)
                .collect::<String>();
            return Err(self.refused(status, text.trim(), &format!("{repository}:{asked}")));
        }
        let body = body?;
        let digest = Digest::of(&body);
        let expected = wanted.or_else(|| content_digest(&headers));
        match expected {
            Some(expected) if expected != digest => {
                Err(Error::wrong_digest(object, expected, digest))
            }
            _ => Ok((body, digest)),
        }
    }

    /// A config, verified.
    pub(crate) async fn config(&self, entry: &Descriptor) -> Result<Vec<u8>> {
        let object = format!("{}: config {}", self.name, entry.digest);
        let expected = entry.digest(&object)?;
        within("config in bytes", entry.size, self.metadata_bytes_max)
            .map_err(|f| Error::invalid(&object, f))?;
        let mut stream = self.blob(&expected).await?.stream;
        let mut bytes = Vec::new();
        while let Some(chunk) = futures_util::StreamExt::next(&mut stream).await {
            bytes.extend_from_slice(&chunk.map_err(|error| self.broken(error, &object))?);
            within("config in bytes", bytes.len() as u64, entry.size)
                .map_err(|f| Error::invalid(&object, f))?;
        }
        match Digest::of(&bytes) {
            digest if digest == expected => Ok(bytes),
            digest => Err(Error::wrong_digest(object, expected, digest)),
        }
    }

    /// A blob's bytes. The caller counts and hashes them.
    pub(crate) async fn blob(&self, digest: &Digest) -> Result<SizedStream> {
        let text = digest.to_string();
        let layer = oci_client::client::LayerDescriptor {
            digest: &text,
            urls: &None,
        };
        self.client
            .pull_blob_stream(&self.reference, &layer)
            .await
            .map_err(|error| self.failed(error, &text))
    }

    /// The error for a blob's stream that broke off.
    pub(crate) fn broken(&self, error: std::io::Error, object: &str) -> Error {
        // The client's own check of the digest, which speaks another language.
        let damaged = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<oci_client::errors::DigestError>())
            .map(|inner| match inner {
                oci_client::errors::DigestError::VerificationError { expected, actual } => {
                    match (expected.parse(), actual.parse()) {
                        (Ok(expected), Ok(actual)) => Fault::WrongDigest { expected, actual },
                        _ => Fault::Corrupt(inner.to_string()),
                    }
                }
                other => Fault::Corrupt(other.to_string()),
            });
        match damaged {
            Some(fault) => Error::invalid(object, fault),
            None => self.unreachable(error),
        }
    }

    /// The image, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn host(&self) -> &str {
        self.reference.resolve_registry()
    }

    /// A body of at most so many bytes.
    async fn bounded(
        &self,
        mut response: reqwest::Response,
        limit: u64,
        object: &str,
    ) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(error))?
        {
            body.extend_from_slice(&chunk);
            within("manifest in bytes", body.len() as u64, limit)
                .map_err(|f| Error::invalid(object, f))?;
        }
        Ok(body)
    }

    fn unreachable(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Registry {
            name: self.name.clone(),
            registry: self.host().to_owned(),
            hint: match self.scheme {
                "http" => "that the registry runs",
                _ => {
                    "that the registry speaks https (one of plain http has to be listed as insecure)"
                }
            },
            source: error.into(),
        }
    }

    fn refused(&self, status: StatusCode, text: &str, asked: &str) -> Error {
        let (name, registry) = (self.name.clone(), self.host().to_owned());
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Unauthorized {
                name,
                registry,
                reason: format!("{status} {text}"),
            },
            StatusCode::NOT_FOUND => Error::NotInRegistry {
                name,
                registry,
                asked: asked.to_owned(),
            },
            _ => Error::RegistryAnswer {
                name,
                registry,
                reason: format!("{status} {text}"),
            },
        }
    }

    /// The client's errors in this crate's words.
    fn failed(&self, error: OciDistributionError, asked: &str) -> Error {
        let (name, registry) = (self.name.clone(), self.host().to_owned());
        let short = |text: &str| text.trim().chars().take(300).collect::<String>();
        match error {
            OciDistributionError::RequestError(error) => self.unreachable(error),
            OciDistributionError::IoError(error) => self.broken(error, asked),
            OciDistributionError::UnauthorizedError { .. } => Error::Unauthorized {
                name,
                registry,
                reason: "it wants other credentials".to_owned(),
            },
            OciDistributionError::AuthenticationFailure(text) => Error::Unauthorized {
                name,
                registry,
                reason: short(&text),
            },
            OciDistributionError::ServerError { code, message, .. } => {
                match StatusCode::from_u16(code) {
                    Ok(status) => self.refused(status, &short(&message), asked),
                    Err(_) => Error::RegistryAnswer {
                        name,
                        registry,
                        reason: short(&message),
                    },
                }
            }
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| {
                    envelope
                        .errors
                        .iter()
                        .any(|error| codes.contains(&error.code))
                };
                if has(&[OciErrorCode::Denied, OciErrorCode::Unauthorized]) {
                    Error::Unauthorized {
                        name,
                        registry,
                        reason: short(&envelope.to_string()),
                    }
                } else if has(&[
                    OciErrorCode::BlobUnknown,
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                ]) {
                    Error::NotInRegistry {
                        name,
                        registry,
                        asked: asked.to_owned(),
                    }
                } else {
                    Error::RegistryAnswer {
                        name,
                        registry,
                        reason: short(&envelope.to_string()),
                    }
                }
            }
            other => Error::RegistryAnswer {
                name,
                registry,
                reason: short(&other.to_string()),
            },
        }
    }
}

/// Whether the registry answers to TLS. Only asked where plain HTTP is allowed too.
async fn speaks_https(http: &reqwest::Client, host: &str) -> bool {
    http.get(format!("https://{host}/v2/")).send().await.is_ok()
}

/// Whether the registry is this machine, where plain HTTP harms nobody.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The certificates of a PEM file one by one, as the client wants them.
fn pem_certificates(pem: &[u8]) -> Vec<Certificate> {
    const END: &str = "-----END CERTIFICATE-----";
    String::from_utf8_lossy(pem)
        .split_inclusive(END)
        .filter(|part| part.ends_with(END))
        .map(|part| Certificate {
            encoding: CertificateEncoding::Pem,
            data: part.as_bytes().to_vec(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_world() {
        for (host, loopback) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("[::1]:5000", true),
            ("index.docker.io", false),
            ("localhost.example.com", false),
            ("192.168.205.10:5000", false),
            ("127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(host), loopback, "{host}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let auth = Auth::Basic {
            username: "me".to_owned(),
            password: "hunter2".to_owned(),
        };
        assert!(!format!("{auth:?} {:?}", Auth::Bearer("hunter2".to_owned())).contains("hunter2"));
    }
}
