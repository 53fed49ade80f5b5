//! A node that has been well for a while, and the managers and the ways to them too, is not taken for down; and no
//! leader takes one for down before it has led for as long as a node may be silent.

use super::Invariant;
use crate::sight::Sight;
use api::model::NodeState;
use api::state::Event;
use std::collections::BTreeMap;

/// After a lost leader it takes so long at most until an agent has found the next, ms.
const WELL_MS: u64 = 15_000;
/// How long a node may be silent, ms.
const SILENCE_MS: u64 = 3_000;

#[derive(Debug, Default)]
pub struct State {
    /// When each term's leader began.
    began: BTreeMap<u64, u64>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "healthy nodes stay"
    }

    fn see(&mut self, sight: &Sight<'_>, now: u64, first: bool) -> Result<(), String> {
        match sight {
            Sight::GivenUp { node, well_for } if *well_for > WELL_MS => Err(format!(
                "node {node} was given up, though all has been well for {well_for} ms"
            )),
            Sight::Leads { term, .. } => {
                self.began.entry(*term).or_insert(now);
                Ok(())
            }
            Sight::Applied {
                entry,
                outcome: Ok(events),
                ..
            } if first => {
                let began = self.began.get(&entry.term).copied().unwrap_or(0);
                let down = events.iter().find_map(|event| match event {
                    Event::Node(id, Some(old), Some(new))
                        if old.status.state != NodeState::Down
                            && new.status.state == NodeState::Down =>
                    {
                        Some(id)
                    }
                    _ => None,
                });
                match down {
                    Some(node) if now < began + SILENCE_MS => Err(format!(
                        "node {node} was given up by a leader of {} ms",
                        now - began
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
