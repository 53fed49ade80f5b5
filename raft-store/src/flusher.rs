//! Group commit: one thread makes any number of waiting writes durable at once.
//!
//! How much is written and not yet durable is bounded: the database gives the space of old data to new data
//! once it has written the old data's copy elsewhere, which is not yet "once that copy would outlast a power
//! cut". It does so a whole segment later at the earliest, so less than that may be in flight.
//!
//! The first failure is the last word: after a failed sync the kernel may drop what it could not write, and a
//! later sync would succeed without it.

use crate::database::NOT_WRITTEN;
use crate::health::SyncTimes;
use crate::types::TypeConfig;
use openraft::storage::IOFlushed;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Writes that wait for the disk.
const QUEUE: usize = 1024;
/// Bytes written and not yet durable: with what the database adds of its own, well below a segment of
/// 512 KiB.
pub(crate) const IN_FLIGHT: usize = 128 * 1024;
/// Of those, what the log removes aside.
pub(crate) const IN_FLIGHT_ASIDE: usize = IN_FLIGHT / 4;
/// And what openraft writes.
pub(crate) const IN_FLIGHT_OWN: usize = IN_FLIGHT - IN_FLIGHT_ASIDE;

enum Job {
    Appended(IOFlushed<TypeConfig>),
    Barrier(oneshot::Sender<io::Result<()>>),
    Stop,
}

/// The thread. Cheap to clone; one of the clones has to [`Flusher::close`] it.
#[derive(Clone)]
pub(crate) struct Flusher {
    jobs: mpsc::Sender<Job>,
    /// Bytes written since the last sync that succeeded.
    in_flight: Arc<AtomicUsize>,
    times: SyncTimes,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    users: Arc<Mutex<Vec<Ending>>>,
}

/// Ends a thread that writes.
type Ending = Box<dyn FnOnce() + Send>;

fn closed() -> io::Error {
    io::Error::other("the log is closed")
}

impl Flusher {
    /// Starts the thread. `sync` makes all that was written before it durable; `note` notes what that was, and how
    /// many bytes, which no appended entry waits for.
    pub fn start<T>(
        mut sync: impl FnMut() -> io::Result<T> + Send + 'static,
        note: impl FnMut(T, usize) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let times = SyncTimes::default();
        let measured = times.clone();
        let sync = move || measured.measure(&mut sync);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let in_flight = Arc::new(AtomicUsize::new(0));
        let counted = in_flight.clone();
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || run(sync, note, queue, &counted))?;
        Ok(Self {
            jobs,
            in_flight,
            times,
            thread: Arc::new(Mutex::new(Some(thread))),
            users: Arc::default(),
        })
    }

    /// Who writes from a thread of its own ends in this, which is called before the flusher ends.
    pub fn before_close(&self, end: impl FnOnce() + Send + 'static) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.push(Box::new(end));
    }

    /// How long the last syncs took.
    pub fn times(&self) -> &SyncTimes {
        &self.times
    }

    /// Waits until so many bytes more may be written. One writer at a time, which is openraft: what the log removes
    /// aside is bounded by itself.
    pub async fn room(&self, bytes: usize) -> io::Result<()> {
        match self.in_flight.load(Ordering::Acquire) {
            0 => Ok(()),
            now if now + bytes <= IN_FLIGHT_OWN => Ok(()),
            _ => self.barrier().await,
        }
    }

    /// So many bytes were written.
    pub fn wrote(&self, bytes: usize) {
        self.in_flight.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Returns once all that was written before is durable.
    pub async fn barrier(&self) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.send(Job::Barrier(tx)).await?;
        rx.await.map_err(|_| closed())?
    }

    /// As [`Flusher::barrier`], for a thread.
    pub fn barrier_blocking(&self) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        let job = Job::Barrier(tx);
        self.jobs.blocking_send(job).map_err(|_| closed())?;
        rx.blocking_recv().map_err(|_| closed())?
    }

    /// Tells `callback` once all that was written before is durable.
    pub async fn tell(&self, callback: IOFlushed<TypeConfig>) -> io::Result<()> {
        self.send(Job::Appended(callback)).await
    }

    async fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(|_| closed())
    }

    /// Ends the thread and joins it; what waits is done first. Blocks.
    pub fn close(&self) {
        let users = std::mem::take(&mut *self.users.lock().unwrap_or_else(PoisonError::into_inner));
        for end in users {
            end();
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It has ended by itself only after a panic, which joining tells.
            let _ = self.jobs.blocking_send(Job::Stop);
            if thread.join().is_err() {
                tracing::error!("the thread that flushes the log failed");
            }
        }
    }
}

