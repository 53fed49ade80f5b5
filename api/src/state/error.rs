//! Why a transaction was refused.

use serde::{Deserialize, Serialize};

/// What kind of refusal, for whoever decides what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// What it speaks of is not there.
    NotFound,
    /// The name, id, address, VNI or port is taken.
    Taken,
    /// Something still needs it.
    InUse,
    /// The object has changed since it was read: read again and try again.
    Conflict,
    /// It breaks a rule of the state.
    Invalid,
}

/// A transaction that was refused, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApplyError {
    /// What kind.
    pub kind: ErrorKind,
    /// Names the object and the rule.
    pub message: String,
}

impl ApplyError {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}
