//! What runs on every node: assignments in, containers and networks made so, statuses out.
//!
//! ```text
//! managers ── session ──► assignments ──► disk
//!     ▲                        │ ├──► overlay (names, forwarding, virtual addresses)
//!     └── status book ◄── drivers (one a task) ──► images, volumes, runtime
//! ```
//!
//! Invariants: stopping or restarting the daemon touches no running container and no packet path, whatever
//! has become of what it kept on disk: nothing is removed as unwanted before a manager has said all it wants;
//! a lost manager stops nothing; what a secret or a config holds is in memory only, as long as a task uses it.

mod aside;
mod assignments;
mod clock;
mod container;
mod contents;
pub mod decisions;
mod disk;
mod footing;
mod keeper;
mod known;
mod lease;
mod memory;
mod netview;
mod pace;
mod rpc;
mod session;
mod status;
mod supervisor;
mod volume;

pub use aside::aside;
pub use disk::{Disk, DiskError};
pub use known::Known;
pub use rpc::AgentService;
pub use session::{Connect, MakeHello};

use api::model::STOP_GRACE_MS;
use api::proto::Standing;
use assignments::Desired;
use keeper::Keeper;
use overlay::Overlay;
use runtime::Runtime;
use session::Session;
use status::StatusBook;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervisor::{ALONE_AFTER, Supervisor, Tools};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use volume::Volumes;

/// How often finished drivers and changed networks on disk are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// How often the folders of ended tasks are looked through.
const SWEEP: Duration = Duration::from_secs(600);
/// How long a manager is given to take a goodbye.
const FAREWELL_BOUND: Duration = Duration::from_secs(6);
/// Assignments on their way from the session.
const QUEUE: usize = 16;

/// What an agent is given.
pub struct Config {
    /// `<state>`: containers, volumes and assignments go below it.
    pub state_dir: PathBuf,
    /// Runs containers.
    pub runtime: Runtime,
    /// This node's images.
    pub images: images::Store,
    /// This node's networks.
    pub overlay: Overlay,
    /// This node's name, shown with its logs.
    pub hostname: String,
    /// How managers are reached.
    pub connect: Connect,
    /// What this node says of itself.
    pub hello: MakeHello,
    /// Managers to try when none is kept on disk.
    pub managers: Vec<String>,
}

/// A running agent.
pub struct Agent {
    tools: Arc<Tools>,
    hostname: String,
    manager: watch::Receiver<Option<String>>,
    known: Arc<Known>,
    standing: watch::Receiver<Option<Standing>>,
    denied: watch::Receiver<Option<String>>,
    anew: Arc<Notify>,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    farewell: CancellationToken,
    core: JoinHandle<()>,
    session: JoinHandle<bool>,
}

/// Whether the managers hear a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hearing {
    /// There is a session with one.
    Heard,
    /// They have removed it, and say so.
    Denied(String),
    /// None was reached.
    Silence,
}

/// How a node has left its cluster.
#[derive(Debug, Default)]
pub struct Left {
    /// What could not be removed.
    pub problems: Vec<String>,
    /// Whether the managers know that it has left.
    pub told: bool,
}

enum Command {
    RemoveAll(oneshot::Sender<Vec<String>>),
}

