//! A session between an agent and a manager: an ordered connection, which stalls while its way is cut and breaks
//! when one of its ends is gone.

use crate::event::{Down, Up};
use std::collections::VecDeque;

/// A session.
#[derive(Debug)]
pub struct Session {
    /// The agent's machine.
    pub agent: usize,
    /// Which of its daemons.
    pub agent_boot: u64,
    /// The manager's machine.
    pub manager: usize,
    /// Which of its daemons.
    pub manager_boot: u64,
    /// On its way to the manager.
    pub up: VecDeque<Up>,
    /// On its way to the agent.
    pub down: VecDeque<Down>,
    /// The agent has not ended it.
    pub agent_open: bool,
    /// The manager has not.
    pub manager_open: bool,
    /// When the next message may come in at the earliest, up and down.
    pub next: (u64, u64),
    /// Since when nothing comes through, as the agent's keepalive sees it.
    pub silent: Option<u64>,
    /// How long that may last, ms.
    pub keepalive: u64,
}
