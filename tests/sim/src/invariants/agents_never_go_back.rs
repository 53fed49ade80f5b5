//! A leader that was replaced dispatches nothing that an agent acts on: what a node has taken is never older than
//! what it had taken before.

use super::Invariant;
use crate::sight::Sight;
use api::model::NodeId;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct State {
    taken: BTreeMap<NodeId, u64>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "agents never go back"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        if let Sight::Took {
            node,
            desired,
            term,
            ..
        } = sight
        {
            let taken = self.taken.entry(*node).or_default();
            if desired.revision < *taken {
                return Err(format!(
                    "node {node} takes revision {} of a leader of term {term} after {taken}",
                    desired.revision
                ));
            }
            *taken = desired.revision;
        }
        Ok(())
    }
}
