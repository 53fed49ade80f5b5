//! One more process in a running container, with pipes to it.

use crate::client::{Runtime, blocking};
use crate::error::{Error, IoContext, Result};
use crate::record::ProcessId;
use crate::shim::STATUS_FD;
use crate::shim::exec::SPEC_FD;
use crate::signal::Signal;
use crate::spec::{ExecSpec, validate_process};
use crate::start::{START_BOUND, answer, pass_fds, read_within};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::net::unix::pipe;
use tokio::process::Child;

/// The process. Dropping it kills it.
#[derive(Debug)]
pub struct ExecSession {
    /// To its standard input; taking and dropping it is the input's end.
    pub stdin: Option<pipe::Sender>,
    /// From its standard output.
    pub stdout: Option<pipe::Receiver>,
    /// From its standard error.
    pub stderr: Option<pipe::Receiver>,
    helper: Child,
    process: Option<ProcessId>,
}

/// Signals an exec's process, beside whoever waits for its end.
#[derive(Debug, Clone, Copy)]
pub struct Signaller(Option<ProcessId>);

impl Signaller {
    /// Sends it a signal; one that has ended is none's business.
    ///
    /// # Errors
    /// When there is no such signal.
    pub fn signal(self, number: i32) -> Result<()> {
        let signal = Signal::try_from(number)?;
        match self.0 {
            Some(process) => process
                .signal(signal.number())
                .context(|| format!("sending {signal}")),
            None => Ok(()),
        }
    }
}

impl Runtime {
    /// Starts one more process in a container.
    ///
    /// # Errors
    /// [`Error::Start`] with the shell's code (126, 127) when it can't be executed; others when there is no
    /// such container or it does not run.
    pub async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession> {
        validate_process(
            id,
            &spec.args,
            &spec.env,
            spec.cwd.as_deref().unwrap_or(Path::new("/")),
        )?;
        let running = self.running(id)?;
        if !running.init.is_there() || !running.shim.is_there() {
            return Err(Error::NotRunning(id.to_owned()));
        }
        let context = || format!("container {id}: making pipes");
        let (stdin_theirs, stdin) = io::pipe().context(context)?;
        let (stdout, stdout_theirs) = io::pipe().context(context)?;
        let (stderr, stderr_theirs) = io::pipe().context(context)?;
        let (mut status, status_theirs) = io::pipe().context(context)?;
        let (words_theirs, mut words) = io::pipe().context(context)?;
        let mut command = Command::new(&self.shim().program);
        command
            .args(&self.shim().args)
            .arg("exec")
            .arg(self.folder(id).0)
            .current_dir("/")
            .env_clear();
        command.stdin(Stdio::from(OwnedFd::from(stdin_theirs)));
        command.stdout(Stdio::from(OwnedFd::from(stdout_theirs)));
        command.stderr(Stdio::from(OwnedFd::from(stderr_theirs)));
        pass_fds(
            &mut command,
            vec![
                (status_theirs.as_raw_fd(), STATUS_FD),
                (words_theirs.as_raw_fd(), SPEC_FD),
            ],
        );
        let mut command = tokio::process::Command::from(command);
        let spawned = command.spawn();
        // Our copies of its ends go, so that its end is seen.
        drop((command, status_theirs, words_theirs));
        let mut helper = spawned.map_err(|source| Error::Spawn {
            id: id.to_owned(),
            program: self.shim().program.clone(),
            source,
        })?;
        let text = serde_json::to_vec(&spec).map_err(|source| Error::Record {
            path: "exec".into(),
            source,
        })?;
        let name = id.to_owned();
        let pid = blocking(move || {
            // A helper that has failed reads nothing; its status says why.
            let _ = words.write_all(&text);
            drop(words);
            let said = read_within(&mut status, START_BOUND)
                .context(|| format!("container {name}: reading from the exec helper"))?;
            answer(&name, "exec helper", &said, String::new)
        })
        .await;
        let pid = match pid {
            Ok(pid) => pid,
            Err(error) => {
                // It has ended, mostly.
                let _ = helper.start_kill();
                return Err(error);
            }
        };
        Ok(ExecSession {
            stdin: Some(pipe::Sender::from_owned_fd(stdin.into()).context(context)?),
            stdout: Some(pipe::Receiver::from_owned_fd(stdout.into()).context(context)?),
            stderr: Some(pipe::Receiver::from_owned_fd(stderr.into()).context(context)?),
            helper,
            process: ProcessId::of(pid),
        })
    }
}

impl ExecSession {
    /// Sends it a signal.
    ///
    /// # Errors
    /// When there is no such signal.
    pub fn signal(&self, number: i32) -> Result<()> {
        self.signaller().signal(number)
    }

    /// What signals it while it is waited for.
    #[must_use]
    pub fn signaller(&self) -> Signaller {
        Signaller(self.process)
    }

    /// Kills it.
    pub fn kill(&self) {
        if let Err(error) = self.signal(libc::SIGKILL) {
            tracing::warn!(%error, "can't kill an exec's process");
        }
    }

    /// Waits for its end; its exit code, 128 + signal when killed.
    ///
    /// # Errors
    /// When the helper can't be waited for.
    pub async fn wait(&mut self) -> Result<i32> {
        let ended = self
            .helper
            .wait()
            .await
            .context(|| "waiting for an exec's end".to_owned())?;
        Ok(ended.code().unwrap_or(255))
    }
}

impl Drop for ExecSession {
    fn drop(&mut self) {
        if self.helper.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
    }
}
