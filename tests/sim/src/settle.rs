//! After everything is mended the world has to come to rest, and as it should be.

use crate::event::Event;
use crate::invariants::converges;
use crate::world::World;

/// How often it is looked at, ms.
const EVERY_MS: u64 = 500;
/// How long it may take, ms: longer than the longest delay before a restart, than a node's way to the new leader,
/// and than a container that does not want to stop.
const BOUND_MS: u64 = 60_000;
/// How long it has to stay so, ms.
const CALM_MS: u64 = 1_500;

impl World {
    pub(crate) fn look(&mut self) {
        let open = converges::open(self);
        let (now, mended) = (self.now, self.script.healed);
        match (open, self.settled) {
            (None, Some(since)) if now >= since + CALM_MS => {
                self.book.count("worlds that came to rest");
                return;
            }
            (None, None) => self.settled = Some(now),
            (None, Some(_)) => {}
            (Some(what), since) => {
                self.settled = None;
                if now >= mended + BOUND_MS {
                    let moved = since.map_or(String::new(), |_| " (it was, and moved on)".into());
                    self.book
                        .broken("everything converges", format!("{what}{moved}"));
                    return;
                }
            }
        }
        self.at(now + EVERY_MS, Event::Look);
    }

    /// Whether it has come to rest.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.book.broken.is_some()
            || self
                .settled
                .is_some_and(|since| self.now >= since + CALM_MS)
    }
}
