//! The engine behind [`Overlay`]: one actor owns all state; calls are messages to it.
//!
//! ```text
//!  Overlay ──commands──▶ Actor ──spawns──▶ jobs: one namespace each, side by side
//!     └────view (latest)──▶ │ ◀──results────────┘
//!                           └─ reconcile: diff(desired, picture) → perform → picture, zones
//! ```
//! The picture is what the actor believes is there; a resync reads it anew. All that changes more
//! than one task's namespace is done by the actor itself, in order.

mod actor;
mod attach;
mod context;
mod jobs;
mod perform;
mod resync;
mod status;

pub use status::{NetworkStatus, Status, TaskStatus};

use crate::{Attached, Config, Error, Result, TaskId, TaskNet, View};
use actor::Actor;
use std::{os::fd::OwnedFd, sync::Arc};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinHandle,
};

/// Commands that may wait for the actor.
const COMMANDS_MAX: usize = 64;

type Reply<T> = oneshot::Sender<Result<T>>;

enum Command {
    Attach {
        task: Arc<TaskNet>,
        /// The resolver's sockets of a container that runs already.
        adopted: Option<Vec<OwnedFd>>,
        reply: Reply<Attached>,
    },
    Detach(TaskId, Reply<()>),
    Ready(Reply<()>),
    Resync(Reply<()>),
    Status(Reply<Status>),
    Purge(Reply<()>),
    Shutdown,
}

/// A node's networking. Calls may be made side by side.
///
/// Order at start: [`start`](Self::start), [`set_view`](Self::set_view), [`adopt`](Self::adopt) for
/// each container that still runs, [`ready`](Self::ready).
#[derive(Debug)]
pub struct Overlay {
    commands: mpsc::Sender<Command>,
    view: watch::Sender<Arc<View>>,
    actor: Mutex<Option<JoinHandle<()>>>,
}

impl Overlay {
    /// Checks the machine, makes or finds the gateway bridge and the host's table, and starts. The
    /// calling thread's network namespace is the host's. Nothing of a running task is touched.
    ///
    /// # Errors
    /// What the machine lacks, with the cure; nothing is changed then.
    pub async fn start(config: Config) -> Result<Self> {
        let (view, views) = watch::channel(Arc::new(View::default()));
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let actor = Actor::start(config, queue, views).await?;
        Ok(Self {
            commands,
            view,
            actor: Mutex::new(Some(tokio::spawn(actor.run()))),
        })
    }

    /// Hands over the full desired picture. Returns at once; only the latest counts. A network that
    /// is missing while tasks of this node are on it is kept as it was last known.
    pub fn set_view(&self, view: View) {
        self.view.send_replace(Arc::new(view));
    }

    /// Gives a task its network: all of it or nothing. A task attached already with the same
    /// settings gets the same again.
    ///
    /// # Errors
    /// What is wrong with the task, a port that is taken, or what the kernel refuses.
    pub async fn attach(&self, task: TaskNet) -> Result<Attached> {
        self.ask(|reply| Command::Attach {
            task: Arc::new(task),
            adopted: None,
            reply,
        })
        .await
    }

    /// Takes over a task whose container ran on while the daemon was down. `dns_fds` are the
    /// resolver's sockets that its shim kept (new ones are bound if there are none). What is there
    /// stays; what is missing is repaired.
    ///
    /// # Errors
    /// [`Error::NamespaceGone`], or as [`attach`](Self::attach); nothing of the task is removed.
    pub async fn adopt(&self, task: TaskNet, dns_fds: Vec<OwnedFd>) -> Result<Attached> {
        self.ask(|reply| Command::Attach {
            task: Arc::new(task),
            adopted: Some(dns_fds),
            reply,
        })
        .await
    }

    /// Removes everything of a task. One that isn't attached is no error; what may be left of it is
    /// removed all the same.
    ///
    /// # Errors
    /// All that couldn't be removed.
    pub async fn detach(&self, task: &TaskId) -> Result<()> {
        self.ask(|reply| Command::Detach(task.clone(), reply)).await
    }

    /// Says that all tasks of this node have been adopted or attached: from now on what is ours and
    /// known to nobody is removed.
    ///
    /// # Errors
    /// What couldn't be removed (it is tried again at each resync).
    pub async fn ready(&self) -> Result<()> {
        self.ask(Command::Ready).await
    }

    /// Compares what is there with what is wanted, and repairs the difference. Done by itself every
    /// [`Config::resync_every`].
    ///
    /// # Errors
    /// What couldn't be repaired (it is tried again).
    pub async fn resync(&self) -> Result<()> {
        self.ask(Command::Resync).await
    }

    /// What is there, for people.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn status(&self) -> Result<Status> {
        self.ask(Command::Status).await
    }

    /// Removes every trace, running tasks' networks too: for a node that leaves.
    ///
    /// # Errors
    /// All that couldn't be removed.
    pub async fn purge(&self) -> Result<()> {
        let purged = self.ask(Command::Purge).await;
        self.shutdown().await;
        purged
    }

    /// Stops, and leaves the packet path as it is.
    pub async fn shutdown(&self) {
        // An actor that is gone has stopped.
        let _ = self.commands.send(Command::Shutdown).await;
        if let Some(actor) = self.actor.lock().await.take()
            && let Err(e) = actor.await
        {
            tracing::error!(error = %e, "the network actor failed");
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}
