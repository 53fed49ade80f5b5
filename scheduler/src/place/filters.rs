//! The filters that depend on a node alone, and of how many nodes each says no.
//!
//! A service's constraints are read once, and then held against each node.

use api::model::{Availability, Constraint, ConstraintKey, Node, NodeId, NodeState};
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A constraint, ready to be compared.
pub(super) struct Test<'a> {
    pub constraint: &'a Constraint,
    value: Value<'a>,
}

enum Value<'a> {
    Id(Option<NodeId>),
    Net(Option<Ipv4Net>),
    Arch(&'a str),
    Text(&'a str),
}

impl<'a> Test<'a> {
    pub fn new(constraint: &'a Constraint) -> Self {
        let text = constraint.value.as_str();
        let value = match constraint.key {
            ConstraintKey::NodeId => Value::Id(text.parse().ok()),
            ConstraintKey::Ip => Value::Net(
                text.parse()
                    .ok()
                    .or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from)),
            ),
            ConstraintKey::Arch => Value::Arch(arch(text)),
            _ => Value::Text(text),
        };
        Self { constraint, value }
    }

    /// Whether it holds for a node. A label that is not there equals nothing.
    pub fn holds(&self, node: &Node) -> bool {
        let own = match &self.constraint.key {
            ConstraintKey::NodeId | ConstraintKey::Ip => None,
            ConstraintKey::Hostname => Some(node.description.hostname.as_str()),
            ConstraintKey::Role => Some(node.spec.role.as_str()),
            ConstraintKey::Os => Some(node.description.os.as_str()),
            ConstraintKey::Arch => Some(arch(&node.description.arch)),
            ConstraintKey::NodeLabel(key) => node.spec.labels.get(key).map(String::as_str),
            ConstraintKey::EngineLabel(key) => {
                node.description.engine_labels.get(key).map(String::as_str)
            }
        };
        let equal = match self.value {
            Value::Id(id) => id == Some(node.id),
            Value::Net(net) => net.is_some_and(|net| net.contains(&node.addr)),
            Value::Arch(text) | Value::Text(text) => own.is_some_and(|own| same(own, text)),
        };
        equal == self.constraint.equal
    }
}

/// As Swarm compares: whatever the case of the letters.
fn same(a: &str, b: &str) -> bool {
    let folded = |text: &'_ str| {
        text.chars()
            .flat_map(char::to_lowercase)
            .collect::<Vec<_>>()
    };
    a == b
        || a.eq_ignore_ascii_case(b)
        || (!(a.is_ascii() && b.is_ascii()) && folded(a) == folded(b))
}

/// One name for what `uname` and Go call differently.
fn arch(text: &str) -> &str {
    const ALIASES: [(&str, &str); 2] = [("amd64", "x86_64"), ("arm64", "aarch64")];
    ALIASES
        .iter()
        .find(|(go, _)| go.eq_ignore_ascii_case(text))
        .map_or(text, |(_, uname)| uname)
}

/// Whether a node takes tasks at all, and if not, what it is instead.
pub(super) fn takes_tasks(node: &Node) -> Result<(), &'static str> {
    match (node.status.state, node.spec.availability) {
        (NodeState::Down, _) => Err("down"),
        (NodeState::Unknown, _) => Err("not ready yet"),
        (NodeState::Ready, Availability::Pause) => Err("paused"),
        (NodeState::Ready, Availability::Drain) => Err("drained"),
        (NodeState::Ready, Availability::Active) => Ok(()),
    }
}

/// What a reason begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    Fails,
    Has,
    Is,
}

impl Verb {
    /// Of one node it fails, of several they fail.
    fn of(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Fails, 1) => "fails",
            (Self::Fails, _) => "fail",
            (Self::Has, 1) => "has",
            (Self::Has, _) => "have",
            (Self::Is, 1) => "is",
            (Self::Is, _) => "are",
        }
    }
}

/// Why nodes were turned down, and how many.
pub(super) struct Reasons {
    nodes: usize,
    counts: BTreeMap<(Verb, String), usize>,
}

impl Reasons {
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
            counts: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, verb: Verb, what: String, count: usize) {
        if count > 0 {
            *self.counts.entry((verb, what)).or_default() += count;
        }
    }

    /// `no suitable node: 2 of 3 nodes fail node.labels.disk==ssd; 1 of 3 nodes is drained`: the most frequent
    /// reason first.
    pub fn text(self) -> String {
        if self.nodes == 0 {
            return "no suitable node: the cluster has none".into();
        }
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        // Stable: among equals in the order of their texts.
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let clause = |((verb, what), count): &((Verb, String), usize)| {
            format!("{count} of {} nodes {} {what}", self.nodes, verb.of(*count))
        };
        let clauses: Vec<String> = counts.iter().map(clause).collect();
        format!("no suitable node: {}", clauses.join("; "))
    }
}
