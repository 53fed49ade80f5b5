//! openraft's network over gRPC: [`Network`] calls, [`RaftService`] answers; and how a manager comes in and
//! goes out.

mod client;
mod members;
mod server;

pub(crate) use client::Network;
pub(crate) use members::{join_raft, leave_raft};
pub(crate) use server::RaftService;
