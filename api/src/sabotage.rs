//! Switches that bring historic bugs back, so that the simulator can show that it sees them. Only there with the
//! feature `sabotage`, which no build of the product has. One at a time, for the thread that sets it.

use std::cell::Cell;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The address of a task that has ended stays held.
    AddressLeaked,
    /// An address that somebody holds is given to another.
    AddressLeasedTwice,
    /// A status that comes late takes a task back.
    StatusMovesBack,
    /// An update forgets the version that tasks still run.
    VersionForgotten,
    /// A slot's next task begins while the one before it has not ended.
    SlotStartsEarly,
    /// What fails is started again at once, for ever.
    RestartStorm,
    /// Tasks are given to nodes that are full: whose ports are taken.
    CapacityExceeded,
    /// Ended tasks are kept for ever.
    HistoryUnbounded,
    /// The endpoint of a task that has ended stays.
    EndpointLeftBehind,
    /// A node is told secrets that no task of it uses.
    SecretToWrongNode,
    /// A new leader gives nodes no time to find it.
    NewLeaderImpatient,
    /// What a node that is down may still run is forgotten.
    LeaseForgotten,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::AddressLeaked,
        Self::AddressLeasedTwice,
        Self::StatusMovesBack,
        Self::VersionForgotten,
        Self::SlotStartsEarly,
        Self::RestartStorm,
        Self::CapacityExceeded,
        Self::HistoryUnbounded,
        Self::EndpointLeftBehind,
        Self::SecretToWrongNode,
        Self::NewLeaderImpatient,
        Self::LeaseForgotten,
    ];
}

thread_local! {
    static ON: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether a bug is back.
#[must_use]
pub fn has(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

/// Brings a bug back, or none.
pub fn set(bug: Option<Bug>) {
    ON.set(bug);
}
