//! Whom a call comes from first, however many nodes have passed it on.

use api::model::NodeId;
use std::fmt;
use std::net::IpAddr;

/// The header in which a manager that passes a call on says whose it is.
pub const CALLER_HEADER: &str = "x-cluster-caller";

/// What a first caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// Somebody at a manager, or the manager itself.
    Operator,
    /// Somebody at a worker, or the worker itself.
    Worker,
    /// Somebody who is no member yet.
    Outside,
}

/// A call's first caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// What it is.
    pub kind: OriginKind,
    /// On which node; none from outside, and on a node without a cluster.
    pub node: Option<NodeId>,
    /// From which address, when it is from outside.
    pub addr: Option<IpAddr>,
}

impl Origin {
    /// At a manager.
    #[must_use]
    pub fn operator(node: Option<NodeId>) -> Self {
        Self {
            kind: OriginKind::Operator,
            node,
            addr: None,
        }
    }

    /// At a worker.
    #[must_use]
    pub fn worker(node: NodeId) -> Self {
        Self {
            kind: OriginKind::Worker,
            node: Some(node),
            addr: None,
        }
    }

    /// From outside.
    #[must_use]
    pub fn outside(addr: Option<IpAddr>) -> Self {
        Self {
            kind: OriginKind::Outside,
            node: None,
            addr,
        }
    }

    /// Reads the header.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "operator" => Some(Self::operator(Some(rest.parse().ok()?))),
            "worker" => Some(Self::worker(rest.parse().ok()?)),
            "outside" => Some(Self::outside(rest.parse().ok())),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.node, self.addr) {
            (OriginKind::Operator, Some(node), _) => write!(f, "operator:{node}"),
            (OriginKind::Operator, None, _) => f.write_str("operator:"),
            (OriginKind::Worker, Some(node), _) => write!(f, "worker:{node}"),
            (OriginKind::Worker, None, _) => f.write_str("worker:"),
            (OriginKind::Outside, _, Some(addr)) => write!(f, "outside:{addr}"),
            (OriginKind::Outside, _, None) => f.write_str("outside:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_survives_the_header() {
        let addr = "192.0.2.1".parse().ok();
        for origin in [
            Origin::operator(Some(NodeId(1))),
            Origin::worker(NodeId(2)),
            Origin::outside(addr),
            Origin::outside(None),
        ] {
            assert_eq!(Origin::parse(&origin.to_string()), Some(origin));
        }
        for bad in ["", "operator", "operator:", "worker:x", "root:1"] {
            assert_eq!(Origin::parse(bad), None, "{bad:?}");
        }
    }
}