fn run<T>(
    mut sync: impl FnMut() -> io::Result<T>,
    mut note: impl FnMut(T, usize) -> io::Result<()>,
    mut queue: mpsc::Receiver<Job>,
    in_flight: &AtomicUsize,
) {
    let mut failed: Option<io::Error> = None;
    while let Some(first) = queue.blocking_recv() {
        let (mut appended, mut barriers, mut stop) = (Vec::new(), Vec::new(), false);
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Appended(callback) => appended.push(callback),
                Job::Barrier(waiting) => barriers.push(waiting),
                Job::Stop => stop = true,
            }
            next = queue.try_recv().ok();
        }
        let mut synced = None;
        if failed.is_none() {
            let covered = in_flight.load(Ordering::Acquire);
            match sync() {
                Ok(now) => {
                    in_flight.fetch_sub(covered, Ordering::AcqRel);
                    synced = Some((now, covered));
                }
                Err(error) => failed = Some(fatal(error)),
            }
        }
        for callback in appended {
            callback.io_completed(outcome(failed.as_ref()));
        }
        if let Some(Err(error)) = synced.map(|(now, bytes)| note(now, bytes)) {
            failed = Some(fatal(error));
        }
        for waiting in barriers {
            // Whoever waited may be gone.
            let _ = waiting.send(outcome(failed.as_ref()));
        }
        if stop {
            return;
        }
    }
}

fn fatal(error: io::Error) -> io::Error {
    tracing::error!(%error, "{NOT_WRITTEN}");
    error
}

fn outcome(failed: Option<&io::Error>) -> io::Result<()> {
    failed.map_or(Ok(()), |error| {
        let text = format!("{NOT_WRITTEN}: {error}");
        Err(io::Error::new(error.kind(), text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[tokio::test]
    async fn what_is_in_flight_is_bounded_and_one_sync_serves_all() {
        let syncs = Arc::new(AtomicU32::new(0));
        let counted = syncs.clone();
        let sync = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let flusher = Flusher::start(sync, |(), _| Ok(())).unwrap();
        flusher.room(10 * IN_FLIGHT_OWN).await.unwrap();
        flusher.wrote(IN_FLIGHT_OWN);
        assert_eq!(syncs.load(Ordering::SeqCst), 0, "nothing was in flight");
        flusher.room(1).await.unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 1);
        assert_eq!(flusher.in_flight.load(Ordering::SeqCst), 0);
        flusher.wrote(10);
        flusher.room(IN_FLIGHT_OWN - 10).await.unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 1, "there was room");
        tokio::task::spawn_blocking(move || {
            flusher.close();
            flusher.close();
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_called_durable() {
        let mut tries = 0;
        let sync = move || {
            tries += 1;
            if tries == 2 {
                Err(io::Error::other("no space"))
            } else {
                Ok(())
            }
        };
        let flusher = Flusher::start(sync, |(), _| Ok(())).unwrap();
        flusher.barrier().await.unwrap();
        for _ in 0..3 {
            let error = flusher.barrier().await.unwrap_err().to_string();
            assert!(error.contains("no space"), "{error}");
        }
        let closing = flusher.clone();
        tokio::task::spawn_blocking(move || closing.close())
            .await
            .unwrap();
        assert!(
            flusher
                .barrier()
                .await
                .unwrap_err()
                .to_string()
                .contains("closed")
        );
    }

    #[tokio::test]
    async fn a_barrier_is_behind_the_note_of_what_it_made_durable() {
        let noted = Arc::new(AtomicU32::new(0));
        let seen = noted.clone();
        let mut syncs = 0;
        let sync = move || {
            syncs += 1;
            Ok(syncs)
        };
        let note = move |sync, _| {
            if sync == 3 {
                return Err(io::Error::other("it can't be noted"));
            }
            seen.store(sync, Ordering::SeqCst);
            Ok(())
        };
        let flusher = Flusher::start(sync, note).unwrap();
        for count in 1..=2 {
            flusher.barrier().await.unwrap();
            assert_eq!(noted.load(Ordering::SeqCst), count);
        }
        for _ in 0..2 {
            let error = flusher.barrier().await.unwrap_err().to_string();
            assert!(error.contains("it can't be noted"), "{error}");
        }
        tokio::task::spawn_blocking(move || flusher.close())
            .await
            .unwrap();
    }
}
