//! The filters, and how many nodes each turned down.

use api::model::{Availability, Constraint, ConstraintKey, Node, NodeState, Placement};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Why nodes were turned down, and how many.
pub(super) struct Reasons {
    nodes: usize,
    counts: Vec<(String, usize)>,
}

impl Reasons {
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
            counts: Vec::new(),
        }
    }

    pub fn add(&mut self, why: String) {
        match self.counts.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((why, 1)),
        }
    }

    /// `no suitable node: 1 of 2 nodes fails node.labels.disk==ssd; 1 of 2 nodes is drained`
    pub fn text(&self) -> String {
        if self.nodes == 0 {
            return "no suitable node: the cluster has none".into();
        }
        let mut counts = self.counts.clone();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let clauses: Vec<String> = counts
            .iter()
            .map(|(why, count)| {
                format!("{count} of {} nodes {}", self.nodes, agreeing(why, *count))
            })
            .collect();
        format!("no suitable node: {}", clauses.join("; "))
    }
}

/// "fails" of one node is "fail" of several.
fn agreeing(why: &str, count: usize) -> String {
    let plural = [("fails ", "fail "), ("is ", "are "), ("has ", "have ")];
    match plural
        .iter()
        .find_map(|(one, many)| Some((many, why.strip_prefix(one)?)))
    {
        Some((many, rest)) if count != 1 => format!("{many}{rest}"),
        _ => why.to_owned(),
    }
}

/// The first filter that turns the node down.
pub(super) fn check(node: &Node, placement: &Placement) -> Result<(), String> {
    match node.status.state {
        NodeState::Ready => {}
        NodeState::Down => return Err("is down".into()),
        NodeState::Unknown => return Err("is not ready yet".into()),
    }
    match node.spec.availability {
        Availability::Active => {}
        Availability::Pause => return Err("is paused".into()),
        Availability::Drain => return Err("is drained".into()),
    }
    match placement
        .constraints
        .iter()
        .find(|constraint| !holds(node, constraint))
    {
        Some(constraint) => Err(format!("fails {constraint}")),
        None => Ok(()),
    }
}

/// Whether a constraint holds for a node. A label that is not there equals nothing.
fn holds(node: &Node, constraint: &Constraint) -> bool {
    let value = constraint.value.as_str();
    let same = |text: &str| text.eq_ignore_ascii_case(value);
    let equal = match &constraint.key {
        ConstraintKey::NodeId => node.id.to_string() == value,
        ConstraintKey::Hostname => same(&node.description.hostname),
        ConstraintKey::Ip => ip_matches(node.addr, value),
        ConstraintKey::Role => node.spec.role.as_str() == value,
        ConstraintKey::Os => same(&node.description.os),
        ConstraintKey::Arch => arch(&node.description.arch) == arch(value),
        ConstraintKey::NodeLabel(key) => node.spec.labels.get(key).is_some_and(|own| own == value),
        ConstraintKey::EngineLabel(key) => node
            .description
            .engine_labels
            .get(key)
            .is_some_and(|own| own == value),
    };
    equal == constraint.equal
}

fn ip_matches(addr: Ipv4Addr, value: &str) -> bool {
    match (value.parse::<Ipv4Addr>(), value.parse::<Ipv4Net>()) {
        (Ok(one), _) => one == addr,
        (_, Ok(net)) => net.contains(&addr),
        _ => false,
    }
}

/// One name for what `uname` and Go call differently.
fn arch(text: &str) -> String {
    match text.to_ascii_lowercase().as_str() {
        "x86_64" | "amd64" => "x86_64".into(),
        "aarch64" | "arm64" => "aarch64".into(),
        other => other.into(),
    }
}
