//! How far a load or pull has come, for whoever waits.

use std::io::{self, Read};
use std::sync::Arc;

/// Reported at most once for so many bytes.
const STEP_BYTES: u64 = 1 << 20;

/// What is being done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// An archive is read.
    Reading,
    /// A layer comes from the registry.
    Downloading,
    /// A layer is unpacked.
    Unpacking,
    /// A layer was there already, or is done.
    Done,
}

/// A report.
#[derive(Debug, Clone)]
pub struct Progress {
    /// `archive`, or a layer's digest, short.
    pub object: String,
    /// What is done to it.
    pub phase: Phase,
    /// Bytes done.
    pub done_bytes: u64,
    /// Of so many, if known.
    pub total_bytes: Option<u64>,
}

/// Called with each report, from several threads. It must not block for long.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// For callers that do not look.
pub fn quiet() -> ProgressFn {
    Arc::new(|_| {})
}

/// Counts the bytes of one object and reports now and then.
pub(crate) struct Counter {
    report: ProgressFn,
    progress: Progress,
    reported: u64,
}

impl Counter {
    pub(crate) fn new(
        report: &ProgressFn,
        object: String,
        phase: Phase,
        total_bytes: Option<u64>,
    ) -> Self {
        let progress = Progress {
            object,
            phase,
            done_bytes: 0,
            total_bytes,
        };
        report(progress.clone());
        Self {
            report: report.clone(),
            progress,
            reported: 0,
        }
    }

    pub(crate) fn add(&mut self, n: u64) {
        self.progress.done_bytes += n;
        if self.progress.done_bytes - self.reported >= STEP_BYTES {
            self.reported = self.progress.done_bytes;
            (self.report)(self.progress.clone());
        }
    }
}

/// Counts what is read.
pub(crate) struct CountingReader<R> {
    pub(crate) inner: R,
    pub(crate) counter: Counter,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.counter.add(n as u64);
        Ok(n)
    }
}
