//! A manager: the product's state behind the model of the consensus, and what waits for either.

use crate::bug::{Bug, has};
use crate::control::Call;
use crate::event::{Event, Timer};
use crate::hub::Hub;
use crate::leader::Passing;
use crate::raft::{By, Entry, Message, Raft, Snapshot, Ticket};
use crate::sight::Sight;
use crate::world::World;
use api::convert;
use api::model::NodeId;
use api::state::{ApplyError, Op, State, Transaction};
use raft_store::{Ring, Watcher};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries between two snapshots.
pub const SNAPSHOT_EVERY: u64 = 40;
/// How long a proposal or a read is waited for, ms.
pub const PATIENCE_MS: u64 = 5_000;
/// How often the consensus looks at its clock, ms.
const RAFT_TICK_MS: u64 = 50;

/// What a read is for.
#[derive(Debug)]
pub enum Reading {
    /// To begin to lead.
    Lead,
    /// A node's session, before it is told anything.
    Session { node: NodeId, session: u64 },
    /// Heartbeats that were heard: of whose session, and how many.
    Beats {
        at: u64,
        heard: Vec<(NodeId, u64, u64)>,
    },
    /// A user's call.
    Call(Box<Call>),
}

/// What waits for a proposal.
#[derive(Debug)]
pub enum Waiter {
    /// Nobody.
    Nobody,
    /// The scheduler.
    Pass,
    /// A node that has come.
    Ready { node: NodeId, session: u64 },
    /// A judgement over nodes.
    Judged,
    /// Statuses.
    Statuses(Vec<Op>),
    /// A user.
    Call(Box<Call>),
}

/// Why a proposal was not made.
#[derive(Debug)]
pub enum Unmade {
    /// The state refused it.
    Refused(ApplyError),
    /// Another leads.
    NotLeader,
    /// Nobody knows: it may still be made.
    Unknown,
}

/// What there is only while it leads.
#[derive(Debug)]
pub struct Lead {
    /// Since which term.
    pub term: u64,
    /// Every entry of the terms before is applied.
    pub hub: Option<Hub>,
    /// The scheduler's loop.
    pub pass: Option<Passing>,
}

/// A manager.
#[derive(Debug)]
pub struct Manager {
    /// Its part in the consensus.
    pub raft: Raft,
    /// As far as it is applied.
    pub state: State,
    /// The last entry applied.
    pub applied: u64,
    /// While it leads.
    pub lead: Option<Lead>,
    /// Its changes.
    pub ring: Arc<Ring>,
    waiting: BTreeMap<u64, (u64, Waiter)>,
    reads: Vec<(Ticket, u64, Reading)>,
    probe: Watcher,
    pumping: bool,
}

fn loaded(snapshot: Option<&Arc<Snapshot>>) -> (State, u64) {
    let Some(snapshot) = snapshot else {
        return (State::new(), 0);
    };
    let tables = convert::decode_tables(&snapshot.bytes).unwrap_or_default();
    (State::from_tables(tables), snapshot.index)
}

impl Manager {
    /// A daemon's, that has just started.
    #[must_use]
    pub fn begin(raft: Raft) -> Self {
        let (state, applied) = loaded(raft.log().snapshot.as_ref());
        let ring = Arc::new(Ring::new());
        Self {
            probe: ring.watch(),
            raft,
            state,
            applied,
            lead: None,
            ring,
            waiting: BTreeMap::new(),
            reads: Vec::new(),
            pumping: false,
        }
    }

    /// Its dispatcher, if it leads and is ready to.
    pub fn hub(&mut self) -> Option<&mut Hub> {
        self.lead.as_mut()?.hub.as_mut()
    }
}

impl World {
    /// What a daemon's start means for who watches.
    pub fn book_manager_started(&mut self, host: usize) {
        let Some(manager) = &self.hosts[host].manager else {
            return;
        };
        self.book.see(&Sight::Started {
            host,
            applied: manager.applied,
        });
    }

    pub(crate) fn raft_tick(&mut self, host: usize) {
        let there = &mut self.hosts[host];
        if let Some(manager) = &mut there.manager {
            manager.raft.tick(&mut there.disk, self.now, &mut self.dice);
            self.later(host, RAFT_TICK_MS, Timer::Raft);
            self.pump(host);
        }
    }

    pub(crate) fn raft_message(&mut self, to: usize, from: usize, message: Message) {
        let there = &mut self.hosts[to];
        if let Some(manager) = &mut there.manager {
            manager
                .raft
                .receive(&mut there.disk, from, message, self.now, &mut self.dice);
            self.pump(to);
        }
    }

