//! What users wish for is changed by users alone.

use super::Invariant;
use crate::raft::By;
use crate::sight::Sight;
use api::state::Event;

#[derive(Debug, Default)]
pub struct State;

impl Invariant for State {
    fn name(&self) -> &'static str {
        "specs are the users'"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        let Sight::Applied {
            entry,
            outcome: Ok(events),
            ..
        } = sight
        else {
            return Ok(());
        };
        if entry.by == By::User {
            return Ok(());
        }
        for event in events {
            let changed = match event {
                Event::Service(_, old, new) => {
                    old.as_ref().map(|s| &s.spec) != new.as_ref().map(|s| &s.spec)
                }
                Event::Node(_, old, new) => {
                    old.as_ref().map(|n| &n.spec) != new.as_ref().map(|n| &n.spec)
                }
                Event::Network(_, _, new) => new.is_some(),
                Event::Blob(_, _, new) => new.is_some(),
                Event::Cluster(..) | Event::Stack(..) => true,
                Event::Task(..) | Event::Template(..) => false,
            };
            if changed {
                return Err(format!(
                    "entry {}, of {:?}, changes what a user wished for: {event:?}",
                    entry.index, entry.by
                ));
            }
        }
        Ok(())
    }
}
