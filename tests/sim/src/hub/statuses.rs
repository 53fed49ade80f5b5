//! Statuses of all sessions into few transactions, as the product's are: what comes in while one is on its way is the
//! next one; and who reported is told.

use super::GATHER_MS;
use crate::event::{Down, Timer};
use crate::manager::{Unmade, Waiter};
use crate::raft::By;
use crate::world::World;
use api::model::{NodeId, TaskId, TaskStatus};
use api::state::{Op, Transaction};
use manager::decisions::news;

const RETRY_MS: u64 = 200;

/// A batch of statuses.
#[derive(Debug)]
pub(super) struct Report {
    pub node: NodeId,
    pub session: u64,
    pub sequence: u64,
    pub statuses: Vec<(TaskId, TaskStatus)>,
}

impl World {
    pub(crate) fn gather(&mut self, host: usize, term: u64) {
        let at = self.clock(host);
        if self.lead_term(host) != term {
            return;
        }
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        let state = manager.state.clone();
        let Some(hub) = manager.hub() else { return };
        let mut ops = std::mem::take(&mut hub.retry);
        if ops.is_empty() {
            let reports = std::mem::take(&mut hub.reports);
            let all = reports.iter();
            hub.writing = all.map(|r| (r.session, r.sequence)).collect();
            let all = reports.iter();
            ops = news(&state, all.map(|r| (r.node, r.statuses.as_slice())));
        }
        if ops.is_empty() {
            hub.gathering = false;
            self.say_written(host);
            return;
        }
        let change = Transaction {
            at,
            ops: ops.clone(),
        };
        self.propose(host, By::Statuses, change, Waiter::Statuses(ops));
    }

    pub(crate) fn statuses_written(
        &mut self,
        host: usize,
        ops: Vec<Op>,
        outcome: &Result<(u64, u64), Unmade>,
    ) {
        let term = self.lead_term(host);
        let Some(hub) = self.hub(host) else { return };
        let wait = match outcome {
            Err(Unmade::NotLeader | Unmade::Unknown) => {
                hub.retry = ops;
                RETRY_MS
            }
            _ => {
                self.say_written(host);
                let Some(hub) = self.hub(host) else { return };
                if hub.reports.is_empty() {
                    hub.gathering = false;
                    return;
                }
                GATHER_MS
            }
        };
        self.later(host, wait, Timer::Gather { term });
    }

    fn say_written(&mut self, host: usize) {
        let written = self.hub(host).map(|hub| std::mem::take(&mut hub.writing));
        for (session, sequence) in written.unwrap_or_default() {
            self.push_down(session, Down::Committed(sequence));
        }
    }
}