    pub(crate) fn synced(&mut self, host: usize, boot: u64) {
        let there = &mut self.hosts[host];
        if there.boot != boot {
            return;
        }
        if there.bad > 0 {
            // A manager whose store fails ends, and is started again.
            self.book.count("store failures");
            self.stop(host, false);
            self.restart(host, 3_000);
            return;
        }
        if let Some(manager) = &mut there.manager {
            there.disk.synced();
            manager.raft.synced(&there.disk, self.now);
            self.pump(host);
        }
    }

    /// Does what has become possible: sends, syncs, applies, begins or ends to lead, answers.
    pub(crate) fn pump(&mut self, host: usize) {
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        if std::mem::replace(&mut manager.pumping, true) {
            return;
        }
        // What is done makes more possible.
        for _ in 0..100 {
            self.post(host);
            let more = self.apply(host) | self.follow_leadership(host) | self.answer(host);
            if !more {
                break;
            }
        }
        self.post(host);
        if let Some(manager) = &mut self.hosts[host].manager {
            manager.pumping = false;
        }
    }

    fn post(&mut self, host: usize) {
        let there = &mut self.hosts[host];
        let Some(manager) = &mut there.manager else {
            return;
        };
        let out = std::mem::take(&mut manager.raft.out);
        if there.disk.begin() {
            let (boot, slow) = (there.boot, there.slow + self.script.sync_ms);
            let takes = 1 + self.dice.below(4) + slow;
            self.at(self.now + takes, Event::Synced { host, boot });
        }
        for (to, message) in out {
            if !self.net.hears(host, to) || self.dice.chance(self.net.loss) {
                continue;
            }
            let twice = self.dice.chance(self.net.twice);
            for _ in 0..=usize::from(twice) {
                let at = self.now + self.net.takes(&mut self.dice);
                let message = message.clone();
                self.at(
                    at,
                    Event::Raft {
                        to,
                        from: host,
                        message,
                    },
                );
            }
        }
    }

    fn apply(&mut self, host: usize) -> bool {
        let mut done = Vec::new();
        let mut news = false;
        loop {
            let there = &mut self.hosts[host];
            let Some(manager) = &mut there.manager else {
                return false;
            };
            if manager.applied >= manager.raft.commit {
                break;
            }
            news = true;
            let next = manager.applied + 1;
            let Some(entry) = manager.raft.log().get(next).cloned() else {
                let (state, applied) = loaded(manager.raft.log().snapshot.as_ref());
                if applied < next {
                    self.book.broken(
                        "the log has no gaps",
                        format!("manager {host} lacks entry {next}"),
                    );
                    break;
                }
                (manager.state, manager.applied) = (state, applied);
                manager.ring.restart();
                self.book.see(&Sight::Installed {
                    host,
                    index: applied,
                    state: &manager.state,
                });
                continue;
            };
            manager.applied = next;
            let outcome = applied(manager, &entry);
            self.book.see(&Sight::Applied {
                host,
                entry: &entry,
                outcome: &outcome,
                state: &manager.state,
            });
            if let Some((id, waiter)) = manager.waiting.remove(&next) {
                let outcome = match outcome {
                    _ if id != entry.id => Err(Unmade::NotLeader),
                    Ok(_) => Ok((next, id)),
                    Err(refused) => Err(Unmade::Refused(refused)),
                };
                done.push((waiter, outcome));
            }
            let snapshot = manager.raft.log().snapshot.as_ref().map_or(0, |s| s.index);
            if manager.applied >= snapshot + SNAPSHOT_EVERY && !has(Bug::NothingIsCompacted) {
                let snapshot = Arc::new(Snapshot {
                    term: entry.term,
                    index: entry.index,
                    bytes: convert::encode_tables(&manager.state.tables()),
                });
                manager.raft.compact(&mut there.disk, snapshot);
            }
        }
        if news {
            self.probe(host);
            self.wake_leader(host);
        }
        for (waiter, outcome) in done {
            self.proposed(host, waiter, outcome);
        }
        news
    }

    fn probe(&mut self, host: usize) {
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        while let Some(watched) = manager.probe.look() {
            self.book.see(&Sight::Watched {
                host,
                watched: &watched,
                revision: manager.applied,
            });
        }
        self.book.see(&Sight::Logged {
            host,
            entries: manager.raft.log().count(),
        });
    }

    fn follow_leadership(&mut self, host: usize) -> bool {
        let there = &mut self.hosts[host];
        let Some(manager) = &mut there.manager else {
            return false;
        };
        let term = manager.raft.term();
        let led = manager.lead.as_ref().map(|lead| lead.term);
        if !manager.raft.leads() {
            if led.is_some() {
                self.end_lead(host);
            }
            return false;
        }
        if led == Some(term) {
            return false;
        }
        self.book.see(&Sight::Leads {
            host,
            term,
            log: manager.raft.log(),
        });
        if led.is_some() {
            self.end_lead(host);
        }
        let there = &mut self.hosts[host];
        let Some(manager) = &mut there.manager else {
            return false;
        };
        manager.lead = Some(Lead {
            term,
            hub: None,
            pass: None,
        });
        if manager.raft.is_new_leader() {
            manager.raft.propose(&mut there.disk, By::Nobody, None);
        }
        if let Some(ticket) = manager.raft.ask() {
            manager.reads.push((ticket, self.now, Reading::Lead));
        }
        true
    }

