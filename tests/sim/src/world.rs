//! The world: machines, the network between them, and time, which only jumps from one event to the next.

use crate::agent::Agent;
use crate::book::Book;
use crate::dice::Dice;
use crate::event::{Due, Event, Timer};
use crate::machine::Machine;
use crate::manager::Manager;
use crate::net::Net;
use crate::raft::{self, Disk};
use crate::script::{Script, Without};
use crate::session::Session;
use api::model::{NodeId, Timestamp};
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The wall clocks' beginning.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// What the steady clocks count from. Nothing is read off it but differences.
static BEGINNING: LazyLock<Instant> =
    LazyLock::new(|| Instant::now() + Duration::from_secs(86_400));

/// A moment of the steady clocks.
#[must_use]
pub fn instant(ms: u64) -> Instant {
    *BEGINNING + Duration::from_millis(ms)
}

/// A machine and its daemon.
#[derive(Debug)]
pub struct Host {
    /// Its node.
    pub node: NodeId,
    /// It belongs to the cluster, as far as it knows.
    pub member: bool,
    /// It was removed, and never comes back.
    pub gone: bool,
    /// It has power.
    pub powered: bool,
    /// How often it got power.
    pub power: u64,
    /// Its daemon stands still.
    pub paused: u32,
    /// How often its daemon was started.
    pub boot: u64,
    /// What came in while it stood still.
    pub held: Vec<Event>,
    /// How wrong its wall clock is, ms.
    pub skew: i64,
    /// How long a sync takes in addition, ms.
    pub slow: u64,
    /// Its disk refuses.
    pub bad: u32,
    /// A manager's log.
    pub disk: Disk,
    /// Containers and the rest.
    pub machine: Machine,
    /// While its daemon runs, on a machine with one.
    pub manager: Option<Manager>,
    /// While its daemon runs.
    pub agent: Option<Agent>,
    /// When it last was less than well, ms.
    pub ailing: u64,
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// What befalls it.
    pub script: Script,
    /// But for this.
    pub without: Without,
    /// Milliseconds since its beginning.
    pub now: u64,
    /// All that is random.
    pub dice: Dice,
    /// Machines; those with a manager first, spare ones last.
    pub hosts: Vec<Host>,
    /// Between them.
    pub net: Net,
    /// Agents' sessions.
    pub sessions: BTreeMap<u64, Session>,
    /// What was seen, and whether it may be.
    pub book: Book,
    /// All is mended.
    pub healed: bool,
    /// Since when it has been as it should be.
    pub settled: Option<u64>,
    queue: BinaryHeap<Due>,
    order: u64,
}

impl World {
    /// Before anything has happened.
    #[must_use]
    pub fn new(script: Script, without: Without) -> Self {
        let mut dice = Dice::new(script.seed ^ 0x5eed);
        let count = script.members + script.spares;
        let hosts = (0..count)
            .map(|n| Host {
                node: NodeId(dice.id()),
                member: n < script.members,
                gone: false,
                powered: true,
                power: 1,
                paused: 0,
                boot: 0,
                held: Vec::new(),
                skew: i64::try_from(dice.below(40)).unwrap_or(0) - 20,
                slow: 0,
                bad: 0,
                disk: Disk::default(),
                machine: Machine::default(),
                manager: None,
                agent: None,
                ailing: 0,
            })
            .collect();
        let mut world = Self {
            net: Net::new(count),
            dice,
            hosts,
            without,
            now: 0,
            sessions: BTreeMap::new(),
            book: Book::new(script.managers),
            healed: false,
            settled: None,
            queue: BinaryHeap::new(),
            order: 0,
            script,
        };
        for host in 0..world.script.members {
            world.start(host);
        }
        for (place, fault) in world.script.faults.clone().into_iter().enumerate() {
            if world.script.has_fault(&world.without, place) {
                world.at(
                    fault.from,
                    Event::Fault {
                        place,
                        begins: true,
                    },
                );
                world.at(
                    fault.until,
                    Event::Fault {
                        place,
                        begins: false,
                    },
                );
            }
        }
        for (place, deed) in world.script.deeds.clone().into_iter().enumerate() {
            if !world.without.deeds.contains(&place) {
                world.at(deed.at, Event::Deed(place));
            }
        }
        world.at(world.script.healed, Event::Healed);
        world
    }

