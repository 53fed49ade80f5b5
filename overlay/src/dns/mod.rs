//! Names: what a task asks its resolver, and what it hears.
//!
//! [`zone`] decides, purely; [`message`] is the wire format, purely; [`server`] serves a task's two
//! sockets; [`upstream`] asks the node's own name servers for whatever is not the cluster's.

pub mod message;
pub mod resolv_conf;
pub mod server;
pub mod upstream;
pub mod zone;

/// Seconds an answer may be kept: names follow tasks at once.
pub const TTL_S: u32 = 1;
