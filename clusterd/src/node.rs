//! This machine: what lives as long as the daemon, and its membership, which comes and goes.

mod lock;
mod place;
mod recover;
mod spec;

use crate::checks::Lack;
use crate::cli::Cli;
use crate::control::Control;
use crate::daemon::optional_id;
use crate::founding;
use crate::identity::{Identity, Papers};
use crate::join::{self, Joiner};
use crate::listen;
use crate::member::{self, Member, Parting, Setup};
use crate::places::Places;
use crate::vault::Vault;
use crate::waiting::Waiting;
use agent::Left;
use anyhow::{Result, bail};
use api::convert;
use api::model::{JoinToken, NodeId, Role};
use api::proto::{DaemonInfo, InitReply, InitRequest, JoinDone, JoinProgress, JoinRequest};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, RwLock, mpsc, watch};
use tonic::Status;
use tonic::service::Routes;

/// How long a new manager is given to catch up and become a voter, or a node to become ready.
const JOIN_BOUND: Duration = Duration::from_secs(60);

type Steps = mpsc::Sender<Result<JoinProgress, Status>>;

/// The machine.
pub struct Node {
    cli: Cli,
    places: Places,
    vault: Arc<Vault>,
    lacks: Vec<Lack>,
    hostname: String,
    images: images::Store,
    runtime: runtime::Runtime,
    /// Changed by init, join and leave, one at a time.
    member: RwLock<Option<Member>>,
    /// What is told of the membership, also while it is being changed.
    shown: watch::Sender<Option<Shown>>,
    control: Control,
    /// What runs while this manager is locked.
    waiting: Mutex<Option<Waiting>>,
    /// Why this daemon can't go on, once that is so.
    failure: watch::Sender<Option<String>>,
    /// What keeps this machine from having an address that others reach it at.
    homeless: watch::Sender<Option<String>>,
    /// At which of its addresses managers want it to be.
    moves: (mpsc::Sender<Ipv4Addr>, Mutex<mpsc::Receiver<Ipv4Addr>>),
}

/// A membership as others see it.
struct Shown {
    papers: Arc<Papers>,
    manager: watch::Receiver<Option<String>>,
    is_locked: bool,
}

impl Node {
    /// A machine that belongs to no cluster yet.
    pub fn new(
        cli: Cli,
        places: Places,
        lacks: Vec<Lack>,
        hostname: String,
        images: images::Store,
        runtime: runtime::Runtime,
    ) -> Self {
        Self {
            cli,
            vault: Arc::new(Vault::new(places.keys())),
            places,
            lacks,
            hostname,
            images,
            runtime,
            member: RwLock::new(None),
            shown: watch::channel(None).0,
            control: Control::default(),
            waiting: Mutex::default(),
            failure: watch::channel(None).0,
            homeless: watch::channel(None).0,
            moves: {
                let (tx, rx) = mpsc::channel(1);
                (tx, Mutex::new(rx))
            },
        }
    }

    /// What is behind the local socket, `own` being this node's own services.
    pub fn routes(&self, own: Routes) -> Routes {
        self.control.routes(own)
    }

