//! What can go wrong, and what it means for whoever asked.

use crate::types::{Peer, TypeConfig};
use api::state::ApplyError;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use std::io;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Settings that make no sense.
    #[error("the settings of Raft make no sense: {0}")]
    Settings(String),
    /// The disk, or what is on it.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The log begins after what the snapshots hold.
    #[error(
        "the log begins after entry {purged}, and the snapshots reach only entry {snapshot}{}; remove this manager's state and join the cluster again, or restore a backup",
        listed(damaged)
    )]
    Gap {
        /// The log's entries up to this one are gone.
        purged: u64,
        /// The last entry in a snapshot that is whole; 0 without one.
        snapshot: u64,
        /// What is wrong with others.
        damaged: Vec<io::Error>,
    },
    /// openraft itself.
    #[error("the consensus can't be started from what is in {0}")]
    Raft(String),
}

fn listed(errors: &[io::Error]) -> String {
    errors.iter().map(|error| format!(" ({error})")).collect()
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The state refused it: it was not done, and won't be.
    #[error(transparent)]
    Refused(#[from] ApplyError),
    /// This manager does not lead: it was not done.
    #[error("this manager does not lead{}", leader.as_ref().map(|l| format!("; {l} does")).unwrap_or_default())]
    NotLeader {
        /// Who does, if one is known.
        leader: Option<Peer>,
    },
    /// Too large for the log: it was not done.
    #[error("the change is too large: {bytes} bytes, {limit} are allowed; make it in parts")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// No majority of managers took it in time, or this one is closing. Where it says so, it may have been
    /// done all the same.
    #[error("{0}")]
    Unavailable(String),
}

/// No majority in time.
pub(crate) fn unconfirmed() -> ProposeError {
    ProposeError::Unavailable(format!(
        "no majority of the managers confirmed the change within {} s; it may still be made",
        crate::handle::PATIENCE.as_secs()
    ))
}

pub(crate) fn closing(error: impl std::fmt::Display) -> ProposeError {
    ProposeError::Unavailable(format!("this manager's consensus has ended: {error}"))
}

/// Why the consensus has ended, as a user should read it: the store's own words. openraft puts its own and
/// the type's name before them, and shows them as text alone.
pub(crate) fn cause(fatal: &Fatal<TypeConfig>) -> String {
    let text = fatal.to_string();
    match text.split_once("std::io::error::Error: ") {
        Some((_, said)) => said.to_owned(),
        None => text,
    }
}

/// Of a write that is not to be tried again.
pub(crate) fn write_failed(
    error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader { leader: forward.leader_node }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => ProposeError::Unavailable(
            "the lead passed to another manager meanwhile; the change may have been made all the same".into(),
        ),
        RaftError::APIError(other) => ProposeError::Unavailable(other.to_string()),
        RaftError::Fatal(fatal) => closing(cause(&fatal)),
    }
}
