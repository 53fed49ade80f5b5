//! A node that has been well for a while, and the managers and the ways to them too, is not taken for down.

use super::Invariant;
use crate::sight::Sight;

/// After a lost leader it takes so long at most until an agent has found the next, ms.
const WELL_MS: u64 = 15_000;

#[derive(Debug, Default)]
pub struct State;

impl Invariant for State {
    fn name(&self) -> &'static str {
        "healthy nodes stay"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        match sight {
            Sight::GivenUp { node, well_for } if *well_for > WELL_MS => Err(format!(
                "node {node} was given up, though all has been well for {well_for} ms"
            )),
            _ => Ok(()),
        }
    }
}