    /// Returns when this daemon can't go on: why. A manager whose store has failed acknowledges nothing more; a new
    /// start reads what is on the disk again.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure
            .wait_for(Option::is_some)
            .await
            .map(|why| why.clone())
        {
            Ok(Some(why)) => why,
            // The sender is this node's own, so it outlives the wait.
            _ => std::future::pending().await,
        }
    }

    /// Ends the membership's work; containers and networks stay. Calls that come meanwhile are told `why`.
    pub async fn shutdown(&self, why: &str) {
        self.control.close(why);
        if let Some(member) = self.member.write().await.take() {
            member.shutdown(why).await;
        }
        if let Some(waiting) = self.waiting.lock().await.take() {
            waiting.shutdown().await;
        }
    }

    fn setup(&self) -> Setup<'_> {
        Setup {
            places: &self.places,
            vault: &self.vault,
            hostname: &self.hostname,
            images: &self.images,
            runtime: &self.runtime,
            control: &self.control,
            failure: &self.failure,
            moves: &self.moves.0,
        }
    }

    /// This node's image store.
    pub fn images(&self) -> images::Store {
        self.images.clone()
    }

    /// Images that containers of this node use.
    pub async fn images_in_use(&self) -> Vec<images::ImageId> {
        self.member
            .read()
            .await
            .as_ref()
            .map(|m| m.agent().images_in_use())
            .unwrap_or_default()
    }

    fn show(&self, member: &Member) {
        let (papers, manager) = (member.papers().clone(), member.agent().watch_manager());
        let is_locked = false;
        self.shown.send_replace(Some(Shown {
            papers,
            manager,
            is_locked,
        }));
    }

    /// What this node is.
    pub fn info(&self) -> DaemonInfo {
        let shown = self.shown.borrow();
        let who = shown.as_ref().map(|shown| shown.papers.load().who.clone());
        let who = who.as_ref();
        DaemonInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            hostname: self.hostname.clone(),
            cluster_id: optional_id(who.map(|w| w.cluster.0)),
            node_id: optional_id(who.map(|w| w.node.0)),
            role: who.map(|w| w.role.as_str().to_owned()).unwrap_or_default(),
            advertise_addr: who.map(|w| w.addr.to_string()).unwrap_or_default(),
            state_dir: self.places.state.display().to_string(),
            warnings: self
                .lacks
                .iter()
                .map(|lack| lack.text.clone())
                .chain(self.homeless.borrow().clone())
                .collect(),
            manager: shown
                .as_ref()
                .and_then(|shown| shown.manager.borrow().clone())
                .unwrap_or_default(),
            locked: shown.as_ref().is_some_and(|shown| shown.is_locked),
        }
    }

    fn refuse_member(member: Option<&Member>) -> Result<()> {
        match member.map(|member| member.papers().load().who.clone()) {
            Some(who) => bail!(
                "this machine already belongs to cluster {} as a {} (node {}); take it out first with `clusterctl leave`",
                who.cluster,
                who.role.as_str(),
                who.node
            ),
            None => Ok(()),
        }
    }

    fn check_machine(&self) -> Result<()> {
        match self.lacks.as_slice() {
            [] => Ok(()),
            lacks => bail!(
                "{}",
                lacks
                    .iter()
                    .map(|l| l.text.as_str())
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        }
    }

    /// Makes a cluster with this machine as its first manager, or leaves everything as it was.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn init(&self, request: InitRequest) -> Result<InitReply> {
        let mut slot = self.member.write().await;
        self.refuse_locked()?;
        Self::refuse_member(slot.as_ref())?;
        self.check_machine()?;
        let place = self.wished_address(&request.advertise_addr)?;
        let spec = spec::of(&request)?;
        let ca = founding::own_ca(&request, &spec)?;
        let listener = listen::bind_tcp(self.cli.listen_addr).await?;
        let is_fresh = !self.places.raft().exists();
        let made = member::init(
            &self.places,
            &self.vault,
            &self.hostname,
            place,
            self.cli.listen_addr.port(),
            (spec, request.autolock),
            ca,
        )
        .await;
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                // Half made; what was there before is not ours to remove.
                if is_fresh {
                    self.undo();
                }
                return Err(error);
            }
        };
        let started = match made.identity.create(&self.places.identity(), &self.vault) {
            Ok(()) => {
                Member::start(
                    self.setup(),
                    made.identity.clone(),
                    listener,
                    Some(made.manager),
                    None,
                )
                .await
            }
            Err(error) => {
                made.manager.shutdown().await;
                Err(error)
            }
        };
        match started {
            Ok(member) => {
                self.show(&member);
                *slot = Some(member);
            }
            Err(error) => {
                self.undo();
                return Err(error);
            }
        }
        let who = &made.identity.who;
        tracing::info!(cluster = %who.cluster, node = %who.node, "cluster made");
        Ok(InitReply {
            cluster_id: convert::id_bytes(who.cluster.0),
            node_id: convert::id_bytes(who.node.0),
            worker_token: made.worker_token.to_string(),
            manager_token: made.manager_token.to_string(),
            addr: format!("{}:{}", who.addr, who.port),
            unlock_key: made
                .unlock_key
                .map_or_else(String::new, |key| key.text().to_string()),
        })
    }

    /// Takes back an init or a join that failed in the middle.
    fn undo(&self) {
        if self.places.identity().exists()
            && let Err(error) = Identity::remove(&self.places.identity())
        {
            tracing::error!("can't take the identity back: {error:#}");
        }
        self.remove_state();
    }

    /// What belongs to a membership and is worth nothing without it. Images and volumes stay.
    fn remove_state(&self) {
        let places = &self.places;
        for dir in [
            places.raft(),
            places.state.join("agent"),
            places.state.join("containers"),
        ] {
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::error!(dir = %dir.display(), %error, "can't remove");
                }
                _ => {}
            }
        }
        if let Err(error) = self.vault.forget() {
            tracing::error!("{error:#}");
        }
    }

    /// Makes this machine part of a cluster, ready before it returns, or leaves everything as it was.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn join(&self, request: JoinRequest, steps: &Steps) -> Result<(JoinDone, String)> {
        let mut slot = self.member.write().await;
        self.refuse_locked()?;
        Self::refuse_member(slot.as_ref())?;
        self.check_machine()?;
        if self.places.raft().exists() {
            bail!(manager::StartError::NotEmpty(self.places.raft()));
        }
        let token: JoinToken = request.token.parse()?;
        let manager = join::with_port(&request.manager)?;
        let place = self.wished_address(&request.advertise_addr)?;
        let listener = listen::bind_tcp(self.cli.listen_addr).await?;
        say(steps, &format!("asking {manager} for a certificate")).await;
        let joiner = Joiner {
            hostname: self.hostname.clone(),
            place,
            port: self.cli.listen_addr.port(),
        };
        let identity = join::ask(&manager, &token, &joiner).await?;
        let who = identity.who.clone();
        say(steps, &format!("joining as a {}", who.role.as_str())).await;
        let started = match identity.create(&self.places.identity(), &self.vault) {
            Ok(()) => Member::start(self.setup(), identity, listener, None, None).await,
            Err(error) => Err(error),
        };
        let member = match started {
            Ok(member) => member,
            Err(error) => {
                self.undo();
                return Err(error);
            }
        };
        let ready = async {
            if who.role == Role::Manager {
                say(steps, "copying the cluster's state").await;
                member.become_voter(&manager, JOIN_BOUND).await?;
            }
            say(steps, "waiting until this node is ready").await;
            member.wait_ready(JOIN_BOUND).await
        };
        if let Err(error) = ready.await {
            // It may vote already: with its state gone the others could lose their majority.
            if who.role == Role::Manager
                && let Err(error) = member.say_goodbye(true).await
            {
                tracing::warn!("taking the join back: {error:#}");
            }
            let left = member.leave().await;
            self.undo();
            for problem in left.problems {
                tracing::error!(%problem, "taking the join back");
            }
            return Err(error);
        }
        let message = member.advice().await;
        self.show(&member);
        *slot = Some(member);
        tracing::info!(cluster = %who.cluster, node = %who.node, role = who.role.as_str(), "joined");
        let done = JoinDone {
            cluster_id: convert::id_bytes(who.cluster.0),
            node_id: convert::id_bytes(who.node.0),
            role: who.role.as_str().into(),
        };
        Ok((done, message))
    }

    /// Takes this machine out of its cluster; its id there, and how the cluster took it.
    ///
    /// # Errors
    /// When it belongs to none; or the cluster would be lost by it or can't be told, and that is not forced.
    pub async fn leave(&self, force: bool) -> Result<(Left, NodeId, Parting)> {
        let mut slot = self.member.write().await;
        if force && let Some(waiting) = self.waiting.lock().await.take() {
            let node = waiting.node();
            return Ok((self.leave_locked(waiting).await, node, Parting::default()));
        }
        self.refuse_locked()?;
        let Some(member) = slot.as_mut() else {
            match self.homeless.borrow().as_deref() {
                Some(why) => bail!("this node has not started yet: {why}"),
                None => bail!("this machine belongs to no cluster"),
            }
        };
        let parting = member.say_goodbye(force).await?;
        let node = member.papers().load().who.node;
        let mut left = match slot.take() {
            Some(member) => member.leave().await,
            None => Left::default(),
        };
        if let Err(error) = Identity::remove(&self.places.identity()) {
            left.problems.push(format!("{error:#}"));
        }
        self.remove_state();
        self.shown.send_replace(None);
        tracing::info!("left the cluster");
        Ok((left, node, parting))
    }
}

async fn say(steps: &Steps, message: &str) {
    let step = JoinProgress {
        message: message.into(),
        done: None,
    };
    // Whoever has stopped watching doesn't care.
    let _ = steps.send(Ok(step)).await;
}
