//! Why a message can't be taken.

use std::fmt;

/// A message that can't be taken. The sender is broken, hostile, or of a version that knows more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConvertError {
    /// The protobuf message or enum.
    pub message: &'static str,
    /// Its field; empty when it is the whole that is wrong.
    pub field: &'static str,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It has to be there.
    #[error("absent, or of a kind that this version doesn't know")]
    Absent,
    /// An enum number without a meaning here.
    #[error("unknown value {0}; the sender's version may know more")]
    Enum(i32),
    /// An id that is not 16 bytes long.
    #[error("an id has 16 bytes, this one has {0}")]
    Id(usize),
    /// No port.
    #[error("{0} is no port: 1 to 65535 are")]
    Port(u32),
    /// No subnet.
    #[error("{0:?} is no IPv4 subnet such as 10.0.0.0/20")]
    Subnet(String),
    /// A number too large.
    #[error("{value} is more than {most}")]
    TooLarge {
        /// The number.
        value: u64,
        /// The largest that is taken.
        most: u64,
    },
    /// The same key twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// Two fields that come together or not at all.
    #[error("comes together with {0} or not at all")]
    Without(&'static str),
    /// A text that breaks a rule of its own.
    #[error("{0}")]
    Text(String),
    /// Bytes that are no protobuf.
    #[error("not readable: {0}")]
    Bytes(#[from] prost::DecodeError),
}

impl ConvertError {
    pub(super) fn new(message: &'static str, field: &'static str, problem: Problem) -> Self {
        Self {
            message,
            field,
            problem,
        }
    }

    /// For an enum by its Rust path, of which the last part is its protobuf name.
    pub(super) fn of_enum(path: &'static str, value: i32) -> Self {
        Self::new(
            path.rsplit("::").next().unwrap_or(path),
            "",
            Problem::Enum(value),
        )
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)?;
        if !self.field.is_empty() {
            write!(f, ".{}", self.field)?;
        }
        write!(f, ": {}", self.problem)
    }
}
