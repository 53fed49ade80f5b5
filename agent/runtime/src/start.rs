//! Starting a container: its folder, its shim, what the shim says.

use crate::client::{Runtime, Started, blocking};
use crate::error::{Error, IoContext, Result};
use crate::record::{Folder, ORDERS, Orders, RUNNING, Running};
use crate::shim::{HELD_FROM, STATUS_FD};
use crate::spec::{ContainerSpec, validate};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take: an image on a slow disk, and a machine that starts many.
pub(crate) const START_BOUND: Duration = Duration::from_secs(60);

impl Runtime {
    /// Starts a container; returns once its process runs. `held` are kept open by its shim for as long as it
    /// lives.
    ///
    /// # Errors
    /// When the spec is wrong, the id is taken, or the container can't be started; nothing is left then.
    pub async fn run(&self, spec: ContainerSpec, held: Vec<OwnedFd>) -> Result<Started> {
        validate(&spec)?;
        let _room = self.0.room.acquire().await;
        let (runtime, id) = (self.clone(), spec.id.clone());
        let started = blocking(move || runtime.run_now(&spec, &held)).await;
        let is_ours = !matches!(started, Err(Error::Exists(_)));
        if started.is_err()
            && is_ours
            && let Err(error) = self.delete(&id).await
        {
            tracing::warn!(container = %id, %error, "after a start that failed");
        }
        started
    }

    fn run_now(&self, spec: &ContainerSpec, held: &[OwnedFd]) -> Result<Started> {
        let folder = self.folder(&spec.id);
        match DirBuilder::new().mode(0o700).create(&folder.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(spec.id.clone()));
            }
            made => made.context(|| format!("making {}", folder.0.display()))?,
        }
        let orders = Orders {
            spec: spec.clone(),
            held: held.len(),
        };
        folder.write(ORDERS, &orders)?;
        self.start_shim(spec, &folder, held)
    }

    fn start_shim(
        &self,
        spec: &ContainerSpec,
        folder: &Folder,
        held: &[OwnedFd],
    ) -> Result<Started> {
        let id = &spec.id;
        let errors = folder.file("shim.log");
        let stderr = File::create(&errors).context(|| format!("making {}", errors.display()))?;
        let (mut status, theirs) =
            io::pipe().context(|| format!("container {id}: making a pipe"))?;
        let mut command = Command::new(&self.shim().program);
        command
            .args(&self.shim().args)
            .arg("run")
            .arg(&folder.0)
            .current_dir("/");
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        pass_fds(
            &mut command,
            std::iter::once((theirs.as_raw_fd(), STATUS_FD))
                .chain(numbered(held))
                .collect(),
        );
        let spawned = command.spawn().map_err(|source| Error::Spawn {
            id: id.clone(),
            program: self.shim().program.clone(),
            source,
        });
        let mut child = spawned?;
        drop(theirs);
        let read = read_within(&mut status, START_BOUND);
        if read.is_err() {
            // Gone already, mostly: the rest is ended by its record.
            let _ = child.kill();
        }
        // The first process only made the shim an orphan.
        let ended = child
            .wait()
            .context(|| format!("container {id}: waiting for its shim"))?;
        let said = read.context(|| format!("container {id}: reading from its shim"))?;
        answer(id, "shim", &said, || {
            let words = fs::read_to_string(&errors).unwrap_or_default();
            format!("{ended}, {}", words.trim())
        })
        .and_then(|pid| {
            let running: Option<Running> = folder.read(RUNNING)?;
            Ok(Started {
                pid,
                at_ms: running.map_or(0, |r| r.started_at_ms),
            })
        })
    }
}

/// All that comes through a pipe until it is closed.
pub(crate) fn read_within(pipe: &mut io::PipeReader, bound: Duration) -> io::Result<String> {
    let until = Instant::now() + bound;
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => {
                let text = format!("it has not answered within {} s", bound.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Ok(_) => match pipe.read(&mut buffer)? {
                0 => return Ok(String::from_utf8_lossy(&said).into_owned()),
                count => said.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            },
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The held descriptors and the numbers they get.
fn numbered(held: &[OwnedFd]) -> impl Iterator<Item = (RawFd, RawFd)> {
    held.iter()
        .zip(HELD_FROM..)
        .map(|(fd, number)| (fd.as_raw_fd(), number))
}

/// Gives a program descriptors at fixed numbers.
pub(crate) fn pass_fds(command: &mut Command, fds: Vec<(RawFd, RawFd)>) {
    // Beyond every number that is given away.
    let spare = fds.iter().map(|(_, to)| *to).max().unwrap_or(0) + 64;
    // SAFETY: between fork and exec only fcntl and dup2 are called, which are async-signal-safe; nothing is
    // allocated.
    unsafe {
        command.pre_exec(move || {
            let mut moved = [0; 64];
            for (slot, (from, _)) in moved.iter_mut().zip(&fds) {
                // Out of the way first: one may sit where another is to go.
                *slot = libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, spare);
                if *slot < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            for (slot, (_, to)) in moved.iter().zip(&fds) {
                if libc::dup2(*slot, *to) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// What came through a status pipe.
pub(crate) fn answer(
    id: &str,
    what: &'static str,
    said: &str,
    detail: impl Fn() -> String,
) -> Result<i32> {
    let line = said.trim_end();
    if let Some(pid) = line.strip_prefix("ok ").and_then(|pid| pid.parse().ok()) {
        return Ok(pid);
    }
    if let Some((code, message)) = line
        .strip_prefix("error ")
        .and_then(|rest| rest.split_once(' '))
    {
        let code = code.parse().unwrap_or(128);
        return Err(Error::Start {
            id: id.to_owned(),
            code,
            message: message.to_owned(),
        });
    }
    Err(Error::ShimLost {
        id: id.to_owned(),
        what,
        detail: detail(),
    })
}
