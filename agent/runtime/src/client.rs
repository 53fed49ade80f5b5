//! The daemon's side: starts shims, and finds, watches, stops and removes containers by their folders.

use crate::cutoff;
use crate::error::{Error, IoContext, Result};
use crate::process::{kill_cgroups, remove_cgroups};
use crate::record::{EXIT, Exit, Folder, ORDERS, Orders, ProcessId, RUNNING, Running, is_dir};
use crate::shim::HELD_FROM;
use crate::signal::Signal;
use crate::spec::validate_id;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

/// The cgroup that all containers are below.
pub(crate) const CGROUP_PARENT: &str = "clusterd";
/// Containers being made at the same time; more wait.
const AT_ONCE: usize = 8;
/// Logs being read at the same time; more are refused.
const READERS: usize = 256;
/// How long what was killed may take to be gone.
pub(crate) const KILL_BOUND: Duration = Duration::from_secs(10);

/// The program that becomes a shim.
#[derive(Debug, Clone)]
pub struct ShimCommand {
    /// Its path.
    pub program: PathBuf,
    /// What makes it call [`crate::shim_main`] with the rest of its arguments.
    pub args: Vec<String>,
}

/// Settings.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Folder for the containers' folders; on a tmpfs, so that a reboot empties it.
    pub run_dir: PathBuf,
    /// What is started for each container.
    pub shim: ShimCommand,
}

impl RuntimeConfig {
    /// Settings.
    #[must_use]
    pub fn new(run_dir: PathBuf, shim: ShimCommand) -> Self {
        Self { run_dir, shim }
    }
}

/// Containers of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    config: RuntimeConfig,
    pub(crate) room: Semaphore,
    pub(crate) readers: Arc<Semaphore>,
}

/// A container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Its first process.
    pub pid: i32,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitStatus {
    /// 128 + signal when killed.
    pub code: i32,
    /// What killed it.
    pub signal: Option<i32>,
    /// The kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// Milliseconds since the epoch.
    pub finished_at_ms: i64,
    /// More than the code tells.
    pub message: Option<String>,
}

/// A container as its folder tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// Its first process, while its shim lives.
    pub pid: Option<i32>,
    /// When it was started, milliseconds since the epoch.
    pub started_at_ms: Option<i64>,
    /// How it ended.
    pub exit: Option<ExitStatus>,
    /// As it was started with.
    pub labels: BTreeMap<String, String>,
}

impl From<Exit> for ExitStatus {
    fn from(exit: Exit) -> Self {
        Self {
            code: exit.code,
            signal: exit.signal,
            oom_killed: exit.oom_killed,
            finished_at_ms: exit.finished_at_ms,
            message: exit.message,
        }
    }
}

