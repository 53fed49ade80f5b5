//! Whether this machine has the address that others know it by, and which one it has instead: pure.
//!
//! ```text
//! it has it ─► it stays
//! it has not ─► the one of clusterd's --advertise-addr, if it has that
//!            ─► the only one of the interface that had it
//!            ─► the one that would be chosen if nobody said which, unless somebody did when it became a node
//!            ─► unclear: somebody has to say
//! ```
//!
//! An address that somebody gave is thus never replaced while the machine has it, and without it only by another of
//! the same interface. Link-local addresses are what a machine gives itself when nobody gave it one: it does not move
//! to those. A new address counts once it has been there for a while, since a boot may be quicker than its network.

use crate::address::{Candidate, decide, listed};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long what is sure has to be there: shorter than a node may be silent.
const SOON: Duration = Duration::from_millis(500);
/// How long another interface's address has to be there without the one that is known.
const LATE: Duration = Duration::from_secs(60);

/// How this machine came by its address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The interface that had it; none where that was not noted.
    pub interface: Option<String>,
    /// Somebody said which, instead of leaving the choice to clusterd.
    pub given: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stays,
    /// It is another, when that has been so for this long.
    Moved(Candidate, Duration),
    /// Somebody has to do something: why, and what.
    Unclear(String),
}

/// `flag` is what clusterd was started with, `has` what the machine has.
pub fn follow(
    known: Ipv4Addr,
    origin: &Origin,
    flag: Option<Ipv4Addr>,
    has: &[Candidate],
    default_interface: Option<&str>,
) -> Verdict {
    if has.iter().any(|c| c.addr == known) {
        return Verdict::Stays;
    }
    if let Some(flagged) = has.iter().find(|c| Some(c.addr) == flag) {
        return Verdict::Moved(flagged.clone(), SOON);
    }
    let has: Vec<Candidate> = has
        .iter()
        .filter(|c| known.is_link_local() || !c.addr.is_link_local())
        .cloned()
        .collect();
    let same: Vec<&Candidate> = has
        .iter()
        .filter(|c| Some(&c.interface) == origin.interface.as_ref())
        .collect();
    if let [only] = same.as_slice() {
        return Verdict::Moved((*only).clone(), SOON);
    }
    match decide(None, &has, default_interface) {
        Ok(one) if !origin.given => Verdict::Moved(one, LATE),
        _ if has.is_empty() => Verdict::Unclear(format!(
            "this machine's address {known} is gone, and it has no other; bring its interface up"
        )),
        _ => Verdict::Unclear(format!(
            "this machine's address {known} is gone, and which one takes its place is not clear: say so with `clusterctl node update self --addr ADDRESS`, or bring {known} back; it has {}",
            listed(&has)
        )),
    }
}

/// Counts how long a new address has been there.
#[derive(Debug, Default)]
pub struct Patience(Option<(Candidate, Instant)>);

impl Patience {
    /// The address to be taken, once its time has come.
    pub fn over(&mut self, verdict: &Verdict, now: Instant) -> Option<Candidate> {
        let Verdict::Moved(to, bound) = verdict else {
            self.0 = None;
            return None;
        };
        match &self.0 {
            Some((seen, since)) if seen == to => {
                (now.saturating_duration_since(*since) >= *bound).then(|| to.clone())
            }
            _ => {
                self.0 = Some((to.clone(), now));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);

    fn at(interface: &str, addr: [u8; 4]) -> Candidate {
        Candidate {
            interface: interface.into(),
            addr: addr.into(),
        }
    }

    fn origin(interface: &str, given: bool) -> Origin {
        Origin {
            interface: Some(interface.into()).filter(|name: &String| !name.is_empty()),
            given,
        }
    }

    #[test]
    fn an_address_that_is_there_stays_whatever_else_there_is() {
        let has = [at("eth0", [10, 2, 2, 2]), at("eth1", [10, 1, 1, 1])];
        for origin in [
            origin("eth0", false),
            origin("eth1", true),
            origin("", false),
        ] {
            let flag = Some(Ipv4Addr::new(10, 2, 2, 2));
            assert_eq!(
                follow(KNOWN, &origin, flag, &has, Some("eth0")),
                Verdict::Stays
            );
        }
    }

    #[test]
    fn it_follows_its_interface_and_not_the_default_route() {
        // Two networks, one of them the same on every virtual machine.
        let has = [at("eth0", [10, 0, 2, 15]), at("eth1", [10, 1, 1, 9])];
        assert_eq!(
            follow(KNOWN, &origin("eth1", true), None, &has, Some("eth0")),
            Verdict::Moved(has[1].clone(), SOON)
        );
        // The interface is late: what was given is not replaced by another network's.
        let early = &has[..1];
        assert!(matches!(
            follow(KNOWN, &origin("eth1", true), None, early, Some("eth0")),
            Verdict::Unclear(text) if text.contains("10.1.1.1 is gone") && text.contains("10.0.2.15 (eth0)")
        ));
        // What nobody gave is chosen anew, in the end.
        assert_eq!(
            follow(KNOWN, &origin("eth1", false), None, early, Some("eth0")),
            Verdict::Moved(has[0].clone(), LATE)
        );
    }

    #[test]
    fn a_flag_says_which_when_the_known_one_is_gone() {
        let has = [at("eth0", [10, 2, 2, 2]), at("eth0", [10, 3, 3, 3])];
        let flag = Some(Ipv4Addr::new(10, 3, 3, 3));
        assert_eq!(
            follow(KNOWN, &origin("eth0", true), flag, &has, None),
            Verdict::Moved(has[1].clone(), SOON)
        );
        assert!(matches!(
            follow(KNOWN, &origin("eth0", false), None, &has, None),
            Verdict::Unclear(text) if text.contains("node update self --addr")
        ));
    }

    #[test]
    fn it_does_not_move_to_what_a_machine_gives_itself() {
        let has = [at("eth0", [169, 254, 7, 7])];
        assert!(matches!(
            follow(KNOWN, &origin("eth0", false), None, &has, None),
            Verdict::Unclear(text) if text.contains("bring its interface up")
        ));
        assert!(matches!(
            follow(KNOWN, &origin("eth0", false), None, &[], None),
            Verdict::Unclear(_)
        ));
    }

    #[test]
    fn a_new_address_has_to_stay_for_a_while() {
        let (one, two) = (at("eth0", [10, 2, 2, 2]), at("eth0", [10, 3, 3, 3]));
        let moved = |to: &Candidate| Verdict::Moved(to.clone(), SOON);
        let begin = Instant::now();
        let mut patience = Patience::default();
        let mut look = |verdict, ms| patience.over(&verdict, begin + Duration::from_millis(ms));
        assert_eq!(look(moved(&one), 0), None);
        assert_eq!(look(moved(&one), 400), None);
        // Another one: from the beginning.
        assert_eq!(look(moved(&two), 600), None);
        assert_eq!(look(moved(&two), 1_000), None);
        assert_eq!(look(moved(&two), 1_100), Some(two.clone()));
        assert_eq!(look(Verdict::Stays, 1_200), None);
        assert_eq!(look(moved(&two), 2_500), None);
    }
}
