//! A membership that runs: the agent, on managers the manager, and the door for other nodes.

use crate::identity::{Identity, Who};
use crate::instance;
use crate::listen;
use crate::places::Places;
use agent::Agent;
use anyhow::{Context, Result, anyhow, bail};
use api::model::{ClusterSpec, JoinToken, NodeDescription, NodeId, Role};
use api::proto::Hello;
use api::proto::agent_server::AgentServer;
use arc_swap::ArcSwapOption;
use manager::auth::{Policy, guard};
use manager::dialer::Dialer;
use manager::identity::Material;
use manager::proxy::{Switch, Upstream, Workers};
use manager::tls::Tls;
use manager::{Founding, Manager, ManagerConfig, Pace};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

/// How long other nodes' connections may take to end.
const DRAIN_BOUND: Duration = Duration::from_secs(3);
/// How long the managers are given to let a node go.
const GOODBYE_BOUND: Duration = Duration::from_secs(15);

/// What a membership takes from its machine.
pub struct Setup<'a> {
    /// Folders.
    pub places: &'a Places,
    /// This machine's name.
    pub hostname: &'a str,
    /// Its images.
    pub images: &'a images::Store,
    /// Its containers.
    pub runtime: &'a runtime::Runtime,
    /// Where the local socket's calls go.
    pub control: &'a Control,
    /// Where it is told that the store has failed.
    pub failure: &'a watch::Sender<Option<String>>,
}

/// The local socket's way to the managers, which outlives every membership.
#[derive(Clone, Default)]
pub struct Control {
    upstream: Arc<Switch>,
    policy: Arc<LocalPolicy>,
}

impl Control {
    /// What is behind the socket: this node's own services, and the cluster's by way of the managers.
    pub fn routes(&self, own: Routes) -> Routes {
        guard(
            manager::proxy::forward(own, self.upstream.clone()),
            self.policy.clone(),
        )
    }

    fn set(&self, member: Option<(Arc<dyn Upstream>, Arc<dyn Policy>)>) {
        let (upstream, policy) = member.unzip();
        self.policy.0.store(policy.map(Arc::new));
        self.upstream.set(upstream);
    }
}

/// What decides over calls through the local socket: the membership's word, if there is one.
#[derive(Default)]
struct LocalPolicy(ArcSwapOption<Arc<dyn Policy>>);

impl Policy for LocalPolicy {
    fn me(&self) -> Option<manager::identity::Identity> {
        self.0.load().as_ref().and_then(|policy| policy.me())
    }

    fn worker_exec(&self) -> bool {
        self.0
            .load()
            .as_ref()
            .is_none_or(|policy| policy.worker_exec())
    }

    fn managers(&self) -> String {
        self.0
            .load()
            .as_ref()
            .map(|policy| policy.managers())
            .unwrap_or_default()
    }

    fn is_gone(&self, _: NodeId) -> bool {
        false
    }
}

/// A cluster just made.
pub struct Made {
    /// Its first member.
    pub identity: Identity,
    /// That member's manager, which runs.
    pub manager: Manager,
    /// To join it as a worker.
    pub worker_token: JoinToken,
    /// To join it as a manager.
    pub manager_token: JoinToken,
}

/// Makes a cluster: its CA, its first node, its state. Nothing but the state is written.
///
/// # Errors
/// When the disk refuses; the state is removed then.
pub async fn init(
    places: &Places,
    hostname: &str,
    addr: Ipv4Addr,
    port: u16,
    spec: ClusterSpec,
) -> Result<Made> {
    let founding = Founding::new(spec, describe(hostname), addr, port, manager::now())?;
    let identity = Identity {
        who: Who {
            cluster: founding.identity.cluster,
            node: founding.identity.node,
            role: Role::Manager,
            addr,
            port,
            managers: vec![format!("{addr}:{port}")],
        },
        key_pem: founding.material.key_pem.clone(),
        cert_pem: founding.material.cert_pem.clone(),
        ca_pem: founding.material.ca_pem.clone(),
    };
    let dialer = Dialer::new(Tls::new(&founding.material)?);
    let config = manager_config(places, &identity, dialer);
    let manager = Manager::init(config, &founding).await?;
    Ok(Made {
        identity,
        manager,
        worker_token: founding.tokens.worker.clone(),
        manager_token: founding.tokens.manager.clone(),
    })
}

fn manager_config(places: &Places, identity: &Identity, dialer: Dialer) -> ManagerConfig {
    let who = &identity.who;
    ManagerConfig {
        dir: places.raft(),
        identity: manager::identity::Identity {
            cluster: who.cluster,
            node: who.node,
            role: who.role,
        },
        addr: format!("{}:{}", who.addr, who.port),
        ca_pem: identity.ca_pem.clone(),
        dialer,
        pace: Pace::default(),
    }
}