impl Agent {
    /// Takes over what an earlier daemon left, then follows the managers.
    ///
    /// # Errors
    /// When its folders can't be used.
    pub async fn start(config: Config) -> Result<Self, DiskError> {
        let disk = Disk::open(config.state_dir.join("agent"))?;
        let desired = disk.load()?;
        let book = Arc::new(StatusBook::default());
        let keeper = Arc::new(Keeper::new(config.runtime.clone()));
        let tools = Arc::new(Tools {
            disk: disk.clone(),
            runtime: config.runtime,
            images: config.images,
            overlay: config.overlay,
            volumes: Volumes::new(config.state_dir.join("volumes")),
            book: book.clone(),
            keeper: keeper.clone(),
            pulls: Default::default(),
            contents: Default::default(),
            containers: config.state_dir.join("containers"),
            stop_grace_ms: STOP_GRACE_MS,
        });
        show_networks(&tools.overlay, &desired);
        let mut supervisor = Supervisor::new(tools.clone());
        supervisor.recover(&desired).await;

        let mut known = disk.managers();
        known.extend(
            config
                .managers
                .into_iter()
                .filter(|addr| !known.contains(addr))
                .collect::<Vec<_>>(),
        );
        let (manager_tx, manager) = watch::channel(None);
        let known = Arc::new(Known::new(disk, known, manager.clone()));
        let (standing_tx, standing) = watch::channel(None);
        let (denied_tx, denied) = watch::channel(None);
        let anew = Arc::new(Notify::new());
        let (assignments_tx, assignments) = mpsc::channel(QUEUE);
        let (commands, commands_rx) = mpsc::channel(1);
        let (stop, farewell) = (CancellationToken::new(), CancellationToken::new());
        let session = Session {
            connect: config.connect,
            hello: config.hello,
            book,
            keeper,
            assignments: assignments_tx,
            manager: manager_tx,
            known: known.clone(),
            standing: standing_tx,
            denied: denied_tx,
            anew: anew.clone(),
            farewell: farewell.clone(),
        };
        let core = Core {
            tools: tools.clone(),
            desired,
            supervisor,
            dirty: false,
            manager: manager.clone(),
            alone_since: None,
        };
        Ok(Self {
            tools,
            hostname: config.hostname,
            manager,
            known,
            standing,
            denied,
            anew,
            commands,
            session: tokio::spawn(session.run(stop.clone())),
            core: tokio::spawn(core.run(assignments, commands_rx, stop.clone())),
            stop,
            farewell,
        })
    }

    /// The manager it has a session with.
    #[must_use]
    pub fn manager(&self) -> Option<String> {
        self.manager.borrow().clone()
    }

    /// Follows the manager it has a session with.
    #[must_use]
    pub fn watch_manager(&self) -> watch::Receiver<Option<String>> {
        self.manager.clone()
    }

    /// The managers it knows (`host:port`), the one it has a session with first.
    #[must_use]
    pub fn managers(&self) -> Vec<String> {
        let mut managers = self.known.all();
        if let Some(current) = self.manager() {
            managers.retain(|other| *other != current);
            managers.insert(0, current);
        }
        managers
    }

    /// Follows the managers it knows.
    #[must_use]
    pub fn watch_managers(&self) -> watch::Receiver<Vec<String>> {
        self.known.watch()
    }

    /// The managers it knows, for whoever knows of others.
    #[must_use]
    pub fn known(&self) -> Arc<Known> {
        self.known.clone()
    }

    /// Follows what the managers say this node's identity should be; none before the first session.
    #[must_use]
    pub fn watch_standing(&self) -> watch::Receiver<Option<Standing>> {
        self.standing.clone()
    }

    /// Has the session begin anew when it is woken, so that the managers hear what this node is now.
    #[must_use]
    pub fn anew(&self) -> Arc<Notify> {
        self.anew.clone()
    }

    /// The images that its tasks use.
    #[must_use]
    pub fn images_in_use(&self) -> Vec<images::ImageId> {
        supervisor::images_in_use(&self.tools)
    }

    /// Logs and exec, for the managers.
    #[must_use]
    pub fn service(&self) -> AgentService {
        AgentService::new(self.tools.clone(), self.hostname.clone())
    }

    /// Stops following; containers and networks stay as they are.
    pub async fn shutdown(self) {
        self.stop.cancel();
        for ended in [self.session.await.map(drop), self.core.await] {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the agent failed");
            }
        }
        self.tools.overlay.shutdown().await;
    }

    /// Whether the managers hear this node, which may take so long to find out.
    pub async fn hearing(&self, bound: Duration) -> Hearing {
        let (mut manager, mut denied) = (self.manager.clone(), self.denied.clone());
        let found = async {
            tokio::select! {
                biased;
                Ok(_) = manager.wait_for(Option::is_some) => Hearing::Heard,
                Ok(why) = denied.wait_for(Option::is_some) => {
                    Hearing::Denied(why.clone().unwrap_or_default())
                }
                else => Hearing::Silence,
            }
        };
        tokio::time::timeout(bound, found)
            .await
            .unwrap_or(Hearing::Silence)
    }

    /// Removes every container, network and assignment: this node leaves its cluster, and tells a manager so
    /// if it can.
    pub async fn leave(mut self) -> Left {
        let (tx, rx) = oneshot::channel();
        let mut problems = Vec::new();
        if self.commands.send(Command::RemoveAll(tx)).await.is_ok() {
            problems.extend(
                rx.await
                    .unwrap_or_else(|_| vec!["the agent ended before all was removed".into()]),
            );
        }
        self.farewell.cancel();
        let told = match self.hearing(Duration::ZERO).await {
            // They have let it go.
            Hearing::Denied(_) => Some(true),
            Hearing::Heard | Hearing::Silence => {
                let heard = tokio::time::timeout(FAREWELL_BOUND, &mut self.session).await;
                heard.ok().map(|ended| ended.unwrap_or(false))
            }
        };
        self.stop.cancel();
        if !self.session.is_finished() {
            // It was told to stop.
            let _ = (&mut self.session).await;
        }
        let told = told.unwrap_or(false);
        if !told {
            // It is down to the managers soon, and `node rm` removes it.
            tracing::warn!("no manager could be told that this node has left");
        }
        if let Err(error) = self.core.await {
            problems.push(error.to_string());
        }
        if let Err(error) = self.tools.overlay.purge().await {
            problems.push(error.to_string());
        }
        Left { problems, told }
    }
}

