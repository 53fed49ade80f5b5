//! Gathers changes into transactions of a bounded size.

use api::model::Timestamp;
use api::state::{Op, Transaction};

pub(crate) struct Batch {
    now: Timestamp,
    /// Changes in one transaction at most.
    chunk: usize,
    open: Transaction,
    full: Vec<Transaction>,
}

impl Batch {
    pub fn new(now: Timestamp, chunk: usize) -> Self {
        Self {
            now,
            chunk,
            open: Transaction::default(),
            full: Vec::new(),
        }
    }

    /// Changes that only make sense together go into one transaction, which is stamped with the time, or with
    /// `after` if that is later.
    pub fn whole(&mut self, ops: impl ExactSizeIterator<Item = Op>, after: Timestamp) {
        let at = self.now.max(after);
        let full = self.open.ops.len() + ops.len() > self.chunk;
        if !self.open.ops.is_empty() && (full || self.open.at != at) {
            self.close();
        }
        self.open.at = at;
        self.open.ops.extend(ops);
    }

    /// Changes that make sense one by one.
    pub fn each(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            self.whole([op].into_iter(), self.now);
        }
    }

    fn close(&mut self) {
        self.full.push(std::mem::take(&mut self.open));
    }

    pub fn finish(mut self) -> Vec<Transaction> {
        if !self.open.ops.is_empty() {
            self.close();
        }
        self.full
    }
}
