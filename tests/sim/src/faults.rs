//! Faults, as they begin and end, and what mends everything.

use crate::event::Event;
use crate::script::{Fault, Kind};
use crate::world::World;

impl World {
    pub(crate) fn fault(&mut self, place: usize, begins: bool) {
        let Some(fault) = self.script.faults.get(place).copied() else {
            return;
        };
        if begins {
            self.book.count(name(fault.kind));
        }
        let host = fault.host;
        if self.hosts[host].gone {
            // Its ways may still have to be mended.
            if !matches!(
                fault.kind,
                Kind::Cut | Kind::CutOneWay | Kind::Isolate | Kind::Mute
            ) {
                return;
            }
        }
        match fault.kind {
            Kind::Loss => self.net.loss = if begins { fault.degree } else { 0 },
            Kind::Duplicate => self.net.twice = if begins { fault.degree } else { 0 },
            Kind::Delay => self.net.delay = if begins { fault.degree } else { 0 },
            Kind::Cut => {
                self.net.cut(host, fault.other, begins);
                self.net.cut(fault.other, host, begins);
            }
            Kind::CutOneWay => self.net.cut(fault.other, host, begins),
            Kind::Isolate | Kind::Mute | Kind::CutOffManager => self.isolate(fault, begins),
            Kind::Pause if begins => self.hosts[host].paused += u32::from(self.runs(host)),
            Kind::Pause => self.wake(host),
            Kind::Crash => self.power(host, begins, false),
            Kind::PowerLoss => self.power(host, begins, true),
            Kind::PowerLossOfManagers => {
                for manager in 0..self.script.managers {
                    self.power(manager, begins, true);
                }
            }
            Kind::Skew => {
                let ms = i64::try_from(fault.degree).unwrap_or(0);
                let ms = if fault.other.is_multiple_of(2) {
                    ms
                } else {
                    -ms
                };
                self.hosts[host].skew += if begins { ms } else { -ms };
            }
            Kind::SlowDisk => self.hosts[host].slow = if begins { fault.degree } else { 0 },
            Kind::BadDisk => {
                let bad = self.hosts[host].bad;
                self.hosts[host].bad = if begins {
                    bad + 1
                } else {
                    bad.saturating_sub(1)
                };
            }
        }
        self.ail(host);
        self.ail(fault.other);
        if matches!(
            fault.kind,
            Kind::Loss | Kind::Delay | Kind::PowerLossOfManagers
        ) {
            (0..self.hosts.len()).for_each(|host| self.ail(host));
        }
    }

    fn isolate(&mut self, fault: Fault, begins: bool) {
        let others = if fault.kind == Kind::CutOffManager {
            self.script.managers
        } else {
            self.hosts.len()
        };
        for other in 0..others {
            if other != fault.host {
                self.net.cut(fault.host, other, begins);
                if fault.kind != Kind::Mute {
                    self.net.cut(other, fault.host, begins);
                }
            }
        }
    }

    fn power(&mut self, host: usize, lost: bool, power: bool) {
        if lost {
            if self.runs(host) || power {
                self.stop(host, power);
            }
            if power {
                self.hosts[host].powered = false;
            }
            return;
        }
        if power {
            self.hosts[host].powered = true;
        }
        self.restart(host, 300);
    }

    /// Starts a daemon in a while.
    pub(crate) fn restart(&mut self, host: usize, ms: u64) {
        let boot = self.hosts[host].boot;
        self.at(self.now + ms, Event::Start { host, boot });
    }

    /// Mends everything that faults may have left.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        for host in 0..self.hosts.len() {
            let there = &mut self.hosts[host];
            (there.slow, there.bad) = (0, 0);
            if !there.gone {
                there.powered = true;
            }
            while self.hosts[host].paused > 0 {
                self.wake(host);
            }
            if !self.runs(host) {
                self.restart(host, 300);
            }
        }
        self.at(self.now + 1_000, Event::Look);
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Loss => "loss",
        Kind::Delay => "delay",
        Kind::Duplicate => "duplicate",
        Kind::Cut => "cut",
        Kind::CutOneWay => "cut one way",
        Kind::Isolate => "isolate",
        Kind::Mute => "mute",
        Kind::CutOffManager => "cut-off manager",
        Kind::Pause => "pause",
        Kind::Crash => "crash",
        Kind::PowerLoss => "power loss",
        Kind::PowerLossOfManagers => "power loss of managers",
        Kind::Skew => "clock skew",
        Kind::SlowDisk => "slow disk",
        Kind::BadDisk => "bad disk",
    }
}
