//! OCI containers under a shim that outlives the daemon: run, stop, exec, logs.
//!
//! ```text
//! daemon ── re-exec ──► shim (one a container, one thread) ── libcontainer ──► the container's init
//!    ▲                    │ owns its pipes, writes its log, holds descriptors, reaps
//!    └── pidfd, files ◄───┘ leaves the exit status in a file
//! ```
//!
//! Everything about a container is in its folder below the run folder, on a tmpfs: a new daemon finds all
//! containers there, and after a reboot none.

mod client;
mod cutoff;
mod error;
mod exec;
pub mod lease;
pub mod logs;
pub mod memory;
mod oci;
mod process;
mod record;
mod shim;
mod signal;
mod spec;
mod start;

pub use client::{ContainerState, ExitStatus, Runtime, RuntimeConfig, ShimCommand, Started};
pub use error::{Error, Result};
pub use exec::{ExecSession, Signaller};
pub use shim::shim_main;
pub use signal::Signal;
pub use spec::{
    ContainerSpec, ExecSpec, LogConfig, Mount, MountKind, Resources, User, validate, validate_id,
    validate_process,
};
