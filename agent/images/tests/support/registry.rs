//! A real registry on loopback, and a scripted one that misbehaves.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{MANIFEST, TestImage};
use images::Digest;

/// `me` with the password `secret`.
pub const HTPASSWD: &str = "me:$2b$05$e0MYzXyjpJS7Pd0RVvHwHeflys03QYWOgk2EVomcECqax/ZgGUdXC\n";

/// Debian's docker-registry with its own storage, ended with the value.
pub struct Registry {
    child: Child,
    pub host: String,
    pub scheme: &'static str,
    auth: Option<(String, String)>,
}

impl Registry {
    /// Starts it. `extra` is put into its configuration; `tls` adds certificate and key.
    pub async fn start(dir: &Path, extra: &str, tls: Option<(&Path, &Path)>) -> Self {
        fs::create_dir_all(dir).unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        // Another process may take the port between our look and the registry's: then again.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let host = format!("127.0.0.1:{port}");
            let tls = match tls {
                Some((cert, key)) => {
                    format!(
                        "  tls:\n    certificate: {}\n    key: {}\n",
                        cert.display(),
                        key.display()
                    )
                }
                None => String::new(),
            };
            let config = format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  \
                 addr: {host}\n{tls}{extra}",
                dir.join("data").display()
            );
            let path = dir.join("config.yml");
            fs::write(&path, config).unwrap();
            let log = fs::File::create(dir.join("log")).unwrap();
            let mut child = Command::new("/usr/bin/docker-registry")
                .arg("serve")
                .arg(&path)
                .env_clear()
                .env("OTEL_TRACES_EXPORTER", "none")
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("docker-registry is installed (apt-get install docker-registry)");
            loop {
                if tokio::net::TcpStream::connect(&host).await.is_ok()
                    && child.try_wait().unwrap().is_none()
                {
                    return Self {
                        child,
                        host,
                        scheme,
                        auth: None,
                    };
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!(
            "docker-registry does not start: {}",
            fs::read_to_string(dir.join("log")).unwrap()
        );
    }

    /// Pushes as this account.
    pub fn with_auth(mut self, username: &str, password: &str) -> Self {
        self.auth = Some((username.to_owned(), password.to_owned()));
        self
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Pushes blobs and manifest by the registry's HTTP API.
    pub async fn push(
        &self,
        http: &reqwest::Client,
        repository: &str,
        tag: &str,
        image: &TestImage,
    ) {
        for blob in image
            .layers
            .iter()
            .map(|(_, blob)| blob)
            .chain([&image.config])
        {
            self.push_blob(http, repository, blob).await;
        }
        self.push_manifest(http, repository, tag, MANIFEST, &image.manifest)
            .await;
    }

    pub async fn push_blob(&self, http: &reqwest::Client, repository: &str, blob: &[u8]) {
        let url = format!(
            "{}://{}/v2/{repository}/blobs/uploads/",
            self.scheme, self.host
        );
        let begun = self.signed(http.post(url)).send().await.unwrap();
        assert_eq!(begun.status(), 202, "{}", begun.text().await.unwrap());
        let location = begun.headers()["location"].to_str().unwrap();
        let url = format!("{location}&digest={}", Digest::of(blob));
        let put = self
            .signed(http.put(url))
            .body(blob.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
    }

    pub async fn push_manifest(
        &self,
        http: &reqwest::Client,
        repository: &str,
        tag: &str,
        kind: &str,
        body: &[u8],
    ) {
        let url = format!(
            "{}://{}/v2/{repository}/manifests/{tag}",
            self.scheme, self.host
        );
        let put = self
            .signed(http.put(url))
            .header("content-type", kind)
            .body(body.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.auth {
            Some((username, password)) => request.basic_auth(username, Some(password)),
            None => request,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP client for pushes.
pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// What a scripted server answers to a request (its head, lower-cased): status line and headers without the
/// blank line, and the body. The body may be repeated without end.
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
    pub endless: bool,
}

impl Answer {
    pub fn new(status: &str, body: &[u8]) -> Self {
        Self {
            head: format!("HTTP/1.1 {status}\r\ncontent-length: {}", body.len()),
            body: body.to_vec(),
            endless: false,
        }
    }
}

/// Serves until dropped; the address.
pub async fn scripted(
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (String, Scripted) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answer = std::sync::Arc::new(answer);
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            connections.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        // A TLS hello: we don't speak that.
                        Ok(0x16) if head.is_empty() => return,
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let answer = answer(&String::from_utf8_lossy(&head).to_lowercase());
                let head = format!("{}\r\nconnection: close\r\n\r\n", answer.head);
                if stream.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
                while stream.write_all(&answer.body).await.is_ok() && answer.endless {}
                let _ = stream.shutdown().await;
            });
        }
    });
    (host, Scripted(task))
}

/// Ends the server when dropped.
pub struct Scripted(tokio::task::JoinHandle<()>);

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
