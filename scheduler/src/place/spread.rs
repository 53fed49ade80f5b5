//! Which of the nodes that will do: the one with the fewest tasks of the service, then with the fewest in all,
//! then the first by id.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Candidates of one service. A node is put back with its new counts, or it is out.
pub(super) struct Spread {
    heap: BinaryHeap<Reverse<Rank>>,
}

/// In the order that nodes are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Live tasks of the service on it.
    pub own: u32,
    /// Live tasks on it in all.
    pub all: u32,
    /// The node, by its place in the order of ids.
    pub site: u32,
}

impl Spread {
    pub fn new(ranks: impl Iterator<Item = Rank>) -> Self {
        // Made from a whole vector a heap costs one step a node.
        Self {
            heap: ranks.map(Reverse).collect::<Vec<_>>().into(),
        }
    }

    pub fn best(&mut self) -> Option<Rank> {
        self.heap.pop().map(|Reverse(rank)| rank)
    }

    /// After one more task was placed on it.
    pub fn put_back(&mut self, rank: Rank) {
        self.heap.push(Reverse(Rank {
            own: rank.own + 1,
            all: rank.all + 1,
            ..rank
        }));
    }
}
