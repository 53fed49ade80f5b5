//! What can go wrong, in words that name the container and the cause.

use std::{io, path::PathBuf};

/// An error of the runtime. Every message names the container or the path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The id can't be a container's name.
    #[error("container id {id:?} is not valid: {why}")]
    InvalidId {
        /// The id as given.
        id: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The specification was refused before anything was done.
    #[error("container {id}: {field}: {why}")]
    InvalidSpec {
        /// The container.
        id: String,
        /// The field of the specification.
        field: &'static str,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// The container is already there.
    #[error("container {0} already exists: delete it first, or use another id")]
    Exists(String),
    /// There is no such container.
    #[error("container {0} does not exist on this node")]
    NotFound(String),
    /// The container is there but no process of it runs.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The OCI runtime refused to create or start the container or process.
    #[error("container {id}: {message}")]
    Start {
        /// The container.
        id: String,
        /// The exit code by shell convention: 127 not found, 126 not
        /// executable, 128 anything else.
        code: i32,
        /// The OCI error text.
        message: String,
    },
    /// The shim or the exec helper ended without an answer.
    #[error("container {id}: the {what} process ended without an answer: {detail}")]
    ShimLost {
        /// The container.
        id: String,
        /// `shim` or `exec helper`.
        what: &'static str,
        /// How it ended, and what it wrote.
        detail: String,
    },
    /// The shim's program can't be started.
    #[error("container {id}: starting {program}: {source}", program = program.display())]
    Spawn {
        /// The container.
        id: String,
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or a system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A record in the run directory can't be read.
    #[error("{path}: not a valid record: {source}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A teardown went on past errors; these are all of them.
    #[error("container {id} was not removed completely: {}", errors.join("; "))]
    Teardown {
        /// The container.
        id: String,
        /// Every error, in the order met.
        errors: Vec<String>,
    },
    /// A signal name or number that doesn't exist.
    #[error("{0:?} is not a signal: use a name like SIGTERM or a number from 1 to 64")]
    InvalidSignal(String),
}

/// The runtime's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Gives an I/O error its object.
pub(crate) trait IoContext<T> {
    /// Adds what was being done.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            what: what(),
            source: source.into(),
        })
    }
}
