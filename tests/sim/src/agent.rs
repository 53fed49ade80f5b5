//! An agent's shell, as the product's is: it seeks the leader, keeps assignments, and drives each task's machine.

use crate::event::{Down, Event, Timer, Up};
use crate::session::Session;
use crate::tasks::Roster;
use crate::world::{World, instant};
use agent::decisions::{ALONE_AFTER, Alone, Desired, Footing, Heard, Lease, Pace, StatusBook};
use api::model::TaskId;
use api::proto::Assignments;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

const BACKOFF_MIN_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 2_000;
/// How long a connection may take.
const CONNECT_MS: u64 = 3_000;
/// How long a connection may be silent: from one question to the next, and until the answer is given up.
const KEEPALIVE_MS: (u64, u64) = (5_000, 8_000);
const GATHER_MS: u64 = 5;
const HOUSE_MS: u64 = 500;
/// Statuses in one message.
const BATCH: usize = 1_000;

/// An agent.
#[derive(Debug)]
pub struct Agent {
    /// What the managers want.
    pub desired: Desired,
    /// What is to be told.
    pub book: StatusBook,
    /// Its tasks.
    pub roster: Roster,
    /// Its session.
    pub session: Option<u64>,
    /// The manager has said welcome.
    pub welcome: bool,
    /// Of the manager.
    heard: Heard,
    lease: Lease,
    /// What tasks with a lease stand on.
    pub footing: Footing,
    /// Assignments that are not acted on yet, each with its session's number and its manager's term.
    inbox: VecDeque<(u64, u64, Assignments)>,
    /// When the last of them is.
    acts: u64,
    /// What has become of tasks while no manager was there.
    pub alone: Alone,
    /// Since when none is.
    alone_since: Option<u64>,
    /// Tasks whose end is on its way to the managers, with their batch.
    ends: Vec<(u64, TaskId)>,
    /// Tasks whose end they are known to have.
    pub known_ends: BTreeSet<TaskId>,
    queue: VecDeque<usize>,
    backoff: u64,
    attempt: u64,
    sequence: u64,
    telling: bool,
    dirty: bool,
}

impl World {
    /// The agent of a daemon that has just started.
    pub(crate) fn start_agent(&mut self, host: usize) {
        let mut desired = Desired::default();
        desired.apply(self.hosts[host].machine.kept.clone());
        self.hosts[host].agent = Some(Agent {
            desired,
            book: StatusBook::default(),
            roster: Roster::default(),
            session: None,
            welcome: false,
            heard: Heard::default(),
            lease: Lease::resumed(self.hosts[host].machine.renewed),
            footing: Footing::new(self.hosts[host].machine.renewed),
            inbox: VecDeque::new(),
            acts: 0,
            alone: Alone::default(),
            alone_since: None,
            ends: Vec::new(),
            known_ends: BTreeSet::new(),
            queue: VecDeque::new(),
            backoff: BACKOFF_MIN_MS,
            attempt: 0,
            sequence: 0,
            telling: false,
            dirty: false,
        });
        self.recover(host);
        self.later(host, 10, Timer::Seek);
        self.later(host, HOUSE_MS, Timer::House);
    }

    fn agent_of(&mut self, host: usize) -> Option<&mut Agent> {
        self.hosts[host].agent.as_mut()
    }

    /// Tries the next manager.
    pub(crate) fn seek(&mut self, host: usize) {
        let managers = self.script.managers;
        let Some(agent) = self.agent_of(host) else {
            return;
        };
        if agent.session.is_some() {
            return;
        }
        let Some(manager) = agent.queue.pop_front() else {
            agent.queue = (0..managers).collect();
            let wait = agent.backoff;
            agent.backoff = (agent.backoff * 2).min(BACKOFF_MAX_MS);
            self.later(host, wait, Timer::Seek);
            return;
        };
        agent.attempt += 1;
        let attempt = agent.attempt;
        let hangs = !self.net.talk(host, manager)
            || !self.hosts[manager].powered
            || self.hosts[manager].paused > 0;
        if hangs {
            self.later(host, CONNECT_MS, Timer::Refused { attempt });
        } else if self.runs(manager) {
            self.connect(host, manager);
        } else {
            self.later(host, 2, Timer::Refused { attempt });
        }
    }