    /// Plans something.
    pub fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Due {
            at: at.max(self.now),
            order: self.order,
            event,
        });
    }

    /// Plans something for a daemon.
    pub fn later(&mut self, host: usize, ms: u64, timer: Timer) {
        let boot = self.hosts[host].boot;
        self.at(self.now + ms, Event::Timer { host, boot, timer });
    }

    /// What a machine takes for the time.
    #[must_use]
    pub fn clock(&self, host: usize) -> Timestamp {
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        Timestamp(EPOCH_MS + now + self.hosts[host].skew)
    }

    /// Whether a daemon runs.
    #[must_use]
    pub fn runs(&self, host: usize) -> bool {
        self.hosts[host].agent.is_some()
    }

    /// The next event. False: it is over.
    pub fn step(&mut self) -> bool {
        let Some(due) = self.queue.pop() else {
            return false;
        };
        self.now = due.at;
        self.book.steps += 1;
        self.book.now = self.now;
        self.happen(due.event);
        self.after_step();
        true
    }

    /// Whose daemon takes it.
    fn taker(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Raft { to, .. } => Some(*to),
            Event::Synced { host, .. } | Event::Timer { host, .. } | Event::Call { host, .. } => {
                Some(*host)
            }
            Event::Stream { session, up } | Event::Hangup { session, up } => {
                let session = self.sessions.get(session)?;
                Some(if *up { session.manager } else { session.agent })
            }
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(host) = self.taker(&event)
            && self.hosts[host].paused > 0
        {
            self.hosts[host].held.push(event);
            return;
        }
        match event {
            Event::Raft { to, from, message } => self.raft_message(to, from, message),
            Event::Synced { host, boot } => self.synced(host, boot),
            Event::Timer { host, boot, timer } => {
                if self.runs(host) && self.hosts[host].boot == boot {
                    self.timer(host, timer);
                }
            }
            Event::Stream { session, up } => self.stream(session, up),
            Event::Hangup { session, up } => self.hung_up(session, up),
            Event::Call { host, call } => self.called(host, *call),
            Event::Exit {
                host,
                power,
                task,
                pid,
                exit,
            } => self.exited(host, power, task, pid, exit),
            Event::Warden {
                host,
                power,
                task,
                pid,
            } => self.warden(host, power, task, pid),
            Event::Fault { place, begins } => self.fault(place, begins),
            Event::Deed(place) => self.deed(place),
            Event::Start { host, boot } => {
                if self.hosts[host].boot == boot && !self.runs(host) {
                    self.start(host);
                }
            }
            Event::Healed => self.heal(),
            Event::Look => self.look(),
        }
    }

    fn timer(&mut self, host: usize, timer: Timer) {
        match timer {
            Timer::Raft => self.raft_tick(host),
            Timer::Hub { term } => self.hub_tick(host, term),
            Timer::Send { term } => self.hub_send(host, term),
            Timer::Pass { term } => self.pass(host, term),
            Timer::Gather { term } => self.gather(host, term),
            Timer::Patience { index, id } => self.patience_over(host, index, id),
            Timer::Act => self.act(host),
            Timer::Seek => self.seek(host),
            Timer::Refused { attempt } => self.not_connected(host, attempt),
            Timer::Beat { session } => self.beat(host, session),
            Timer::Tell => self.tell(host),
            Timer::House => self.keep_house(host),
            Timer::Step { task, run, step } => self.task_step(host, task, run, step),
        }
    }

    /// A daemon starts.
    pub fn start(&mut self, host: usize) {
        if !self.hosts[host].powered || self.hosts[host].gone || !self.hosts[host].member {
            return;
        }
        self.hosts[host].boot += 1;
        self.hosts[host].paused = 0;
        if host < self.script.managers {
            let hard = self.hosts[host].disk.read();
            let raft =
                raft::Raft::begin(host, self.script.managers, hard, self.now, &mut self.dice);
            self.hosts[host].manager = Some(Manager::begin(raft));
            self.later(host, 5, Timer::Raft);
            self.book_manager_started(host);
        }
        self.start_agent(host);
    }

    /// A daemon is gone.
    pub fn stop(&mut self, host: usize, power: bool) {
        let there = &mut self.hosts[host];
        there.boot += 1;
        there.manager = None;
        there.agent = None;
        there.paused = 0;
        there.held.clear();
        there.disk.lose(power, &mut self.dice);
        if power {
            there.power += 1;
            let lost: Vec<_> = there.machine.containers.keys().copied().collect();
            there.machine.lose_power();
            let there = &self.hosts[host];
            for task in lost {
                if !there.machine.containers.contains_key(&task) {
                    self.book.ended(task);
                }
            }
        } else {
            self.hang_up_all(host);
        }
        self.ail(host);
    }

    /// A machine was less than well just now.
    pub fn ail(&mut self, host: usize) {
        self.hosts[host].ailing = self.now;
    }

    /// Goes on from a standstill.
    pub fn wake(&mut self, host: usize) {
        let there = &mut self.hosts[host];
        there.paused = there.paused.saturating_sub(1);
        if there.paused == 0 {
            for event in std::mem::take(&mut there.held) {
                self.at(self.now, event);
            }
        }
    }
}
