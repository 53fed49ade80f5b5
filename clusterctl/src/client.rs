//! The connection to a clusterd: its unix socket.

use crate::patient::Patient;
use anyhow::{Context, Result, anyhow, bail};
use api::proto::{control_client::ControlClient, daemon_client::DaemonClient};
use hyper_util::rt::TokioIo;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

/// The header of a call that any manager may answer from what it has.
const STALE: &str = "x-cluster-stale";

/// Where clusterd listens if nothing else is said.
pub const DEFAULT_HOST: &str = "unix:///run/clusterd/clusterd.sock";

/// Largest message taken from clusterd, bytes: a list of very many tasks.
const MESSAGE_LIMIT: usize = 64 << 20;

/// A connection to one clusterd.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    stale: bool,
}

/// Marks calls as answerable by any manager from what it has.
#[derive(Clone)]
pub struct Mark(bool);

impl Interceptor for Mark {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if self.0 {
            let yes = MetadataValue::from_static("1");
            request.metadata_mut().insert(STALE, yes);
        }
        Ok(request)
    }
}

impl Client {
    /// What the cluster does.
    pub fn control(&self) -> ControlClient<InterceptedService<Patient, Mark>> {
        ControlClient::with_interceptor(Patient(self.channel.clone()), Mark(self.stale))
            .max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// The same, with reads answered by any manager from what it has.
    pub fn stale(&self) -> Self {
        Self {
            stale: true,
            ..self.clone()
        }
    }

    /// Whether reads are answered so.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// What this node does for itself.
    pub fn daemon(&self) -> DaemonClient<Channel> {
        DaemonClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }
}

/// Reads `CLUSTERCTL_HOST`: `unix:///path` or a path.
fn socket_path(host: &str) -> Result<PathBuf> {
    match host.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(path.into()),
        None if host.starts_with('/') => Ok(host.into()),
        _ => bail!(
            "the host {host:?} is no socket: write unix:///PATH, such as {DEFAULT_HOST}; for another machine, \
             run clusterctl there (ssh HOST clusterctl ...)"
        ),
    }
}

/// Connects, and says what to do when there is nobody.
///
/// # Errors
/// Names the socket, why it can't be reached and what to do.
pub async fn connect(host: &str, stale: bool) -> Result<Client> {
    let path = socket_path(host)?;
    // A first connection by hand tells the reasons apart, which the channel's own error doesn't.
    UnixStream::connect(&path)
        .await
        .map_err(|error| unreachable_text(&path, &error))?;
    let endpoint = Endpoint::from_static("http://clusterd");
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let channel = endpoint
        .connect_with_connector(connector)
        .await
        .context("can't talk to clusterd")?;
    Ok(Client { channel, stale })
}

fn unreachable_text(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
            "clusterd is not running here: nobody listens on {shown}; start it with `systemctl start clusterd` \
             (or `clusterd` as root), or set CLUSTERCTL_HOST"
        ),
        ErrorKind::PermissionDenied => {
            let has_group = matches!(nix::unistd::Group::from_name("clusterd"), Ok(Some(_)));
            let first = match has_group {
                true => "",
                false => "make the group with `groupadd clusterd`, start clusterd anew, ",
            };
            anyhow!(
                "you may not use {shown}: be root, or {first}join the group with `usermod -aG clusterd $USER` and log in again"
            )
        }
        _ => anyhow!("can't connect to {shown}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_socket() {
        assert_eq!(socket_path("unix:///a/b").unwrap(), Path::new("/a/b"));
        assert_eq!(socket_path("/a/b").unwrap(), Path::new("/a/b"));
        for wrong in ["tcp://1.2.3.4:2377", "unix://a", "a/b", ""] {
            assert!(
                socket_path(wrong)
                    .unwrap_err()
                    .to_string()
                    .contains("unix:///PATH"),
                "{wrong}"
            );
        }
    }
}