    pub(crate) fn not_connected(&mut self, host: usize, attempt: u64) {
        if self
            .agent_of(host)
            .is_some_and(|agent| agent.attempt == attempt && agent.session.is_none())
        {
            self.seek(host);
        }
    }

    fn connect(&mut self, host: usize, manager: usize) {
        let number = self.book.next_number();
        let session = Session {
            agent: host,
            agent_boot: self.hosts[host].boot,
            manager,
            manager_boot: self.hosts[manager].boot,
            up: VecDeque::new(),
            down: VecDeque::new(),
            agent_open: true,
            manager_open: true,
            next: (self.now, self.now),
            silent: None,
            keepalive: self.dice.between(KEEPALIVE_MS.0, KEEPALIVE_MS.1),
        };
        self.sessions.insert(number, session);
        if let Some(agent) = self.agent_of(host) {
            (agent.session, agent.welcome) = (Some(number), false);
        }
        let hello = Up::Hello(self.description(host));
        self.push_up(number, hello);
        self.later(host, 1_000, Timer::Beat { session: number });
    }

    /// The agent's end of its session is over.
    pub(crate) fn session_lost(&mut self, host: usize, session: u64, leader: Option<usize>) {
        let Some(agent) = self.agent_of(host) else {
            return;
        };
        if agent.session != Some(session) {
            return;
        }
        if agent.welcome {
            agent.backoff = BACKOFF_MIN_MS;
        }
        (agent.session, agent.welcome) = (None, false);
        agent.lease.session_ended();
        agent.footing.session_ended();
        let mut wait = 1;
        if let Some(leader) = leader {
            agent.queue.retain(|other| *other != leader);
            agent.queue.push_front(leader);
            wait = 20;
        }
        self.later(host, wait, Timer::Seek);
    }

    /// A message of the manager.
    pub(crate) fn agent_takes(&mut self, host: usize, session: u64, message: Down) {
        let now = instant(self.now);
        let Some(agent) = self.agent_of(host) else {
            return;
        };
        if agent.session != Some(session) {
            return;
        }
        match message {
            Down::Heard(beat) => {
                agent.heard.acknowledged(now);
                if let Some(renewed) = agent.lease.acknowledged(beat) {
                    agent.footing.renewed(renewed);
                    self.hosts[host].machine.renewed = Some(renewed);
                }
            }
            Down::Committed(sequence) => {
                agent.book.committed(sequence);
                let known = agent.ends.extract_if(.., |(sent, _)| *sent <= sequence);
                agent.known_ends.extend(known.map(|(_, task)| task));
            }
            Down::Welcome => {
                agent.heard = Heard::default();
                agent.welcome = true;
                agent.ends.clear();
                agent.book.begin_session();
                self.tell_soon(host);
                self.later(host, 0, Timer::Beat { session });
            }
            Down::Assignments(message) => {
                let number = agent.footing.session();
                self.take_later(host, session, number, *message);
            }
            Down::End(leader) => {
                if let Some(there) = self.sessions.get_mut(&session) {
                    there.agent_open = false;
                }
                self.session_lost(host, session, leader);
            }
        }
    }

    /// Assignments are acted on by another than who reads them, one after the other.
    fn take_later(&mut self, host: usize, session: u64, number: u64, message: Assignments) {
        let manager = self.sessions.get(&session).map_or(0, |s| s.manager);
        let term = self.book_term(manager);
        let takes = self.dice.below(8) + self.hosts[host].slow;
        let takes = takes
            + if self.dice.chance(2) {
                self.dice.below(3_000)
            } else {
                0
            };
        let now = self.now;
        let Some(agent) = self.agent_of(host) else {
            return;
        };
        agent.inbox.push_back((number, term, message));
        agent.acts = agent.acts.max(now + takes);
        let wait = agent.acts - now;
        self.later(host, wait, Timer::Act);
    }

