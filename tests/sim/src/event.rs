//! What happens next.

use crate::control::Call;
use crate::raft::Message;
use agent::decisions::Exit;
use api::model::{NodeDescription, TaskId, TaskStatus};
use api::proto::Assignments;
use std::cmp::Ordering;

/// Something that happens.
#[derive(Debug)]
pub enum Event {
    /// A message of the consensus comes in.
    Raft {
        to: usize,
        from: usize,
        message: Message,
    },
    /// A sync has ended.
    Synced { host: usize, boot: u64 },
    /// A daemon's own time has come.
    Timer {
        host: usize,
        boot: u64,
        timer: Timer,
    },
    /// A session's next message may come in.
    Stream { session: u64, up: bool },
    /// A session's other end is told that it is over.
    Hangup { session: u64, up: bool },
    /// A user's call comes to a manager.
    Call { host: usize, call: Box<Call> },
    /// A container ends by itself, or is asked to.
    Exit {
        host: usize,
        power: u64,
        task: TaskId,
        pid: u32,
        exit: Exit,
    },
    /// A container's shim looks at its lease.
    Warden {
        host: usize,
        power: u64,
        task: TaskId,
        pid: u32,
    },
    /// A fault begins, or is over.
    Fault { place: usize, begins: bool },
    /// A user does something.
    Deed(usize),
    /// A daemon starts.
    Start { host: usize, boot: u64 },
    /// All is mended.
    Healed,
    /// Somebody looks whether it has settled.
    Look,
}

/// What a daemon does later.
#[derive(Debug)]
pub enum Timer {
    /// The consensus.
    Raft,
    /// The dispatcher looks at who is alive.
    Hub { term: u64 },
    /// The dispatcher sends what has changed.
    Send { term: u64 },
    /// The scheduler.
    Pass { term: u64 },
    /// Statuses are written.
    Gather { term: u64 },
    /// A proposal is not waited for any longer.
    Patience { index: u64, id: u64 },
    /// The agent looks for a manager.
    Seek,
    /// A connection could not be made.
    Refused { attempt: u64 },
    /// The agent acts on the assignments that came next.
    Act,
    /// The agent's heartbeat.
    Beat { session: u64 },
    /// The agent sends statuses.
    Tell,
    /// The agent's housekeeping.
    House,
    /// A step of a task is done.
    Step { task: TaskId, run: u64, step: Step },
}

/// What came of a step of a task.
#[derive(Debug)]
pub enum Step {
    Prepared,
    Refused,
    DelayOver,
    /// Once the node has a lease for it, if it needs one; waited for until then.
    Start {
        until: u64,
    },
    /// No later than then, if it needs a lease.
    Begin {
        before: Option<u64>,
        until: u64,
    },
    Exited(Exit),
    Clean,
}

/// What an agent says.
#[derive(Debug)]
pub enum Up {
    Hello(NodeDescription),
    /// With its number.
    Heartbeat(u64),
    /// With the batch's number.
    Statuses(u64, Vec<(TaskId, TaskStatus)>),
}

/// What a manager says.
#[derive(Debug)]
pub enum Down {
    Welcome,
    /// A heartbeat was heard, and this manager led then.
    Heard(u64),
    /// The managers have the statuses of all batches up to this one.
    Committed(u64),
    Assignments(Box<Assignments>),
    /// It is over; who leads, if it is known.
    End(Option<usize>),
}

/// An event and its time.
#[derive(Debug)]
pub struct Due {
    /// When.
    pub at: u64,
    /// Of two at the same time the one that was made first.
    pub order: u64,
    /// What.
    pub event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    // The greatest comes first out of a heap.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
