//! Switches that bring a historic bug back, to see that it is seen. One at a time, for this thread. Those of what is
//! modelled here are always there; those of the product only with the feature `sabotage`.

use std::cell::Cell;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A leader takes an entry for committed once it has it itself.
    CommittedWithoutQuorum,
    /// An entry counts before it is on the disk.
    AcknowledgedBeforeSync,
    /// A manager votes for whoever asks.
    TwoVotesInOneTerm,
    /// A leader is read from without asking whether it leads still.
    ReadWithoutAsking,
    /// A leader acknowledges heartbeats without asking whether it leads still: the nodes' leases go on.
    BeatsAcknowledgedUnasked,
    /// An agent begins an exclusive task by the lease alone, whether the managers still want it or not.
    ExclusiveBegunUnasked,
    /// A leader that was replaced dispatches to nodes that come to it.
    StaleLeaderDispatches,
    /// A change is not told to who follows.
    WatchEventLost,
    /// The log is never cut.
    NothingIsCompacted,
    /// In the product's own code.
    #[cfg(feature = "sabotage")]
    Product(api::sabotage::Bug),
}

impl Bug {
    /// All that can be brought back.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::CommittedWithoutQuorum,
            Self::AcknowledgedBeforeSync,
            Self::TwoVotesInOneTerm,
            Self::ReadWithoutAsking,
            Self::BeatsAcknowledgedUnasked,
            Self::ExclusiveBegunUnasked,
            Self::StaleLeaderDispatches,
            Self::WatchEventLost,
            Self::NothingIsCompacted,
        ];
        #[cfg(feature = "sabotage")]
        all.extend(api::sabotage::Bug::ALL.map(Self::Product));
        all.sort_unstable();
        all
    }
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
    #[cfg(feature = "sabotage")]
    api::sabotage::set(match bug {
        Some(Bug::Product(bug)) => Some(bug),
        _ => None,
    });
}