    pub(crate) fn act(&mut self, host: usize) {
        let Some(agent) = self.agent_of(host) else {
            return;
        };
        let Some((number, term, message)) = agent.inbox.pop_front() else {
            return;
        };
        let full = message.full;
        let first = full && !agent.roster.settled;
        let touched = agent.desired.apply(message);
        agent.dirty |= touched.networks;
        self.book_took(host, term, full);
        if touched.tasks {
            self.keep(host);
            if first {
                self.settle(host);
            }
            self.reconcile(host);
        }
        if full && let Some(agent) = self.agent_of(host) {
            agent.footing.acted_on(number);
        }
    }

    pub(crate) fn beat(&mut self, host: usize, session: u64) {
        let now = self.now;
        if self
            .agent_of(host)
            .is_none_or(|agent| agent.session != Some(session))
        {
            return;
        }
        let Some(there) = self.sessions.get(&session) else {
            return;
        };
        let manager = there.manager;
        let talk = self.net.talk(host, manager) && self.hosts[manager].powered;
        let same = self.hosts[manager].boot == there.manager_boot && self.runs(manager);
        let standing = self.hosts[manager].paused > 0;
        let mut over = talk && !same;
        let (pace, at) = (Pace::new(1_000, 3_000), instant(now));
        over |= self
            .agent_of(host)
            .is_some_and(|agent| agent.welcome && agent.heard.is_lost(&pace, at));
        let Some(there) = self.sessions.get_mut(&session) else {
            return;
        };
        if talk && !standing {
            there.silent = None;
        } else {
            over |= now >= *there.silent.get_or_insert(now) + there.keepalive;
        }
        if over {
            there.agent_open = false;
            self.at(now + 1, Event::Hangup { session, up: true });
            self.session_lost(host, session, None);
            return;
        }
        let beat = self
            .agent_of(host)
            .filter(|agent| agent.welcome)
            .map(|agent| agent.lease.beat(now));
        if let Some(beat) = beat {
            self.push_up(session, Up::Heartbeat(beat));
        }
        self.later(host, 1_000, Timer::Beat { session });
    }

    /// There is something to tell.
    pub(crate) fn tell_soon(&mut self, host: usize) {
        let Some(agent) = self.agent_of(host) else {
            return;
        };
        if agent.welcome && !std::mem::replace(&mut agent.telling, true) {
            self.later(host, GATHER_MS, Timer::Tell);
        }
    }

    pub(crate) fn tell(&mut self, host: usize) {
        let Some(agent) = self.agent_of(host) else {
            return;
        };
        agent.telling = false;
        let (true, Some(session)) = (agent.welcome, agent.session) else {
            return;
        };
        agent.sequence += 1;
        let sequence = agent.sequence;
        let statuses = agent.book.take(sequence, BATCH);
        let ended = statuses.iter().filter(|(_, s)| s.state.is_ended());
        agent.ends.extend(ended.map(|(task, _)| (sequence, *task)));
        if !statuses.is_empty() {
            self.push_up(session, Up::Statuses(sequence, statuses));
        }
    }

    /// Writes the assignments to disk.
    pub(crate) fn keep(&mut self, host: usize) {
        let there = &mut self.hosts[host];
        if let Some(agent) = &mut there.agent {
            agent.dirty = there.bad > 0;
            if there.bad == 0 {
                there.machine.kept = agent.desired.to_message();
            }
        }
    }

    pub(crate) fn keep_house(&mut self, host: usize) {
        let Some(agent) = self.agent_of(host) else {
            return;
        };
        let (dirty, finished) = (agent.dirty, agent.roster.has_finished());
        let settled = agent.roster.settled;
        if dirty {
            self.keep(host);
        }
        if finished {
            self.reconcile(host);
        }
        if settled {
            self.sweep(host);
        }
        let now = self.now;
        if let Some(agent) = self.agent_of(host) {
            if agent.welcome {
                agent.alone_since = None;
            } else {
                let since = *agent.alone_since.get_or_insert(now);
                if Duration::from_millis(now - since) >= ALONE_AFTER {
                    self.restart_alone(host);
                }
            }
        }
        self.later(host, HOUSE_MS, Timer::House);
    }
}
