//! Managers and workers in one process, over real TLS on loopback.
#![allow(dead_code)]

pub mod agent;

use api::convert;
use api::model::{ClusterSpec, JoinToken, NodeDescription, NodeId, Role};
use api::proto::ca_client::CaClient;
use api::proto::control_client::ControlClient;
use api::proto::dispatch_client::DispatchClient;
use api::proto::{GetRootRequest, IssueRequest, Issued, ListNodesRequest, NodeRow};
use bytes::Bytes;
use manager::auth::{Policy, guard};
use manager::dialer::{Dialer, unidentified};
use manager::identity::{Identity, KeyRequest, Material};
use manager::revoked::Guarded;
use manager::tls::{self, Tls};
use manager::{Founding, Manager, ManagerConfig, Pace};
use seal::{Found, Keys};
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Server};
use tonic::{Code, Status};

pub const BOUND: Duration = Duration::from_secs(60);
const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub fn description(hostname: &str) -> NodeDescription {
    NodeDescription {
        hostname: hostname.into(),
        os: "linux".into(),
        ..NodeDescription::default()
    }
}

/// Waits until `look` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{what} did not happen within {BOUND:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A connection that breaks off when its process is taken for dead.
struct Cut {
    stream: Guarded<TlsStream<TcpStream>>,
    dead: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for Cut {
    type ConnectInfo = <Guarded<TlsStream<TcpStream>> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.dead.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.dead.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, data)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A TLS listener that serves routes.
pub struct Door {
    pub port: u16,
    stop: CancellationToken,
    served: Option<JoinHandle<()>>,
}

impl Door {
    fn open(listener: TcpListener, tls: Arc<Tls>, routes: Routes) -> Self {
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let (tx, rx) = mpsc::channel(16);
        let accepting = stop.clone();
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = accepting.cancelled() => return,
                };
                let (tx, acceptor) = (tx.clone(), TlsAcceptor::from(tls.server()));
                let dead = Box::pin(accepting.clone().cancelled_owned());
                let revoked = tls.revoked().clone();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await
                        && let peer = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec)
                    {
                        let stream = revoked.guard_caller(stream, peer.as_deref());
                        let _ = tx.send(Ok::<_, io::Error>(Cut { stream, dead })).await;
                    }
                });
            }
        });
        let serving = stop.clone();
        let served = tokio::spawn(async move {
            let server = Server::builder()
                .add_routes(routes)
                .serve_with_incoming(ReceiverStream::new(rx));
            tokio::select! {
                served = server => served.unwrap(),
                () = serving.cancelled() => {}
            }
        });
        Self {
            port,
            stop,
            served: Some(served),
        }
    }

    pub async fn close(&mut self) {
        self.stop.cancel();
        if let Some(served) = self.served.take() {
            served.await.unwrap();
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A running manager.
pub struct Boss {
    pub manager: Option<Manager>,
    pub id: NodeId,
    pub addr: String,
    pub dialer: Dialer,
    pub door: Door,
    pub ca_pem: String,
    dir: TempDir,
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    (listener, addr)
}

/// Those of before, or new ones.
fn keys(dir: &TempDir) -> Arc<Keys> {
    let path = dir.path().join("raft.key");
    Arc::new(match Found::look(&path).unwrap() {
        Found::Open(keys) => keys,
        Found::None => Keys::create(&path).unwrap(),
        Found::Locked(_) => panic!("locked"),
    })
}

fn config(
    dir: &TempDir,
    identity: Identity,
    addr: &str,
    ca_pem: &str,
    dialer: &Dialer,
) -> ManagerConfig {
    ManagerConfig {
        dir: dir.path().join("raft"),
        keys: keys(dir),
        identity,
        addr: addr.into(),
        ca_pem: ca_pem.into(),
        dialer: dialer.clone(),
        instance: Bytes::new(),
        pace: Pace::default(),
    }
}

impl Boss {
    /// The first manager of a new cluster.
    pub async fn found(spec: ClusterSpec) -> (Self, Founding) {
        let (listener, addr) = listen().await;
        let port = listener.local_addr().unwrap().port();
        let founding = Founding::new(
            spec,
            None,
            Default::default(),
            description("node1"),
            HOST,
            port,
            manager::now(),
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::new(&founding.material).unwrap();
        let dialer = Dialer::new(tls.clone());
        let ca_pem = founding.material.ca_pem.clone();
        let manager = Manager::init(
            config(&dir, founding.identity, &addr, &ca_pem, &dialer),
            &founding,
        )
        .await
        .unwrap();
        let door = Door::open(listener, tls, manager.routes(Routes::default()));
        let id = founding.identity.node;
        (
            Self {
                manager: Some(manager),
                id,
                addr,
                dialer,
                door,
                ca_pem,
                dir,
            },
            founding,
        )
    }

    /// A further manager.
    pub async fn join(token: &JoinToken, at: &str, hostname: &str) -> Self {
        let (listener, addr) = listen().await;
        let port = listener.local_addr().unwrap().port();
        let (issued, material) = enrol(at, token, hostname, port).await.unwrap();
        let identity = Identity::from_pem(&material.cert_pem).unwrap();
        assert_eq!(identity.role, Role::Manager);
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::new(&material).unwrap();
        let dialer = Dialer::new(tls.clone());
        let manager = Manager::start(config(&dir, identity, &addr, &material.ca_pem, &dialer))
            .await
            .unwrap();
        let door = Door::open(listener, tls, manager.routes(Routes::default()));
        manager.join(&issued.managers, BOUND).await.unwrap();
        let (id, ca_pem) = (identity.node, material.ca_pem);
        Self {
            manager: Some(manager),
            id,
            addr,
            dialer,
            door,
            ca_pem,
            dir,
        }
    }

    /// An operator at this manager, who calls it and nobody else.
    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.dialer.node(&self.addr, self.id))
    }

    /// The nodes, or those of these names or ids.
    pub async fn nodes(&self, named: &[&str]) -> Vec<NodeRow> {
        let nodes = named.iter().map(|name| (*name).to_owned()).collect();
        let request = ListNodesRequest { nodes };
        let reply = self.control().list_nodes(request).await.unwrap();
        reply.into_inner().nodes
    }

    /// A worker, as it is listed.
    pub async fn row(&self, hand: &Hand) -> NodeRow {
        self.nodes(&[&hand.id.to_string()]).await.remove(0)
    }

    pub fn leads(&self) -> bool {
        self.manager
            .as_ref()
            .is_some_and(|manager| manager.handle().leadership().borrow().own)
    }

    /// It is stopped, and comes back with another address, knowing nothing of where others have gone.
    pub async fn comes_back_elsewhere(&mut self) {
        let identity = self.manager.as_ref().unwrap().identity();
        self.kill().await;
        self.starts_elsewhere(identity, "").await;
    }

    /// As one that was stopped; `instance` is which boot of which machine it is.
    pub async fn starts_elsewhere(&mut self, identity: Identity, instance: &'static str) {
        let (listener, addr) = listen().await;
        self.addr = addr;
        let config = ManagerConfig {
            instance: Bytes::from_static(instance.as_bytes()),
            ..config(&self.dir, identity, &self.addr, &self.ca_pem, &self.dialer)
        };
        let manager = Manager::start(config).await.unwrap();
        let routes = manager.routes(Routes::default());
        self.door = Door::open(listener, self.dialer.tls().clone(), routes);
        self.manager = Some(manager);
    }

    /// It is gone, without a word to anybody.
    pub async fn kill(&mut self) {
        self.door.close().await;
        if let Some(manager) = self.manager.take() {
            manager.shutdown().await;
        }
    }
}

/// Gets a certificate as a joiner does.
pub async fn enrol(
    at: &str,
    token: &JoinToken,
    hostname: &str,
    port: u16,
) -> Result<(Issued, Material), Status> {
    let stranger = unidentified(at, Arc::new(tls::stranger_config().unwrap()));
    let root = CaClient::new(stranger)
        .get_root(GetRootRequest {})
        .await?
        .into_inner()
        .cert_pem;
    let digest = api::model::ca_digest(&tls::first_certificate(&root).unwrap());
    assert_eq!(digest, token.ca_digest);
    let key = KeyRequest::generate().unwrap();
    let joiner = unidentified(at, Arc::new(tls::joiner_config(&root).unwrap()));
    let request = IssueRequest {
        secret: token.secret.clone(),
        csr_pem: key.csr_pem,
        hostname: hostname.into(),
        addr: HOST.into(),
        port: port.into(),
    };
    let issued = CaClient::new(joiner).issue(request).await?.into_inner();
    let material = Material {
        ca_pem: root,
        cert_pem: issued.cert_pem.clone(),
        key_pem: key.key_pem,
    };
    Ok((issued, material))
}

struct WorkerPolicy(Identity);

impl Policy for WorkerPolicy {
    fn me(&self) -> Option<Identity> {
        Some(self.0)
    }
    fn worker_exec(&self) -> bool {
        false
    }
    fn managers(&self) -> String {
        String::new()
    }
    fn is_gone(&self, _: NodeId) -> bool {
        false
    }
}

/// A node that is only a worker; its agent is the test.
pub struct Hand {
    pub identity: Identity,
    pub id: NodeId,
    pub hostname: String,
    pub port: u16,
    pub dialer: Dialer,
    pub material: Mutex<Material>,
    pub door: Option<Door>,
}

impl Hand {
    pub async fn join(token: &JoinToken, at: &str, hostname: &str, serve: Option<Routes>) -> Self {
        let (listener, _) = listen().await;
        let port = listener.local_addr().unwrap().port();
        let (issued, material) = enrol(at, token, hostname, port).await.unwrap();
        let identity = Identity::from_pem(&material.cert_pem).unwrap();
        assert_eq!(
            (identity.role, issued.role.as_str()),
            (Role::Worker, "worker")
        );
        assert_eq!(convert::node_id(&issued.node_id).unwrap(), identity.node);
        let tls = Tls::new(&material).unwrap();
        let door = serve.map(|routes| {
            Door::open(
                listener,
                tls.clone(),
                guard(routes, Arc::new(WorkerPolicy(identity))),
            )
        });
        let dialer = Dialer::new(tls);
        Self {
            identity,
            id: identity.node,
            hostname: hostname.into(),
            port,
            dialer,
            material: Mutex::new(material),
            door,
        }
    }

    /// A manager's own agent.
    pub fn of(boss: &Boss, material: &Material) -> Self {
        let identity = Identity::from_pem(&material.cert_pem).unwrap();
        Self {
            identity,
            id: identity.node,
            hostname: "node1".into(),
            port: boss.door.port,
            dialer: boss.dialer.clone(),
            material: Mutex::new(material.clone()),
            door: None,
        }
    }

    /// Somebody at this worker, who calls that manager.
    pub fn control(&self, boss: &Boss) -> ControlClient<Channel> {
        ControlClient::new(self.dialer.manager(&boss.addr))
    }

    pub fn dispatch(&self, boss: &Boss) -> DispatchClient<Channel> {
        DispatchClient::new(self.dialer.manager(&boss.addr))
    }
}

/// The code and the text of a call that has to fail.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("it was not refused");
    (status.code(), status.message().to_owned())
}
