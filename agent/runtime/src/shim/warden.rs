//! Ends the container when its lease is over. The daemon may be stopped, dead or cut off then: nobody else does.
//!
//! It looks now and again rather than setting an alarm: after a machine's sleep it is then soon awake, too.

use crate::lease::{Step, Terms, boot_ms};
use crate::record::{Folder, Orders, ProcessId};
use crate::signal::Signal;
use nix::poll::PollTimeout;

/// How often it looks, ms: well within the margin that the managers leave.
const LOOK_MS: u8 = 200;

pub(super) struct Warden<'a> {
    terms: Option<Terms>,
    folder: &'a Folder,
    signal: Signal,
    /// When the container was asked to end.
    stopped: Option<u64>,
}

impl<'a> Warden<'a> {
    pub fn new(folder: &'a Folder, orders: &Orders) -> Self {
        Self {
            terms: orders.spec.lease,
            folder,
            signal: orders.spec.stop_signal.unwrap_or(Signal::TERM),
            stopped: None,
        }
    }

    /// When it is to look next.
    pub fn patience(&self) -> PollTimeout {
        match self.terms {
            Some(_) => PollTimeout::from(LOOK_MS),
            None => PollTimeout::NONE,
        }
    }

    /// Looks, and does what is due.
    pub fn look(&mut self, init: &ProcessId) {
        let Some(terms) = self.terms else { return };
        // The clock was there when the container was started.
        let Ok(now) = boot_ms() else { return };
        let signal = match terms.next(self.folder.renewed(), self.stopped, now) {
            Step::Wait(_) => return,
            Step::Stop => {
                self.stopped = Some(now);
                self.signal.number()
            }
            Step::Kill => libc::SIGKILL,
        };
        if let Err(error) = init.signal(signal) {
            eprintln!(
                "clusterd shim: the lease is over, and the container can't be ended: {error}"
            );
        }
    }

    /// Whether the container was asked to end.
    pub fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// For whoever asks why it ended.
    pub fn says(&self) -> Option<String> {
        let (terms, _) = self.terms.zip(self.stopped)?;
        Some(format!(
            "its lease was over: this node had heard no manager for {} ms",
            terms.lease_ms
        ))
    }
}