fn material(identity: &Identity) -> Material {
    Material {
        ca_pem: identity.ca_pem.clone(),
        cert_pem: identity.cert_pem.clone(),
        key_pem: identity.key_pem.clone(),
    }
}

/// What this machine is.
pub fn describe(hostname: &str) -> NodeDescription {
    let uname = nix::sys::utsname::uname().ok();
    let arch = uname
        .map(|u| u.machine().to_string_lossy().into_owned())
        .unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    NodeDescription {
        hostname: hostname.into(),
        os: "linux".into(),
        arch,
        nano_cpus: cpus * 1_000_000_000,
        memory_bytes: memory_bytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        version: env!("CARGO_PKG_VERSION").into(),
        engine_labels: Default::default(),
    }
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    kib.unwrap_or(0u64) * 1024
}

/// What decides over calls on a node that is only a worker.
struct WorkerPolicy(manager::identity::Identity);

impl Policy for WorkerPolicy {
    fn me(&self) -> Option<manager::identity::Identity> {
        Some(self.0)
    }

    // The managers decide; here nothing of theirs is served.
    fn worker_exec(&self) -> bool {
        true
    }

    fn managers(&self) -> String {
        "`clusterctl node ls` shows which".into()
    }

    fn is_gone(&self, _: NodeId) -> bool {
        false
    }
}

