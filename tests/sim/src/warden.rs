//! A container's shim, as far as leases go: it ends the container when the node's lease is over, whatever has become of
//! the daemon.

use crate::event::Event;
use crate::world::World;
use agent::decisions::Step;
use api::model::TaskId;

/// How often it looks, ms.
const LOOK_MS: u64 = 200;

impl World {
    /// A container has begun.
    pub(crate) fn watch_lease(&mut self, host: usize, task: TaskId) {
        let there = &self.hosts[host];
        let Some(container) = there.machine.containers.get(&task) else {
            return;
        };
        let (pid, power) = (container.pid, there.power);
        if container.terms.is_some() {
            self.at(
                self.now + LOOK_MS,
                Event::Warden {
                    host,
                    power,
                    task,
                    pid,
                },
            );
        }
    }

    pub(crate) fn warden(&mut self, host: usize, power: u64, task: TaskId, pid: u32) {
        let now = self.now;
        let there = &mut self.hosts[host];
        let renewed = there.machine.renewed;
        if there.power != power {
            return;
        }
        let Some(container) = there.machine.containers.get_mut(&task) else {
            return;
        };
        let Some(terms) = container.terms else { return };
        if container.pid != pid || container.exit.is_some() {
            return;
        }
        // Nothing before the end of the wait shortens it.
        let next = match terms.next(renewed, container.stopped, now) {
            Step::Wait(until) => until.max(now) + self.dice.below(LOOK_MS),
            Step::Stop => {
                container.stopped = Some(now);
                self.book.count("leases over");
                let takes = self.stopping() * 3 / 2;
                self.exit_later(host, task, takes, 143);
                now + LOOK_MS
            }
            Step::Kill => {
                self.exit_later(host, task, 10, 137);
                return;
            }
        };
        self.at(
            next,
            Event::Warden {
                host,
                power,
                task,
                pid,
            },
        );
    }
}
