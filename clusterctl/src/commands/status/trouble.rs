//! The nodes that are not as they should be.

use crate::time::{ago, span};
use anyhow::Result;
use api::convert;
use api::model::{NodeState, NodeStatus};
use api::proto;
use jiff::Timestamp;
use serde::Serialize;

/// A node that is not ready, or whose clock is wrong.
#[derive(Debug, Serialize)]
pub struct Trouble {
    pub id: String,
    pub hostname: String,
    pub addr: String,
    /// None where it is ready.
    pub status: Option<NodeStatus>,
    /// How far its clock is ahead of the leader's, where that is too much; behind, below 0.
    pub clock_ahead_ms: Option<i64>,
}

impl TryFrom<proto::NodeTrouble> for Trouble {
    type Error = anyhow::Error;

    fn try_from(trouble: proto::NodeTrouble) -> Result<Self> {
        Ok(Self {
            id: convert::node_id(&trouble.node_id)?.to_string(),
            hostname: trouble.hostname,
            addr: trouble.addr,
            status: trouble.status.map(NodeStatus::try_from).transpose()?,
            clock_ahead_ms: clock_ahead(trouble.clock_ahead_ms),
        })
    }
}

/// As clusterd says it: 0 where the clock is right.
pub fn clock_ahead(ms: i64) -> Option<i64> {
    Some(ms).filter(|ms| *ms != 0)
}

/// "1 hour ahead".
pub fn clock_off(ahead_ms: i64) -> String {
    let seconds =
        i64::try_from(ahead_ms.unsigned_abs().saturating_add(500) / 1_000).unwrap_or(i64::MAX);
    let way = if ahead_ms < 0 { "behind" } else { "ahead" };
    format!("{} {way}", span(seconds))
}

impl Trouble {
    /// What to tell of it.
    pub fn warnings(&self, now: Timestamp) -> impl Iterator<Item = String> {
        let who = format!("node {} ({})", self.hostname, self.addr);
        let status = self.status.as_ref().map(|status| match status.state {
            NodeState::Down => format!(
                "{who} went down {}: {}; its tasks are replaced elsewhere where they may be",
                ago(status.since.0, now),
                status.message
            ),
            _ => format!(
                "{who} has joined, and nothing was heard of it since: is clusterd running there?"
            ),
        });
        let clock = self.clock_ahead_ms.map(|ahead| {
            let than = if ahead < 0 { "" } else { " of" };
            format!(
                "the clock of {who} is {}{than} the leader's; certificates don't hold where clocks differ: set the one that is wrong (`timedatectl set-ntp true`)",
                clock_off(ahead)
            )
        });
        status.into_iter().chain(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_node_is_told_by_its_name() {
        let now = Timestamp::from_millisecond(600_000).unwrap();
        let trouble = |status, clock_ahead_ms| Trouble {
            id: "2".into(),
            hostname: "node2".into(),
            addr: "10.0.0.2".into(),
            status,
            clock_ahead_ms,
        };
        let told = |trouble: Trouble| trouble.warnings(now).collect::<Vec<_>>();
        let down = NodeStatus {
            state: NodeState::Down,
            message: "nothing was heard of it for 3004 ms".into(),
            since: api::model::Timestamp(480_000),
            ..NodeStatus::default()
        };
        let both = told(trouble(Some(down), Some(-3_600_000)));
        assert_eq!(both.len(), 2);
        assert!(
            both[0].starts_with(
                "node node2 (10.0.0.2) went down 2 minutes ago: nothing was heard of it for 3004 ms;"
            ),
            "{both:?}"
        );
        assert!(
            both[1]
                .starts_with("the clock of node node2 (10.0.0.2) is 1 hour behind the leader's;"),
            "{both:?}"
        );
        let ahead = told(trouble(None, Some(61_000)));
        assert!(
            ahead[0].contains("is 1 minute ahead of the leader's"),
            "{ahead:?}"
        );
        let unknown = told(trouble(Some(NodeStatus::default()), None));
        assert!(
            unknown[0].contains("is clusterd running there?"),
            "{unknown:?}"
        );
    }
}