impl Runtime {
    /// Over a run folder, made if it is not there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(config: RuntimeConfig) -> Result<Self> {
        let dir = &config.run_dir;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .context(|| format!("making {}", dir.display()))?;
        Ok(Self(Arc::new(Inner {
            room: Semaphore::new(AT_ONCE),
            readers: Arc::new(Semaphore::new(READERS)),
            config,
        })))
    }

    pub(crate) fn folder(&self, id: &str) -> Folder {
        Folder(self.0.config.run_dir.join(id))
    }

    /// The folder that all containers' folders are in.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.0.config.run_dir
    }

    pub(crate) fn shim(&self) -> &ShimCommand {
        &self.0.config.shim
    }

    pub(crate) fn running(&self, id: &str) -> Result<Running> {
        validate_id(id)?;
        let folder = self.folder(id);
        if !is_dir(&folder.0) {
            return Err(Error::NotFound(id.to_owned()));
        }
        folder
            .read(RUNNING)?
            .ok_or_else(|| Error::NotRunning(id.to_owned()))
    }

    /// Every container that has a folder, running or not.
    ///
    /// # Errors
    /// When the run folder can't be read.
    pub async fn list(&self) -> Result<Vec<ContainerState>> {
        let runtime = self.clone();
        blocking(move || {
            let dir = &runtime.0.config.run_dir;
            let entries = fs::read_dir(dir).context(|| format!("reading {}", dir.display()))?;
            let mut list = Vec::new();
            for entry in entries {
                let entry = entry.context(|| format!("reading {}", dir.display()))?;
                let Some(id) = entry.file_name().to_str().map(str::to_owned) else {
                    continue;
                };
                if validate_id(&id).is_ok() && is_dir(&entry.path()) {
                    list.push(runtime.state(id));
                }
            }
            Ok(list)
        })
        .await
    }

    fn state(&self, id: String) -> ContainerState {
        let folder = self.folder(&id);
        // A record that can't be read is as good as none: the container is then removed, not adopted.
        let orders = folder.read::<Orders>(ORDERS).ok().flatten();
        let running = folder.read::<Running>(RUNNING).ok().flatten();
        let exit = folder.read::<Exit>(EXIT).ok().flatten();
        ContainerState {
            id,
            started_at_ms: running.as_ref().map(|r| r.started_at_ms),
            pid: running.filter(|r| r.shim.is_there()).map(|r| r.init.pid),
            exit: exit.map(Into::into),
            labels: orders.map(|o| o.spec.labels).unwrap_or_default(),
        }
    }

    /// Waits for a container's end.
    ///
    /// # Errors
    /// When there is no such container, or its records can't be read.
    pub async fn wait(&self, id: &str) -> Result<ExitStatus> {
        let folder = self.folder(id);
        let running = self.running(id)?;
        wait_gone(running.shim)
            .await
            .context(|| format!("container {id}: watching its shim"))?;
        if let Some(exit) = folder.read::<Exit>(EXIT)? {
            return Ok(exit.into());
        }
        // The shim was killed: nobody reads the pipes, and nobody would tell how the container ends.
        self.kill_all(id, &running).await?;
        let code = 128 + libc::SIGKILL;
        Ok(ExitStatus {
            code,
            signal: Some(libc::SIGKILL),
            oom_killed: false,
            finished_at_ms: crate::record::now_ms(),
            message: Some("its shim process was killed, so the container was, too".into()),
        })
    }

    async fn kill_all(&self, id: &str, running: &Running) -> Result<()> {
        let what = || format!("container {id}: killing it");
        running.init.signal(libc::SIGKILL).context(what)?;
        let end = tokio::time::Instant::now() + KILL_BOUND;
        while kill_cgroups(&running.cgroups) > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Sends a signal to a container's first process.
    ///
    /// # Errors
    /// When there is no such container, or it does not run.
    pub async fn signal(&self, id: &str, signal: Signal) -> Result<()> {
        let running = self.running(id)?;
        running
            .init
            .signal(signal.number())
            .context(|| format!("container {id}: sending {signal}"))
    }

    /// Asks a container to end, and kills it when it hasn't within `grace`.
    ///
    /// # Errors
    /// When there is no such container, or it can't be killed.
    pub async fn stop(
        &self,
        id: &str,
        signal: Option<Signal>,
        grace: Duration,
    ) -> Result<ExitStatus> {
        let running = self.running(id)?;
        let orders: Option<Orders> = self.folder(id).read(ORDERS)?;
        let signal = signal
            .or_else(|| orders.and_then(|o| o.spec.stop_signal))
            .unwrap_or(Signal::TERM);
        running
            .init
            .signal(signal.number())
            .context(|| format!("container {id}: sending {signal}"))?;
        if let Ok(ended) = tokio::time::timeout(grace, self.wait(id)).await {
            return ended;
        }
        running
            .init
            .signal(libc::SIGKILL)
            .context(|| format!("container {id}: killing it"))?;
        match tokio::time::timeout(KILL_BOUND, self.wait(id)).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::Io {
                what: format!("container {id}: waiting for its end after SIGKILL"),
                source: io::ErrorKind::TimedOut.into(),
            }),
        }
    }

    /// Removes a container and all it left, killing what still runs. One that is not there is removed.
    ///
    /// # Errors
    /// All that could not be removed.
    pub async fn delete(&self, id: &str) -> Result<()> {
        validate_id(id)?;
        let folder = self.folder(id);
        let running = folder.read::<Running>(RUNNING).ok().flatten();
        if let Some(running) = &running {
            self.kill_all(id, running).await?;
            // It writes the exit file and removes the container's mounts and cgroups; then it is gone.
            let gone = tokio::time::timeout(KILL_BOUND, wait_gone(running.shim)).await;
            if gone.is_err() {
                running
                    .shim
                    .signal(libc::SIGKILL)
                    .context(|| format!("container {id}: killing its shim"))?;
            }
        }
        let id = id.to_owned();
        blocking(move || remove(&id, folder, running)).await
    }

    /// Duplicates of the descriptors that a container's shim holds, in the order they were given.
    ///
    /// # Errors
    /// When there is no such container, or its shim is gone.
    pub async fn held_fds(&self, id: &str) -> Result<Vec<OwnedFd>> {
        let running = self.running(id)?;
        let orders: Option<Orders> = self.folder(id).read(ORDERS)?;
        let held = orders.map_or(0, |o| o.held);
        (0..held)
            .map(|n| {
                let number = HELD_FROM + RawFd::try_from(n).unwrap_or(0);
                running
                    .shim
                    .take_fd(number)
                    .context(|| format!("container {id}: taking a descriptor over"))
            })
            .collect()
    }
}

/// Removes what is left of a container that was `running` and is no more, or that was never known to run.
fn remove(id: &str, folder: Folder, running: Option<Running>) -> Result<()> {
    let (folder, ended) = match running {
        Some(running) => (folder, remove_cgroups(&running.cgroups)),
        None => match cutoff::move_away(&folder.0)? {
            Some(away) => {
                let ended = cutoff::end(&away);
                (away, ended)
            }
            None => return Ok(()),
        },
    };
    let removed = ended.and_then(|()| match fs::remove_dir_all(&folder.0) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("removing {}", folder.0.display()))
        }
        _ => Ok(()),
    });
    removed.map_err(|error| Error::Teardown {
        id: id.to_owned(),
        errors: vec![error.to_string()],
    })
}

/// Waits until a process is gone.
async fn wait_gone(process: ProcessId) -> io::Result<()> {
    if let Some(fd) = process.pidfd()? {
        // SAFETY: the descriptor is open, and the AsyncFd owns it until it is dropped.
        let registered =
            unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) };
        // Readable means ended.
        drop(registered.map_err(io::Error::from)?.readable().await?);
    }
    Ok(())
}

/// Runs what waits for processes and disks where waiting does no harm.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::Io {
            what: "running a step".into(),
            source: io::Error::other(error),
        }),
    }
}
