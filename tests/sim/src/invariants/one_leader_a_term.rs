//! At most one manager leads in a term.

use super::Invariant;
use crate::sight::Sight;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct State {
    leaders: BTreeMap<u64, usize>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "one leader a term"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        if let Sight::Leads { host, term, .. } = sight {
            let leader = *self.leaders.entry(*term).or_insert(*host);
            if leader != *host {
                return Err(format!(
                    "managers {leader} and {host} both lead term {term}"
                ));
            }
        }
        Ok(())
    }
}
