//! The nodes that are not as they should be.

use crate::time::{ago, spans};
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

/// "1 hour 30 minutes ahead".
pub fn clock_off(ahead_ms: i64) -> String {
    let ms = ahead_ms.unsigned_abs().saturating_add(500);
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let way = if ahead_ms < 0 { "behind" } else { "ahead" };
    format!("{} {way}", spans(seconds))
}

/// "1 hour 30 minutes ahead of the leader's".
fn clock_against(ahead_ms: i64, whose: &str) -> String {
    let of = if ahead_ms < 0 { "" } else { " of" };
    format!("{}{of} {whose}", clock_off(ahead_ms))
}

impl Trouble {
    fn who(&self) -> String {
        format!("node {} ({})", self.hostname, self.addr)
    }

    /// What to tell of one that is not ready.
    fn not_ready(&self, now: Timestamp) -> Option<String> {
        let (who, status) = (self.who(), self.status.as_ref()?);
        Some(match status.state {
            NodeState::Down => format!(
                "{who} went down {}: {}; its tasks are replaced elsewhere where they may be; see whether clusterd runs \
                 there, or, if it is gone for good, `clusterctl node rm {}`",
                ago(status.since.0, now),
                status.message,
                self.hostname
            ),
            _ => format!(
                "{who} has joined and not called yet; if that lasts, see whether clusterd runs there"
            ),
        })
    }

    /// What to tell of one whose clock is wrong.
    fn clock(&self) -> Option<String> {
        let off = clock_against(self.clock_ahead_ms?, "the leader's");
        Some(format!("the clock of {} is {off}; {CLOCKS}", self.who()))
    }
}

/// What to do about clocks.
const CLOCKS: &str = "certificates don't hold where clocks differ: set the one that is wrong (`timedatectl set-ntp true`)";

/// How many nodes there are, beside those that are named.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub ready: usize,
    pub not_ready: usize,
    pub wrong_clocks: usize,
}

/// What to tell of all of them; `leader` is its name.
pub fn warnings(troubles: &[Trouble], counts: Counts, leader: &str, now: Timestamp) -> Vec<String> {
    let mut told: Vec<String> = troubles.iter().filter_map(|t| t.not_ready(now)).collect();
    let more = counts.not_ready.saturating_sub(told.len());
    if more > 0 {
        told.push(format!("{more} more not ready; see `clusterctl node ls`"));
    }
    let clocks: Vec<String> = troubles.iter().filter_map(Trouble::clock).collect();
    let example = troubles.iter().find_map(|t| Some((t, t.clock_ahead_ms?)));
    // Of the ready nodes one leads.
    if let Some((first, ahead)) = example
        && counts.wrong_clocks > 1
        && counts.wrong_clocks * 2 > counts.ready.saturating_sub(1)
    {
        told.push(format!(
            "the clocks of {} of {} nodes differ from that of {leader}, which leads and whose own may be wrong; {} is {}; {CLOCKS}",
            counts.wrong_clocks,
            counts.ready,
            first.who(),
            clock_against(ahead, "it"),
        ));
        return told;
    }
    let more = counts.wrong_clocks.saturating_sub(clocks.len());
    told.extend(clocks);
    if more > 0 {
        told.push(format!(
            "{more} more clocks are wrong; see `clusterctl node ls`"
        ));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn trouble(number: u8, status: Option<NodeStatus>, clock_ahead_ms: Option<i64>) -> Trouble {
        Trouble {
            id: number.to_string(),
            hostname: format!("node{number}"),
            addr: format!("10.0.0.{number}"),
            status,
            clock_ahead_ms,
        }
    }

    fn counts(ready: usize, not_ready: usize, wrong_clocks: usize) -> Counts {
        Counts {
            ready,
            not_ready,
            wrong_clocks,
        }
    }

    #[test]
    fn what_is_wrong_with_a_node_is_told_by_its_name() {
        let now = Timestamp::from_millisecond(600_000).unwrap();
        let down = NodeStatus {
            state: NodeState::Down,
            message: "nothing was heard of it for 3004 ms".into(),
            since: api::model::Timestamp(480_000),
            ..NodeStatus::default()
        };
        let troubles = [
            trouble(2, Some(down), None),
            trouble(3, Some(NodeStatus::default()), None),
            trouble(4, None, Some(-5_400_000)),
            trouble(5, None, Some(61_000)),
        ];
        let told = warnings(&troubles, counts(7, 3, 3), "node1", now);
        let begins = [
            "node node2 (10.0.0.2) went down 2 minutes ago: nothing was heard of it for 3004 ms;",
            "node node3 (10.0.0.3) has joined and not called yet;",
            "1 more not ready;",
            "the clock of node node4 (10.0.0.4) is 1 hour 30 minutes behind the leader's;",
            "the clock of node node5 (10.0.0.5) is 1 minute 1 second ahead of the leader's;",
            "1 more clocks are wrong;",
        ];
        assert_eq!(told.len(), begins.len(), "{told:#?}");
        for (told, begin) in told.iter().zip(begins) {
            assert!(told.starts_with(begin), "{told}");
        }
        assert!(warnings(&[], counts(3, 0, 0), "node1", now).is_empty());
    }

    #[test]
    fn where_most_differ_it_may_be_the_leaders() {
        let off = [
            trouble(2, None, Some(3_600_000)),
            trouble(3, None, Some(3_600_000)),
        ];
        let told = warnings(&off, counts(3, 0, 2), "node1", NOW);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(
            told[0]
                .starts_with("the clocks of 2 of 3 nodes differ from that of node1, which leads"),
            "{told:?}"
        );
        // Of two nodes nobody knows whose it is.
        let told = warnings(&off[..1], counts(2, 0, 1), "node1", NOW);
        assert!(told[0].starts_with("the clock of node node2"), "{told:?}");
    }
}
