//! What can be seen of a world: what the invariants are held against.

use crate::raft::{Entry, Log};
use agent::decisions::Desired;
use api::model::{NodeId, ServiceId, TaskId};
use api::state::{ApplyError, Event, State};
use bytes::Bytes;
use raft_store::Watched;
use scheduler::Decision;
use std::collections::BTreeSet;

/// One thing seen.
#[derive(Debug)]
pub enum Sight<'a> {
    /// A manager has started, with what is applied by then.
    Started {
        /// Which.
        host: usize,
        /// Index.
        applied: u64,
    },
    /// A manager takes itself for the leader.
    Leads {
        /// Which.
        host: usize,
        /// In which term.
        term: u64,
        /// With what.
        log: &'a Log,
    },
    /// A manager has applied an entry.
    Applied {
        /// Which.
        host: usize,
        /// What.
        entry: &'a Entry,
        /// What has changed.
        outcome: &'a Result<Vec<Event>, ApplyError>,
        /// The state then.
        state: &'a State,
    },
    /// A manager has taken a snapshot in place of entries.
    Installed {
        /// Which.
        host: usize,
        /// Of its last entry.
        index: u64,
        /// The state then.
        state: &'a State,
    },
    /// A manager's changes as one sees them who follows.
    Watched {
        /// Which.
        host: usize,
        /// What.
        watched: &'a Watched,
        /// The state's.
        revision: u64,
    },
    /// So long is a manager's log.
    Logged {
        /// Which.
        host: usize,
        /// Its length.
        entries: usize,
    },
    /// A user was told that a write is made.
    Acknowledged {
        /// Of its entry.
        index: u64,
        /// Of its entry.
        id: u64,
        /// Of who acknowledges it: who is elected for a later one has it.
        term: u64,
    },
    /// A user has read.
    Read {
        /// What was acknowledged before it was asked.
        after: u64,
        /// The revision that was read.
        saw: u64,
    },
    /// The scheduler has decided.
    Decided {
        /// From what.
        state: &'a State,
        /// What.
        decision: &'a Decision,
    },
    /// A node is told something.
    Told {
        /// Which.
        node: NodeId,
        /// The sum of all that its session was told.
        told: &'a Desired,
        /// The secrets and configs whose content it was told.
        contents: &'a BTreeSet<Bytes>,
        /// The state it was made from.
        state: &'a State,
        /// Its revision.
        applied: u64,
        /// All that has changed up to there has been told.
        whole: bool,
    },
    /// An agent has taken assignments.
    Took {
        /// Its node.
        node: NodeId,
        /// What it knows by now.
        desired: &'a Desired,
        /// The manager's term.
        term: u64,
        /// A full message.
        full: bool,
    },
    /// A container runs.
    Runs {
        /// Where.
        node: NodeId,
        /// Whose.
        task: TaskId,
        /// Whose.
        service: ServiceId,
        /// Which.
        slot: u32,
        /// By its own version it must not run beside another of its slot.
        exclusive: bool,
    },
    /// A node starts a task again, while no manager can be reached.
    Again {
        /// Where.
        node: NodeId,
        /// Which.
        task: TaskId,
        /// It was told that the managers know of its end.
        told: bool,
    },
    /// A container runs no more.
    Ends {
        /// Whose.
        task: TaskId,
    },
    /// A node is said to be down.
    GivenUp {
        /// Which.
        node: NodeId,
        /// For so long nothing has ailed it or the way to the managers, ms.
        well_for: u64,
    },
}
