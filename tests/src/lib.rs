//! Labs of network namespaces, end-to-end tests and benches.
//!
//! A lab is a small network of hosts on one machine. Each host ("node") has a network, mount, UTS and
//! IPC namespace of its own, so that the default paths, ports and host names of `clusterd` and
//! `clusterctl` work in it exactly as on a real machine. Only the kernel is shared.
//!
//! Tests use [`Lab`]; people use the `lab` binary, which is a thin shell over the same code.
//!
//! Invariants:
//! - The record of a lab (`lab.json`) is on disk before anything of the lab exists, so that whatever
//!   crashes, [`lab::down`] finds and removes all of it.
//! - A process is only ever signalled by pid *and* start time, through a pidfd.

pub mod bench;
pub mod blackbox;
pub mod lab;
pub mod places;
pub mod procfs;
pub mod run;
pub mod scale;
pub mod wait;

pub use lab::{Builder, Lab, Node};
pub use run::Output;
pub use wait::wait_for;