/// The owner of the assignments.
struct Core {
    tools: Arc<Tools>,
    desired: Desired,
    supervisor: Supervisor,
    /// Networks have changed since the assignments were last kept.
    dirty: bool,
    /// The manager there is a session with.
    manager: watch::Receiver<Option<String>>,
    /// Since when there is none.
    alone_since: Option<Instant>,
}

impl Core {
    async fn run(
        mut self,
        mut assignments: mpsc::Receiver<(u64, api::proto::Assignments)>,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some((session, message)) = assignments.recv() => self.take(session, message).await,
                Some(Command::RemoveAll(done)) = commands.recv() => {
                    let problems = self.supervisor.remove_all().await;
                    // The receiver may have been given up on.
                    let _ = done.send(problems);
                    return;
                }
                _ = housekeeping.tick() => self.keep_house().await,
                _ = sweep.tick(), if self.supervisor.is_settled() => {
                    self.supervisor.sweep(&self.desired).await;
                }
                () = stop.cancelled() => break,
            }
        }
        self.keep();
        self.supervisor.shutdown().await;
    }

    async fn take(&mut self, session: u64, message: api::proto::Assignments) {
        let is_full = message.full;
        let first = is_full && !self.supervisor.is_settled();
        let touched = self.desired.apply(message);
        if touched.contents {
            // Before the tasks, too, which wait for them.
            self.tools.contents.set(self.desired.contents.clone());
        }
        if touched.networks {
            // Before the tasks: one that starts finds its networks and its peers' names.
            show_networks(&self.tools.overlay, &self.desired);
            self.dirty = true;
        }
        if touched.tasks {
            // Before they are acted on: a container that runs is in an assignment on disk.
            self.keep();
            if first {
                self.settle().await;
            }
            self.supervisor.reconcile(&self.desired).await;
        }
        if is_full {
            self.tools.keeper.acted_on(session);
        }
    }

    /// The managers have been asked: from here on what carries our names and is nobody's goes.
    async fn settle(&mut self) {
        self.supervisor.settle(&self.desired).await;
        if let Err(error) = self.tools.overlay.ready().await {
            tracing::error!(%error, "leftovers of networks could not be removed");
        }
    }

    fn keep(&mut self) {
        match self.tools.disk.save(&self.desired) {
            Ok(()) => self.dirty = false,
            Err(error) => {
                self.dirty = true;
                tracing::error!(%error, "can't keep the assignments; a restart now would forget tasks");
            }
        }
    }

    async fn keep_house(&mut self) {
        if self.dirty {
            self.keep();
        }
        if self.supervisor.has_finished() {
            self.supervisor.reconcile(&self.desired).await;
        }
        let now = Instant::now();
        if self.manager.borrow().is_some() {
            self.alone_since = None;
        } else if now.duration_since(*self.alone_since.get_or_insert(now)) >= ALONE_AFTER {
            self.supervisor.restart_alone(&self.desired, now);
        }
    }
}

fn show_networks(overlay: &Overlay, desired: &Desired) {
    let (view, problems) = netview::view(desired);
    for problem in problems {
        tracing::error!(%problem, "a network can't be made as the managers want it");
    }
    overlay.set_view(view);
}
