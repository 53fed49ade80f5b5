//! A membership that runs: the agent, on managers the manager, and the door for other nodes.

use crate::address::Place;
use crate::control::Control;
use crate::duty::{Duty, Parts, forget_state};
use crate::identity::{Identity, Papers, Who};
use crate::instance;
use crate::keeper::Keeper;
use crate::listen;
use crate::machine::Machine;
use crate::places::Places;
use crate::vault::Vault;
use crate::waiting::Waiting;
use agent::{Agent, Hearing, Left};
use anyhow::{Context, Result, bail};
use api::model::{ClusterCa, ClusterSpec, JoinToken, Lock, NodeDescription, Role, UnlockKey};
use api::proto::agent_server::AgentServer;
use api::proto::machine_server::MachineServer;
use bytes::Bytes;
use manager::dialer::Dialer;
use manager::tls::Tls;
use manager::{Founding, Manager, ManagerConfig, Pace};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

/// Connections of other nodes are made anew after this long, so that they show certificates of now.
const CONNECTION_AGE: Duration = Duration::from_secs(3_600);
/// How long other nodes' connections may take to end.
const DRAIN_BOUND: Duration = Duration::from_secs(3);
/// How long the managers are given to let a node go.
const GOODBYE_BOUND: Duration = Duration::from_secs(15);
/// How long a worker that leaves looks for a manager to tell.
const HEARING_BOUND: Duration = Duration::from_secs(8);
/// Said to whoever makes it so.
const TWO_MANAGERS: &str =
    "The cluster has two managers now: the loss of either stops all changes. Add a third.";

/// How the cluster took the leave of a machine.
#[derive(Debug, Default)]
pub struct Parting {
    /// It had removed that machine before.
    pub was_removed: bool,
    /// What is to be known of the managers that remain.
    pub advice: Option<&'static str>,
}

/// What a membership takes from its machine.
pub struct Setup<'a> {
    /// Folders.
    pub places: &'a Places,
    /// Its keys, while it is a manager.
    pub vault: &'a Arc<Vault>,
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
    /// Where it is told at which of its addresses this machine is to be.
    pub moves: &'a mpsc::Sender<Ipv4Addr>,
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
    /// To unlock its managers, where they are locked.
    pub unlock_key: Option<UnlockKey>,
}

/// Makes a cluster: its CA, its first node, its state. Nothing but the state is written.
///
/// # Errors
/// When the disk refuses; the state is removed then.
pub async fn init(
    places: &Places,
    vault: &Vault,
    hostname: &str,
    place: Place,
    port: u16,
    (spec, locks): (ClusterSpec, bool),
    ca: Option<ClusterCa>,
) -> Result<Made> {
    let lock = match locks {
        true => Lock::default().next(true),
        false => Lock::default(),
    };
    let unlock_key = lock.key.clone();
    let addr = place.addr;
    let founding = Founding::new(
        spec,
        ca,
        lock,
        describe(hostname),
        addr,
        port,
        manager::now(),
    )?;
    let identity = Identity {
        who: Who {
            cluster: founding.identity.cluster,
            node: founding.identity.node,
            role: Role::Manager,
            addr,
            addr_origin: place.origin,
            port,
            managers: vec![format!("{addr}:{port}")],
        },
        key_pem: founding.material.key_pem.clone(),
        cert_pem: founding.material.cert_pem.clone(),
        ca_pem: founding.material.ca_pem.clone(),
    };
    let dialer = Dialer::new(Tls::new(&founding.material)?);
    let instance = instance::of(&places.run)?;
    let config = manager_config(places.raft(), vault, &identity, dialer, instance)?;
    let manager = Manager::init(config, &founding).await?;
    Ok(Made {
        identity,
        manager,
        worker_token: founding.tokens.worker.clone(),
        manager_token: founding.tokens.manager.clone(),
        unlock_key,
    })
}