    fn end_lead(&mut self, host: usize) {
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        let leader = manager.raft.leader;
        let Some(lead) = manager.lead.take() else {
            return;
        };
        let Some(hub) = lead.hub else { return };
        for session in hub.all_sessions() {
            self.end_session(session, leader);
        }
    }

    fn answer(&mut self, host: usize) -> bool {
        let Some(manager) = &mut self.hosts[host].manager else {
            return false;
        };
        let mut ready = Vec::new();
        let mut open = Vec::new();
        for (ticket, since, reading) in std::mem::take(&mut manager.reads) {
            let patient = matches!(reading, Reading::Lead) || self.now < since + PATIENCE_MS;
            match manager.raft.confirmed(ticket) {
                Some(false) => ready.push((reading, false)),
                Some(true) if manager.applied >= ticket.index || has(Bug::ReadWithoutAsking) => {
                    ready.push((reading, true));
                }
                _ if !patient => ready.push((reading, false)),
                _ => open.push((ticket, since, reading)),
            }
        }
        manager.reads.append(&mut open);
        let any = !ready.is_empty();
        for (reading, good) in ready {
            self.asked(host, reading, good);
        }
        any
    }

    fn asked(&mut self, host: usize, reading: Reading, good: bool) {
        match reading {
            Reading::Lead if good => self.begin_to_lead(host),
            Reading::Lead => {}
            Reading::Session { node, session } => self.node_ready(host, node, session, good),
            Reading::Beats { at, heard } => self.confirmed(host, at, heard, good),
            Reading::Call(call) if good => self.change(host, call),
            Reading::Call(call) => self.call_again(call, 300),
        }
    }

    /// Goes on once it is sure that this manager leads.
    pub(crate) fn read(&mut self, host: usize, reading: Reading) {
        let now = self.now;
        let ticket = self.hosts[host]
            .manager
            .as_mut()
            .and_then(|manager| manager.raft.ask());
        match (ticket, &mut self.hosts[host].manager) {
            (Some(ticket), Some(manager)) => {
                manager.reads.push((ticket, now, reading));
                self.pump(host);
            }
            _ => self.asked(host, reading, false),
        }
    }

    /// Proposes a change.
    pub(crate) fn propose(&mut self, host: usize, by: By, change: Transaction, waiter: Waiter) {
        let there = &mut self.hosts[host];
        let placed = there
            .manager
            .as_mut()
            .and_then(|manager| manager.raft.propose(&mut there.disk, by, Some(change)));
        let Some((index, id)) = placed else {
            self.proposed(host, waiter, Err(Unmade::NotLeader));
            return;
        };
        self.later(host, PATIENCE_MS, Timer::Patience { index, id });
        let overtaken = self.hosts[host]
            .manager
            .as_mut()
            .and_then(|manager| manager.waiting.insert(index, (id, waiter)));
        if let Some((_, waiter)) = overtaken {
            self.proposed(host, waiter, Err(Unmade::NotLeader));
        }
        self.pump(host);
    }

    pub(crate) fn patience_over(&mut self, host: usize, index: u64, id: u64) {
        let Some(manager) = &mut self.hosts[host].manager else {
            return;
        };
        if manager
            .waiting
            .get(&index)
            .is_some_and(|(own, _)| *own == id)
            && let Some((_, waiter)) = manager.waiting.remove(&index)
        {
            self.proposed(host, waiter, Err(Unmade::Unknown));
        }
        self.pump(host);
    }

    fn proposed(&mut self, host: usize, waiter: Waiter, outcome: Result<(u64, u64), Unmade>) {
        match waiter {
            Waiter::Nobody => {}
            Waiter::Pass => self.passed(host, outcome),
            Waiter::Ready { node, session } => {
                self.node_ready(host, node, session, outcome.is_ok())
            }
            Waiter::Judged => self.judged(host, !matches!(outcome, Err(Unmade::Unknown))),
            Waiter::Statuses(ops) => self.statuses_written(host, ops, &outcome),
            Waiter::Call(call) => self.changed(host, call, outcome),
        }
    }
}

fn applied(manager: &mut Manager, entry: &Entry) -> Result<Vec<api::state::Event>, ApplyError> {
    let Some(change) = &entry.change else {
        manager.state.pass(entry.index);
        return Ok(Vec::new());
    };
    let events = manager.state.apply(entry.index, change.clone())?;
    if !(has(Bug::WatchEventLost) && entry.index.is_multiple_of(5)) {
        manager.ring.push(entry.index, events.clone());
    }
    Ok(events)
}
