//! The leader's loop, as the product's is: watch, gather, decide, propose one after the other.

use crate::event::Timer;
use crate::manager::{Unmade, Waiter};
use crate::raft::By;
use crate::sight::Sight;
use crate::world::World;
use api::model::Timestamp;
use api::state::Transaction;
use manager::decisions::{matters, sweep};
use raft_store::{Watched, Watcher};
use std::collections::VecDeque;

const DEBOUNCE_MS: u64 = 25;
const RESYNC_MS: u64 = 30_000;
const PAUSE_MIN_MS: u64 = 20;
const PAUSE_MAX_MS: u64 = 1_000;

/// The loop.
#[derive(Debug)]
pub struct Passing {
    watcher: Watcher,
    /// A pass is under way: what of it is still to be proposed.
    queue: Option<VecDeque<Transaction>>,
    again: bool,
    /// Something of an earlier pass may still be made.
    doubt: bool,
    next: Option<Timestamp>,
    last: Option<u64>,
    pause: u64,
    wake: Option<u64>,
}

impl Passing {
    /// Follows from now on.
    #[must_use]
    pub fn new(watcher: Watcher) -> Self {
        Self {
            watcher,
            queue: None,
            again: false,
            doubt: true,
            next: None,
            last: None,
            pause: PAUSE_MIN_MS,
            wake: None,
        }
    }
}

impl World {
    fn passing(&mut self, host: usize) -> Option<(u64, &mut Passing)> {
        let lead = self.hosts[host].manager.as_mut()?.lead.as_mut()?;
        Some((lead.term, lead.pass.as_mut()?))
    }

    /// Something was applied: whoever of the leader's watches looks at it in a moment.
    pub(crate) fn wake_leader(&mut self, host: usize) {
        self.wake_hub(host);
        let now = self.now;
        let Some((_, pass)) = self.passing(host) else {
            return;
        };
        if pass.queue.is_some() {
            return;
        }
        let mut news = false;
        while let Some(watched) = pass.watcher.look() {
            news |= match watched {
                Watched::Changes { events, .. } => events.iter().any(matters),
                Watched::Resync => true,
                Watched::Closed => false,
            };
        }
        if news {
            let at = pass.last.map_or(now, |last| (last + DEBOUNCE_MS).max(now));
            self.wake_at(host, at);
        }
    }

    fn wake_at(&mut self, host: usize, at: u64) {
        let now = self.now;
        let Some((term, pass)) = self.passing(host) else {
            return;
        };
        if pass.wake.is_none_or(|wake| at < wake) {
            pass.wake = Some(at);
            self.later(host, at.saturating_sub(now), Timer::Pass { term });
        }
    }

    pub(crate) fn pass(&mut self, host: usize, term: u64) {
        let (now, at) = (self.now, self.clock(host));
        let Some((own, pass)) = self.passing(host) else {
            return;
        };
        if own != term || pass.queue.is_some() || pass.wake.is_none_or(|wake| wake > now) {
            return;
        }
        pass.wake = None;
        if pass.doubt {
            // Behind all that is in doubt: once it is made, the state tells of that too.
            let ops = Vec::new();
            pass.queue = Some(VecDeque::from([Transaction { at, ops }]));
            pass.next = Some(at);
            pass.again = false;
            self.go_on(host);
            return;
        }
        let Some(state) = self.hosts[host].manager.as_ref().map(|m| m.state.clone()) else {
            return;
        };
        let dice = &mut self.dice;
        let decision = scheduler::schedule(&state, at, &mut || dice.id());
        self.book.see(&Sight::Decided {
            state: &state,
            decision: &decision,
        });
        let mut queue: VecDeque<Transaction> = decision.transactions.into();
        queue.extend(
            sweep(&state)
                .into_iter()
                .map(|op| Transaction { at, ops: vec![op] }),
        );
        if let Some((_, pass)) = self.passing(host) {
            (pass.queue, pass.again, pass.next) = (Some(queue), false, decision.next);
        }
        self.go_on(host);
    }

    fn go_on(&mut self, host: usize) {
        let Some((_, pass)) = self.passing(host) else {
            return;
        };
        let Some(queue) = &mut pass.queue else { return };
        match queue.pop_front() {
            Some(change) => self.propose(host, By::Scheduler, change, Waiter::Pass),
            None => self.pass_over(host),
        }
    }

    fn pass_over(&mut self, host: usize) {
        let (now, clock) = (self.now, self.clock(host));
        let Some((_, pass)) = self.passing(host) else {
            return;
        };
        (pass.queue, pass.last) = (None, Some(now));
        let bound = if pass.again {
            let pause = pass.pause;
            pass.pause = (pause * 2).min(PAUSE_MAX_MS);
            pause
        } else {
            pass.pause = PAUSE_MIN_MS;
            pass.next
                .map_or(RESYNC_MS, |next| next.since_ms(clock).min(RESYNC_MS))
        };
        self.wake_at(host, now + bound);
        self.wake_leader(host);
    }

    pub(crate) fn passed(&mut self, host: usize, outcome: Result<(u64, u64), Unmade>) {
        let Some((_, pass)) = self.passing(host) else {
            return;
        };
        match outcome {
            Ok(_) => {
                pass.doubt = false;
                self.go_on(host);
            }
            Err(Unmade::Refused(_)) => {
                pass.again = true;
                self.go_on(host);
            }
            Err(Unmade::NotLeader | Unmade::Unknown) => {
                (pass.again, pass.doubt) = (true, true);
                self.pass_over(host);
            }
        }
    }
}
