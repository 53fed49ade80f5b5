//! What a container with a lease stands on when it begins: pure, time is passed in.
//!
//! A lease that was over and runs again tells nothing of what was assigned before: the task may be another node's by
//! now. So it begins once the managers have said in this session what they want, and that has been acted on; and it
//! begins within the very lease that was looked at, or is looked at again.

use crate::lease::BootMs;
use runtime::lease::Terms;

/// What containers stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footing {
    /// Since when the lease runs.
    renewed: Option<BootMs>,
    /// Which session it is, or the next.
    session: u64,
    /// The last session whose assignments have been acted on.
    acted_on: u64,
}

impl Footing {
    /// That of a daemon that has just started, perhaps with a lease of an earlier one of this boot.
    #[must_use]
    pub fn new(renewed: Option<BootMs>) -> Self {
        Self {
            renewed,
            session: 1,
            acted_on: 0,
        }
    }

    /// The session's number; that of the next one where there is none.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Since when the lease runs.
    #[must_use]
    pub fn lease(&self) -> Option<BootMs> {
        self.renewed
    }

    /// The lease runs from then on.
    pub fn renewed(&mut self, at: BootMs) {
        self.renewed = Some(at);
    }

    /// A session is over.
    pub fn session_ended(&mut self) {
        self.session += 1;
    }

    /// All that the managers want, as they have said it in this session, has been acted on: what is not wanted any more
    /// knows it.
    pub fn acted_on(&mut self, session: u64) {
        self.acted_on = self.acted_on.max(session);
    }

    /// Whether the managers' word of this session has been acted on.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.acted_on == self.session
    }

    /// Until when a container may begin, by what is known at `now`; none: not yet. `alone`: its node starts it again
    /// without managers, so it goes by the lease only.
    #[must_use]
    pub fn begin_before(&self, terms: &Terms, alone: bool, now: BootMs) -> Option<BootMs> {
        if !(alone || self.is_current()) || !terms.hold(self.renewed, now) {
            return None;
        }
        self.renewed.map(|at| at.saturating_add(terms.lease_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        lease_ms: 5_000,
        grace_ms: 0,
    };

    #[test]
    fn a_container_begins_once_this_session_has_said_that_it_is_wanted_and_within_the_lease() {
        let mut footing = Footing::new(Some(9_000));
        let both =
            |footing: &Footing| [false, true].map(|a| footing.begin_before(&TERMS, a, 10_000));
        // A new daemon: the managers have not spoken to it.
        assert_eq!(both(&footing), [None, Some(14_000)]);
        footing.acted_on(footing.session());
        assert_eq!(both(&footing), [Some(14_000); 2]);
        // The last session's word, with this one's lease.
        let before = footing.session();
        footing.session_ended();
        footing.renewed(9_500);
        assert_eq!(both(&footing), [None, Some(14_500)]);
        footing.acted_on(before);
        assert!(!footing.is_current(), "a word that comes late");
        footing.acted_on(footing.session());
        assert_eq!(both(&footing), [Some(14_500); 2]);
    }

    #[test]
    fn without_a_lease_nothing_begins() {
        let mut footing = Footing::new(None);
        footing.acted_on(1);
        assert_eq!(footing.begin_before(&TERMS, true, 10_000), None);
        footing.renewed(5_000);
        assert_eq!(footing.begin_before(&TERMS, true, 10_000), None);
    }
}
