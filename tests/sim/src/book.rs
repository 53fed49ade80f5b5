//! What was seen so far, and the first thing that may not be.

use crate::invariants::{self, Invariant};
use crate::sight::Sight;
use crate::world::World;
use api::model::{NodeState, ServiceId, TaskId};
use api::state::Event;
use std::collections::BTreeMap;

/// What may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The invariant's name.
    pub invariant: String,
    /// What was seen.
    pub what: String,
    /// When, ms.
    pub at: u64,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    /// Milliseconds since the world's beginning.
    pub now: u64,
    /// Events so far.
    pub steps: u64,
    /// The first.
    pub broken: Option<Broken>,
    /// The last entry that a user was told of.
    pub acknowledged: u64,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// What is to be told, to see what leads to what.
    pub loud: bool,
    invariants: Vec<Box<dyn Invariant>>,
    applied: u64,
    numbers: u64,
    /// Nodes that some leader has just given up, by their number.
    given_up: Vec<api::model::NodeId>,
}

impl Book {
    /// Of a world with so many managers.
    #[must_use]
    pub fn new(managers: usize) -> Self {
        Self {
            now: 0,
            steps: 0,
            broken: None,
            acknowledged: 0,
            counts: BTreeMap::new(),
            loud: false,
            invariants: invariants::all(managers),
            applied: 0,
            numbers: 0,
            given_up: Vec::new(),
        }
    }

    /// A number that was not given before.
    pub fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Notes that something happened.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Something may not be.
    pub fn broken(&mut self, invariant: &str, what: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken {
                invariant: invariant.into(),
                what,
                at: self.now,
            });
        }
    }

    /// Holds what is seen against every invariant.
    pub fn see(&mut self, sight: &Sight<'_>) {
        if self.broken.is_some() {
            return;
        }
        if self.loud {
            self.tell(sight);
        }
        let mut first = true;
        if let Sight::Applied { entry, outcome, .. } = sight {
            first = entry.index > self.applied;
            self.applied = self.applied.max(entry.index);
            if first {
                self.note(outcome.as_deref().unwrap_or_default());
            }
        }
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.see(sight, self.now, first) {
                self.broken = Some(Broken {
                    invariant: invariant.name().into(),
                    what,
                    at: self.now,
                });
                return;
            }
        }
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Task(_, None, Some(_)) => self.count("tasks made"),
                Event::Node(id, Some(old), Some(new))
                    if old.status.state != NodeState::Down
                        && new.status.state == NodeState::Down =>
                {
                    self.count("nodes given up");
                    self.given_up.push(*id);
                }
                _ => {}
            }
        }
    }

    fn tell(&self, sight: &Sight<'_>) {
        match sight {
            Sight::Applied {
                host,
                entry,
                outcome,
                ..
            } => {
                eprintln!(
                    "{:>6} manager {host} applies {} (term {}, {:?}): {}",
                    self.now,
                    entry.index,
                    entry.term,
                    entry.by,
                    match outcome {
                        Ok(_) => format!("{:?}", entry.change.as_ref().map(|c| brief(&c.ops))),
                        Err(error) => format!("refused: {error:?}"),
                    }
                );
            }
            Sight::Told { whole: true, .. } => {}
            Sight::Told { node, applied, .. } => {
                eprintln!("{:>6} node {node} is told {applied}", self.now);
            }
            Sight::Watched { .. } | Sight::Logged { .. } | Sight::Decided { .. } => {}
            Sight::Leads { host, term, .. } => {
                eprintln!("{:>6} manager {host} leads term {term}", self.now);
            }
            Sight::Installed { host, index, .. } => {
                eprintln!(
                    "{:>6} manager {host} takes the snapshot of {index}",
                    self.now
                );
            }
            Sight::Took {
                node,
                desired,
                term,
                full,
            } => {
                eprintln!(
                    "{:>6} node {node} takes {} of term {term}{}",
                    self.now,
                    desired.revision,
                    if *full { ", all" } else { "" }
                );
            }
            other => eprintln!("{:>6} {other:?}", self.now),
        }
    }

    /// A container runs no more.
    pub fn ended(&mut self, task: TaskId) {
        self.see(&Sight::Ends { task });
    }
}

fn brief(ops: &[api::state::Op]) -> Vec<String> {
    ops.iter()
        .map(|op| {
            let text = format!("{op:?}");
            text.chars().take(160).collect()
        })
        .collect()
}

impl World {
    /// The term that a manager leads.
    pub(crate) fn book_term(&self, manager: usize) -> u64 {
        let manager = self.hosts[manager].manager.as_ref();
        let lead = manager.and_then(|manager| manager.lead.as_ref());
        lead.map_or(0, |lead| lead.term)
    }

    /// An agent has acted on assignments of that term.
    pub(crate) fn book_took(&mut self, host: usize, term: u64, full: bool) {
        let there = &self.hosts[host];
        if let Some(agent) = &there.agent {
            self.book.see(&Sight::Took {
                node: there.node,
                desired: &agent.desired,
                term,
                full,
            });
        }
    }

    /// Looks at what came of the last event.
    pub fn after_step(&mut self) {
        for node in std::mem::take(&mut self.book.given_up) {
            let Some(host) = self.hosts.iter().position(|there| there.node == node) else {
                continue;
            };
            let managers = self.hosts.iter().take(self.script.managers);
            let ailing = managers
                .map(|manager| manager.ailing)
                .max()
                .unwrap_or(0)
                .max(self.hosts[host].ailing);
            let well = self.ails(host).then_some(0);
            let well_for = well.unwrap_or(self.now - ailing);
            self.book.see(&Sight::GivenUp { node, well_for });
        }
    }

    /// Whether something is wrong just now with a machine, a manager, or the ways between them.
    fn ails(&self, host: usize) -> bool {
        let ill = |there: usize| {
            let here = &self.hosts[there];
            !self.runs(there) || here.paused > 0 || here.slow > 0 || here.bad > 0
        };
        ill(host)
            || (0..self.script.managers).any(|manager| {
                ill(manager)
                    || !self.net.talk(host, manager)
                    || (0..self.script.managers).any(|other| !self.net.talk(manager, other))
            })
            || self.net.loss > 0
            || self.net.delay > 0
    }
}

impl Book {
    /// A container runs.
    pub fn runs_on(
        &mut self,
        node: api::model::NodeId,
        task: TaskId,
        service: ServiceId,
        slot: u32,
        exclusive: bool,
    ) {
        self.see(&Sight::Runs {
            node,
            task,
            service,
            slot,
            exclusive,
        });
    }
}