/// What this node's manager is given.
///
/// # Errors
/// When its keys can't be read or made.
pub fn manager_config(
    raft: PathBuf,
    vault: &Vault,
    identity: &Identity,
    dialer: Dialer,
    instance: Bytes,
) -> Result<ManagerConfig> {
    let who = &identity.who;
    Ok(ManagerConfig {
        dir: raft,
        keys: vault.keys()?,
        identity: manager::identity::Identity {
            cluster: who.cluster,
            node: who.node,
            role: who.role,
        },
        addr: who.endpoint(),
        ca_pem: identity.ca_pem.clone(),
        dialer,
        instance,
        pace: Pace::default(),
    })
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

/// The membership.
pub struct Member {
    papers: Arc<Papers>,
    duty: Arc<Duty>,
    agent: Agent,
    control: Control,
    server: JoinHandle<()>,
    /// Renews what this node proves itself with.
    keeper: JoinHandle<()>,
    keeper_stop: CancellationToken,
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
        waiting: Option<Waiting>,
    ) -> Result<Self> {
        let started = match instance::of(&setup.places.run) {
            Ok(instance) => start_manager(&setup, &identity, manager, &instance)
                .await
                .map(|(dialer, manager)| (dialer, manager, instance)),
            Err(error) => Err(error),
        };
        let (dialer, manager, instance) = match started {
            Ok(started) => started,
            Err(error) => {
                if let Some(waiting) = waiting {
                    waiting.shutdown().await;
                }
                return Err(error);
            }
        };
        let tls = dialer.tls().clone();
        let waiting = match waiting {
            Some(waiting) => Ok(waiting),
            None => Waiting::start(&setup, identity.clone(), instance.clone()).await,
        };
        let waiting = match waiting {
            Ok(waiting) => waiting,
            Err(error) => {
                if let Some(manager) = manager {
                    manager.shutdown().await;
                }
                return Err(error);
            }
        };
        let (papers, agent) = waiting.go_on(identity, dialer.clone());
        let parts = Parts {
            papers: papers.clone(),
            raft: setup.places.raft(),
            vault: setup.vault.clone(),
            dialer: dialer.clone(),
            instance,
            own: Routes::new(AgentServer::new(agent.service())).add_service(MachineServer::new(
                Machine {
                    known: agent.known(),
                    addr: papers.load().who.addr,
                    moves: setup.moves.clone(),
                },
            )),
            managers: agent.watch_managers(),
            control: setup.control.clone(),
            failure: setup.failure.clone(),
        };
        let duty = Arc::new(Duty::new(parts, manager));
        let stop = CancellationToken::new();
        let incoming = listen::tls_incoming(listener, tls, stop.clone());
        let serving = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .max_connection_age(CONNECTION_AGE)
            .add_routes(duty.routes())
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the door for other nodes failed");
            }
        });
        let keeper_stop = CancellationToken::new();
        let keeper = Keeper {
            papers: papers.clone(),
            dir: setup.places.identity(),
            vault: setup.vault.clone(),
            dialer,
            duty: duty.clone(),
            upstream: setup.control.upstream(),
            standing: agent.watch_standing(),
            managers: agent.watch_managers(),
            anew: agent.anew(),
        };
        let keeper = tokio::spawn(keeper.run(keeper_stop.clone()));
        Ok(Self {
            papers,
            duty,
            agent,
            control: setup.control.clone(),
            server,
            keeper,
            keeper_stop,
            stop,
        })
    }

    /// Who this machine is, now and from now on.
    pub fn papers(&self) -> &Arc<Papers> {
        &self.papers
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
        let mut known = self.papers.load().who.managers.clone();
        if !known.iter().any(|addr| addr == through) {
            known.insert(0, through.to_owned());
        }
        self.duty.join(&known, bound).await
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

    /// A manager is at this address (`host:port`), where this node doesn't look for it.
    pub fn hint(&self, manager: &str) {
        self.agent.known().note(vec![manager.to_owned()]);
        self.duty.hint(manager);
    }

    /// Which of the managers can be reached; none on a worker.
    pub async fn quorum(&self) -> Option<manager::Quorum> {
        self.duty.quorum().await
    }

    /// Waits until this manager leads: the revision.
    ///
    /// # Errors
    /// When it doesn't within the bound.
    pub async fn wait_alone(&self, bound: Duration) -> Result<u64> {
        let Some(handle) = self.duty.handle() else {
            bail!("this machine is no manager");
        };
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
        match self.duty.other_voters() {
            Some(1) => TWO_MANAGERS.into(),
            _ => String::new(),
        }
    }

    /// Tells the cluster that this machine leaves it.
    ///
    /// # Errors
    /// When the cluster would be lost by it, or can't be told; not if forced.
    pub async fn say_goodbye(&self, force: bool) -> Result<Parting> {
        // One that can't be asked may be of another mind, and count on this manager's vote.
        let quorum = self.duty.quorum().await;
        let was_removed = quorum.is_some_and(|quorum| {
            quorum.is_removed_by_all() || (force && quorum.is_lost() && quorum.removed_by.is_some())
        });
        if was_removed {
            return Ok(Parting {
                was_removed,
                advice: None,
            });
        }
        match self.goodbye().await {
            Err(error) if force => {
                tracing::warn!("leaving all the same: {error:#}");
                Ok(Parting::default())
            }
            told => told,
        }
    }

    async fn goodbye(&self) -> Result<Parting> {
        // A manager's own vote is what matters there, and what is asked for next.
        if self.duty.handle().is_none()
            && self.agent.hearing(HEARING_BOUND).await == Hearing::Silence
        {
            let known = self.agent.managers().join(", ");
            bail!(
                "no manager can be told that this machine leaves (known: {known}): bring one back, or leave all the same \
                 with `clusterctl leave --force` and remove the node there once a manager is back"
            );
        }
        let others = self.duty.other_voters();
        self.duty
            .resign(GOODBYE_BOUND)
            .await
            .context("the managers did not let this one go")?;
        Ok(Parting {
            was_removed: false,
            advice: (others == Some(2)).then_some(TWO_MANAGERS),
        })
    }

    /// Ends the keeper: the manager part is as it is from now on.
    async fn stop_keeping(keeper: JoinHandle<()>, stop: &CancellationToken) {
        stop.cancel();
        if let Err(error) = keeper.await {
            tracing::error!(%error, "what keeps this node's identity failed");
        }
    }

    /// Stops it; containers and networks stay. Calls that come meanwhile are told `why`.
    pub async fn shutdown(self, why: &str) {
        self.control.refuse(why);
        Self::stop_keeping(self.keeper, &self.keeper_stop).await;
        // Another leads from now on, and sessions end, so that nobody waits for this one.
        self.duty.retire().await;
        self.stop.cancel();
        self.agent.shutdown().await;
        end_server(self.server).await;
        self.duty.end().await;
    }

    /// Stops it, and removes every container and network of it.
    pub async fn leave(self) -> Left {
        self.control.set(None);
        Self::stop_keeping(self.keeper, &self.keeper_stop).await;
        let mut left = self.agent.leave().await;
        self.stop.cancel();
        end_server(self.server).await;
        self.duty.end().await;
        left.problems.dedup();
        left
    }
}

/// How a node reaches others, and on managers its manager: the one of a cluster just made, or the one that is on disk.
async fn start_manager(
    setup: &Setup<'_>,
    identity: &Identity,
    manager: Option<Manager>,
    instance: &Bytes,
) -> Result<(Dialer, Option<Manager>)> {
    // The manager of a cluster just made has its own.
    let dialer = match &manager {
        Some(manager) => manager.dialer().clone(),
        None => Dialer::new(Tls::new(&identity.material())?),
    };
    let manager = match (identity.who.role, manager) {
        (Role::Manager, None) => {
            let raft = setup.places.raft();
            let config = manager_config(
                raft,
                setup.vault,
                identity,
                dialer.clone(),
                instance.clone(),
            )?;
            Some(Manager::start(config).await?)
        }
        (Role::Worker, None) => {
            // Left by one that was a manager and was cut off on its way to be none.
            forget_state(&setup.places.raft(), setup.vault)?;
            None
        }
        (_, manager) => manager,
    };
    Ok((dialer, manager))
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
