//! A thread that lives in the host's namespace, for sockets that must be born there.

use super::Ns;
use crate::{Error, Result};
use std::{sync::mpsc, thread};
use tokio::sync::oneshot;

/// Jobs that may wait; more wait for a place.
const JOBS_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// Runs short closures one after another in the host's namespace, whatever thread asks. Ends when
/// dropped.
#[derive(Debug)]
pub struct HostThread {
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl HostThread {
    /// Starts it.
    ///
    /// # Errors
    /// If the thread can't be started or can't enter `host`.
    pub fn start(host: Ns) -> Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(JOBS_MAX);
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("host-netns".into())
            .spawn(move || {
                let entered = host.enter();
                let failed = entered.is_err();
                if ready.send(entered).is_err() || failed {
                    return;
                }
                for job in queue {
                    job();
                }
            })
            .map_err(Error::io("starting a thread"))?;
        is_ready.recv().unwrap_or(Err(Error::Stopped))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Runs `f` there. `f` must be short: others wait.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the thread is gone or has too much to do.
    pub async fn run<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(Error::Stopped)?;
        jobs.try_send(Box::new(move || {
            // Whoever asked may have given up; then nobody needs the result.
            let _ = done.send(f());
        }))
        .map_err(|_| Error::Stopped)?;
        result.await.map_err(|_| Error::Stopped)
    }
}

impl Drop for HostThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