/// The membership.
pub struct Member {
    identity: Identity,
    manager: Option<Manager>,
    agent: Agent,
    control: Control,
    server: JoinHandle<()>,
    /// Watches the store.
    store: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Member {
    /// Starts it. `manager` is the one of a cluster just made.
    ///
    /// # Errors
    /// What keeps a part from starting; the others are stopped then.
    pub async fn start(
        setup: Setup<'_>,
        identity: Identity,
        listener: TcpListener,
        manager: Option<Manager>,
    ) -> Result<Self> {
        let tls = Tls::new(&material(&identity))?;
        let dialer = Dialer::new(tls.clone());
        let manager = match (identity.who.role, manager) {
            (Role::Manager, None) => {
                Some(Manager::start(manager_config(setup.places, &identity, dialer.clone())).await?)
            }
            (_, manager) => manager,
        };
        let agent = match start_agent(&setup, &identity, &dialer).await {
            Ok(agent) => agent,
            Err(error) => {
                if let Some(manager) = manager {
                    manager.shutdown().await;
                }
                return Err(error);
            }
        };
        let own = Routes::new(AgentServer::new(agent.service()));
        let who = &identity.who;
        let id = manager::identity::Identity {
            cluster: who.cluster,
            node: who.node,
            role: who.role,
        };
        let (routes, upstream, policy): (_, Arc<dyn Upstream>, Arc<dyn Policy>) = match &manager {
            Some(manager) => (manager.routes(own), manager.upstream(), manager.policy()),
            None => {
                let policy: Arc<dyn Policy> = Arc::new(WorkerPolicy(id));
                let upstream = Workers::new(dialer.clone(), agent.watch_managers());
                (guard(own, policy.clone()), upstream, policy)
            }
        };
        let stop = CancellationToken::new();
        let incoming = listen::tls_incoming(listener, tls, stop.clone());
        let serving = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the door for other nodes failed");
            }
        });
        let store = manager.as_ref().map(|manager| {
            let (handle, failure) = (manager.handle().clone(), setup.failure.clone());
            tokio::spawn(async move {
                let why = handle.failure().await;
                failure.send_replace(Some(why));
            })
        });
        setup.control.set(Some((upstream, policy)));
        Ok(Self {
            identity,
            manager,
            agent,
            control: setup.control.clone(),
            server,
            store,
            stop,
        })
    }

    /// Who this machine is.
    pub fn who(&self) -> &Who {
        &self.identity.who
    }

    /// Its agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// A manager that has joined becomes one that votes.
    ///
    /// # Errors
    /// When the managers don't take it in.
    pub async fn become_voter(&self, through: &str, bound: Duration) -> Result<()> {
        let Some(manager) = &self.manager else {
            return Ok(());
        };
        let mut known = self.identity.who.managers.clone();
        if !known.iter().any(|addr| addr == through) {
            known.insert(0, through.to_owned());
        }
        manager
            .join(&known, bound)
            .await
            .map_err(|status| anyhow!("{}", status.message()))
    }

    /// Waits until this node's agent has a session: until the managers call it ready.
    ///
    /// # Errors
    /// When it has none within the bound.
    pub async fn wait_ready(&self, bound: Duration) -> Result<()> {
        let mut session = self.agent.watch_manager();
        match tokio::time::timeout(bound, session.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(()),
            _ => bail!(
                "this node could not open a session with a manager within {} s; its log says why",
                bound.as_secs()
            ),
        }
    }

    /// Which of the managers can be reached; none on a worker.
    pub async fn quorum(&self) -> Option<manager::Quorum> {
        match &self.manager {
            Some(manager) => Some(manager.quorum().await),
            None => None,
        }
    }

    /// Waits until this manager leads: the revision.
    ///
    /// # Errors
    /// When it doesn't within the bound.
    pub async fn wait_alone(&self, bound: Duration) -> Result<u64> {
        let Some(manager) = &self.manager else {
            bail!("this machine is no manager");
        };
        let handle = manager.handle();
        let mut leadership = handle.leadership();
        let leads = async { leadership.wait_for(|now| now.own).await.is_ok() };
        if !matches!(tokio::time::timeout(bound, leads).await, Ok(true)) {
            bail!(
                "this manager does not lead within {} s; its log says why",
                bound.as_secs()
            );
        }
        handle
            .linearizable()
            .await
            .context("it leads, and can't confirm it")
    }

    /// What whoever joined this machine should know.
    pub async fn advice(&self) -> String {
        let Some(manager) = &self.manager else {
            return String::new();
        };
        let voters = manager
            .handle()
            .managers()
            .iter()
            .filter(|m| m.voter)
            .count();
        match voters {
            2 => "The cluster has two managers now: the loss of either stops all changes. Add a third.".into(),
            _ => String::new(),
        }
    }

    /// Tells the cluster that this machine leaves it.
    ///
    /// # Errors
    /// When the cluster would be lost by it, or can't be told; not if forced.
    pub async fn say_goodbye(&self, force: bool) -> Result<()> {
        let told = self.goodbye().await;
        match told {
            Err(error) if !force => Err(error),
            Err(error) => {
                tracing::warn!("leaving all the same: {error:#}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn goodbye(&self) -> Result<()> {
        let node = self.identity.who.node;
        if let Some(manager) = &self.manager {
            let managers = manager.handle().managers();
            if managers
                .iter()
                .filter(|m| m.voter)
                .all(|m| m.peer.node_id == node)
            {
                bail!(
                    "this is the cluster's only manager: its state is lost when it leaves; do so with `clusterctl leave --force`"
                );
            }
            manager
                .leave(node, GOODBYE_BOUND)
                .await
                .map_err(|status| anyhow!("{}", status.message()))
                .context("the managers did not let this one go")?;
        }
        Ok(())
    }

    /// Stops it; containers and networks stay.
    pub async fn shutdown(self) {
        self.control.set(None);
        if let Some(manager) = &self.manager {
            // Another leads from now on, and sessions end, so that nobody waits for this one.
            manager.retire().await;
        }
        self.stop.cancel();
        self.agent.shutdown().await;
        end_manager(self.server, self.store, self.manager).await;
    }

    /// Stops it, and removes every container and network of it. Says what could not be removed.
    pub async fn leave(self) -> Vec<String> {
        self.control.set(None);
        let mut problems = self.agent.leave().await;
        self.stop.cancel();
        end_manager(self.server, self.store, self.manager).await;
        problems.dedup();
        problems
    }
}

/// Ends what others reach and, on a manager, its store.
async fn end_manager(
    server: JoinHandle<()>,
    store: Option<JoinHandle<()>>,
    manager: Option<Manager>,
) {
    end_server(server).await;
    if let Some(store) = store {
        store.abort();
        // Aborted, or ended by itself.
        let _ = store.await;
    }
    if let Some(manager) = manager {
        manager.shutdown().await;
    }
}

/// Waits for the door to close; what takes too long is cut off, and nothing of it is left.
async fn end_server(mut server: JoinHandle<()>) {
    if tokio::time::timeout(DRAIN_BOUND, &mut server)
        .await
        .is_err()
    {
        tracing::debug!("some connections are cut off");
        server.abort();
        // Aborted, or ended by itself.
        let _ = server.await;
    }
}

async fn start_agent(setup: &Setup<'_>, identity: &Identity, dialer: &Dialer) -> Result<Agent> {
    let who = identity.who.clone();
    let overlay =
        overlay::Overlay::start(overlay::Config::new(setup.places.run.clone(), who.addr)).await?;
    let connect = {
        let dialer = dialer.clone();
        Arc::new(move |addr: String| {
            let channel = dialer.manager(&addr);
            let done: futures_util::future::BoxFuture<
                'static,
                anyhow::Result<tonic::transport::Channel>,
            > = Box::pin(async move { Ok(channel) });
            done
        })
    };
    let hostname = setup.hostname.to_owned();
    let instance = instance::of(&setup.places.run)?;
    let hello = Arc::new(move || Hello {
        instance: instance.clone(),
        description: Some((&describe(&hostname)).into()),
        addr: u32::from(who.addr),
        port: u32::from(who.port),
    });
    let config = agent::Config {
        state_dir: setup.places.state.clone(),
        runtime: setup.runtime.clone(),
        images: setup.images.clone(),
        overlay,
        hostname: setup.hostname.to_owned(),
        connect,
        hello,
        managers: identity.who.managers.clone(),
    };
    Ok(Agent::start(config).await?)
}
