//! The network: who hears whom, and what becomes of messages.

use crate::dice::Dice;

/// The network.
#[derive(Debug, Clone)]
pub struct Net {
    /// How many faults lie between two, in that direction.
    cut: Vec<Vec<u32>>,
    /// Percent of messages that are lost.
    pub loss: u64,
    /// Percent that come twice.
    pub twice: u64,
    /// Milliseconds that a message may take in addition.
    pub delay: u64,
}

impl Net {
    /// Among so many machines, whole.
    #[must_use]
    pub fn new(hosts: usize) -> Self {
        Self {
            cut: vec![vec![0; hosts]; hosts],
            loss: 0,
            twice: 0,
            delay: 0,
        }
    }

    /// Cuts a way, or mends what was cut.
    pub fn cut(&mut self, from: usize, to: usize, cut: bool) {
        if let Some(ways) = self.cut.get_mut(from).and_then(|row| row.get_mut(to)) {
            *ways = if cut {
                *ways + 1
            } else {
                ways.saturating_sub(1)
            };
        }
    }

    /// Whether something sent here comes there.
    #[must_use]
    pub fn hears(&self, from: usize, to: usize) -> bool {
        from == to || self.cut[from][to] == 0
    }

    /// Whether two can talk.
    #[must_use]
    pub fn talk(&self, a: usize, b: usize) -> bool {
        self.hears(a, b) && self.hears(b, a)
    }

    /// How long something takes, ms.
    pub fn takes(&self, dice: &mut Dice) -> u64 {
        1 + dice.below(3) + dice.below(self.delay + 1)
    }
}
