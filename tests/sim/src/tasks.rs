//! The tasks of a node: the product's machine for each, and the shell that does what it asks for.

mod alone;
mod begin;

use crate::event::{Event, Step, Timer};
use crate::machine::Container;
use crate::stacks::Behaviour;
use crate::world::World;
use agent::decisions::{Action, Desired, End, Exit, Found, Input, Machine, Terms};
use api::convert;
use api::model::{Disconnect, STOP_GRACE_MS, Task, TaskId, TaskState, TaskTemplate};
use begin::May;
use std::collections::{BTreeMap, BTreeSet};

/// How long a container waits for the node to have a lease, ms.
const LEASE_WAIT_MS: u64 = 30_000;
/// Between two looks whether it has, ms.
const LEASE_LOOK_MS: u64 = 100;

/// A task that is driven.
#[derive(Debug)]
pub struct Driven {
    task: Task,
    image: String,
    exclusive: bool,
    terms: Option<Terms>,
    /// Its node starts it again, without managers.
    alone: bool,
    machine: Machine,
    desired: TaskState,
    /// Which of all drivers.
    run: u64,
}

/// All of a node's drivers.
#[derive(Debug, Default)]
pub struct Roster {
    driven: BTreeMap<TaskId, Driven>,
    ended: BTreeSet<TaskId>,
    unclaimed: BTreeSet<TaskId>,
    /// The managers have said all they want.
    pub settled: bool,
}

impl Roster {
    /// Whether a driver has ended.
    #[must_use]
    pub fn has_finished(&self) -> bool {
        self.driven.values().any(|driven| driven.machine.is_done())
    }
}

fn assigned(desired: &Desired) -> Vec<(Task, TaskTemplate)> {
    desired
        .tasks
        .values()
        .filter_map(|assigned| {
            let task = Task::try_from(assigned.task.clone()?).ok()?;
            let template = TaskTemplate::try_from(assigned.template.clone()?).ok()?;
            Some((task, template))
        })
        .collect()
}

fn terms_of(disconnect: &Disconnect) -> Option<Terms> {
    disconnect.lease_ms().map(|lease_ms| Terms {
        lease_ms,
        grace_ms: STOP_GRACE_MS,
    })
}

fn ids(desired: &Desired) -> BTreeSet<TaskId> {
    desired
        .tasks
        .keys()
        .filter_map(|id| convert::task_id(id).ok())
        .collect()
}

impl World {
    /// A new daemon takes over what it finds.
    pub(crate) fn recover(&mut self, host: usize) {
        let there = &mut self.hosts[host];
        if let Some(agent) = &mut there.agent {
            agent.roster.unclaimed = there.machine.containers.keys().copied().collect();
        }
        self.claim(host);
    }

    fn claim(&mut self, host: usize) {
        let Some(agent) = &mut self.hosts[host].agent else {
            return;
        };
        for (task, template) in assigned(&agent.desired) {
            let there = &mut self.hosts[host];
            let Some(agent) = &mut there.agent else {
                return;
            };
            let id = task.id;
            if agent.roster.driven.contains_key(&id) || agent.roster.ended.contains(&id) {
                continue;
            }
            let found = if agent.roster.unclaimed.remove(&id) {
                match there.machine.containers.get(&id) {
                    Some(Container {
                        exit: Some(exit), ..
                    }) => {
                        let end = End::Exited(exit.clone());
                        there.machine.begun.insert(id, Some(end));
                        Found::Exited(exit.clone())
                    }
                    Some(container) => Found::Running {
                        pid: container.pid,
                        since: container.since,
                    },
                    None => Found::Lost,
                }
            } else {
                match there.machine.begun.get(&id) {
                    None => Found::Nothing,
                    Some(None) => Found::Lost,
                    Some(Some(end)) => end.clone().into(),
                }
            };
            self.spawn(host, task, template, found);
        }
    }

    pub(crate) fn settle(&mut self, host: usize) {
        self.claim(host);
        self.remove_unclaimed(host);
        let there = &mut self.hosts[host];
        if let Some(agent) = &mut there.agent {
            agent.roster.settled = true;
        }
        self.sweep(host);
    }

    /// Removes what is left of tasks that nobody wants, and that what is on disk does not name.
    pub(crate) fn sweep(&mut self, host: usize) {
        let there = &mut self.hosts[host];
        let Some(agent) = &there.agent else { return };
        let wanted = ids(&agent.desired);
        let driven = &agent.roster.driven;
        let mut begun = std::mem::take(&mut there.machine.begun);
        begun.retain(|id, _| {
            wanted.contains(id) || driven.contains_key(id) || there.machine.names(*id)
        });
        there.machine.begun = begun;
    }

    fn remove_unclaimed(&mut self, host: usize) {
        let there = &mut self.hosts[host];
        if let Some(agent) = &mut there.agent {
            for task in std::mem::take(&mut agent.roster.unclaimed) {
                there.machine.containers.remove(&task);
                self.book.ended(task);
            }
        }
    }

    /// Makes the drivers match the assignments.
    pub(crate) fn reconcile(&mut self, host: usize) {
        let Some(agent) = &self.hosts[host].agent else {
            return;
        };
        let wanted = ids(&agent.desired);
        for (task, template) in assigned(&agent.desired) {
            let Some(agent) = &self.hosts[host].agent else {
                return;
            };
            if agent.roster.driven.contains_key(&task.id) {
                self.want(host, task.id, task.desired);
            } else if !agent.roster.ended.contains(&task.id) {
                self.spawn(host, task, template, Found::Nothing);
            }
        }
        let Some(agent) = &self.hosts[host].agent else {
            return;
        };
        let unwanted: Vec<TaskId> = agent
            .roster
            .driven
            .keys()
            .filter(|id| !wanted.contains(id))
            .copied()
            .collect();
        for task in unwanted {
            self.want(host, task, TaskState::Shutdown);
        }
        let there = &mut self.hosts[host];
        let Some(agent) = &mut there.agent else {
            return;
        };
        agent.roster.ended.retain(|id| wanted.contains(id));
        let done: Vec<TaskId> = agent
            .roster
            .driven
            .iter()
            .filter(|(_, driven)| driven.machine.is_done())
            .map(|(id, _)| *id)
            .collect();
        for id in done {
            agent.roster.driven.remove(&id);
            if wanted.contains(&id) {
                agent.roster.ended.insert(id);
            } else {
                agent.book.forget(id);
            }
        }
    }

    fn spawn(&mut self, host: usize, task: Task, template: TaskTemplate, found: Found) {
        let (now, run) = (self.clock(host), self.book.next_number());
        let id = task.id;
        let alone = matches!(found, Found::Again(_));
        let (machine, actions) = Machine::begin(task.desired, task.not_before, found, now);
        let disconnect = template.disconnect;
        let terms = terms_of(&disconnect);
        let driven = Driven {
            desired: task.desired,
            task,
            exclusive: disconnect.exclusive,
            terms,
            alone,
            image: template.container.image,
            machine,
            run,
        };
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.roster.driven.insert(id, driven);
        }
        self.perform(host, id, actions);
    }

    fn driven(&mut self, host: usize, task: TaskId) -> Option<&mut Driven> {
        self.hosts[host]
            .agent
            .as_mut()?
            .roster
            .driven
            .get_mut(&task)
    }

    fn want(&mut self, host: usize, task: TaskId, desired: TaskState) {
        let Some(driven) = self.driven(host, task) else {
            return;
        };
        if desired > driven.desired {
            driven.desired = desired;
            self.input(host, task, Input::Desired(desired));
        }
    }

    fn input(&mut self, host: usize, task: TaskId, input: Input) {
        let now = self.clock(host);
        if let Some(driven) = self.driven(host, task) {
            let actions = driven.machine.on(input, now);
            self.perform(host, task, actions);
        }
    }

    fn step_later(&mut self, host: usize, task: TaskId, ms: u64, step: Step) {
        if let Some(run) = self.driven(host, task).map(|driven| driven.run) {
            self.later(host, ms, Timer::Step { task, run, step });
        }
    }

    fn perform(&mut self, host: usize, task: TaskId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Report(status) => {
                    if let Some(agent) = &mut self.hosts[host].agent {
                        agent.book.report(task, status);
                    }
                    self.tell_soon(host);
                }
                Action::Prepare => {
                    let refused = !self.healed && self.dice.chance(2);
                    let step = if refused {
                        Step::Refused
                    } else {
                        Step::Prepared
                    };
                    // Now and then an image is large.
                    let takes = if self.dice.chance(12) && !self.healed {
                        self.dice.between(1_000, 25_000)
                    } else {
                        self.dice.between(10, 300)
                    };
                    self.step_later(host, task, takes, step);
                }
                // It goes on to its end.
                Action::CancelPrepare => {}
                Action::Delay(ms) => self.step_later(host, task, ms, Step::DelayOver),
                Action::Start => {
                    let takes = self.dice.between(5, 30);
                    let until = self.now + LEASE_WAIT_MS;
                    self.step_later(host, task, takes, Step::Start { until });
                }
                Action::Watch => {
                    let container = self.hosts[host].machine.containers.get(&task);
                    if let Some(exit) = container.and_then(|container| container.exit.clone()) {
                        self.step_later(host, task, 1, Step::Exited(exit));
                    }
                }
                Action::Stop => {
                    let takes = self.stopping();
                    self.exit_later(host, task, takes, 143);
                }
                Action::Clean(after) => {
                    let takes = self.dice.between(5, 40);
                    self.step_later(host, task, after + takes, Step::Clean);
                }
            }
        }
    }

    /// How long a container takes that was asked to end, ms.
    pub(crate) fn stopping(&mut self) -> u64 {
        if self.dice.chance(10) {
            self.dice.between(2_000, 10_000)
        } else {
            self.dice.between(5, 400)
        }
    }

    pub(crate) fn exit_later(&mut self, host: usize, task: TaskId, ms: u64, code: i32) {
        let power = self.hosts[host].power;
        let Some(pid) = self.hosts[host]
            .machine
            .containers
            .get(&task)
            .map(|c| c.pid)
        else {
            return;
        };
        let exit = Exit {
            code,
            message: String::new(),
        };
        self.at(
            self.now + ms,
            Event::Exit {
                host,
                power,
                task,
                pid,
                exit,
            },
        );
    }

    pub(crate) fn task_step(&mut self, host: usize, task: TaskId, run: u64, step: Step) {
        if self
            .driven(host, task)
            .is_none_or(|driven| driven.run != run)
        {
            return;
        }
        let input = match step {
            Step::Prepared => Input::Prepared,
            Step::Refused => {
                let refused = String::from("its image is nowhere");
                let end = End::Refused {
                    refused: refused.clone(),
                };
                self.hosts[host].machine.begun.insert(task, Some(end));
                Input::Refused(refused)
            }
            Step::DelayOver => Input::DelayOver,
            Step::Exited(exit) => Input::Exited(exit),
            Step::Start { until } => match self.may_begin(host, task, until) {
                May::Begin(before) => {
                    self.hosts[host].machine.begun.insert(task, None);
                    let takes = self.dice.between(5, 30);
                    self.step_later(host, task, takes, Step::Begin { before, until });
                    return;
                }
                May::Wait => {
                    self.step_later(host, task, LEASE_LOOK_MS, Step::Start { until });
                    return;
                }
                May::Never(why) => {
                    let refused = String::from(why);
                    let end = End::Refused { refused };
                    self.hosts[host].machine.begun.insert(task, Some(end));
                    Input::StartFailed(why.into())
                }
            },
            Step::Begin { before, until } if before.is_some_and(|before| self.now >= before) => {
                self.step_later(host, task, 1, Step::Start { until });
                return;
            }
            Step::Begin { .. } => self.run(host, task),
            Step::Clean if self.hosts[host].bad > 0 && self.dice.chance(50) => {
                Input::Cleaned(Err("the disk refuses".into()))
            }
            Step::Clean => {
                self.hosts[host].machine.containers.remove(&task);
                self.book.ended(task);
                Input::Cleaned(Ok(()))
            }
        };
        self.input(host, task, input);
    }

    fn run(&mut self, host: usize, task: TaskId) -> Input {
        let since = self.clock(host);
        let Some(driven) = self.driven(host, task) else {
            return Input::StartFailed("nobody drives it".into());
        };
        let (service, slot, behaviour) = (
            driven.task.service,
            driven.task.slot,
            Behaviour::of(&driven.image),
        );
        let (terms, exclusive) = (driven.terms, driven.exclusive);
        if self.hosts[host].bad > 0 && self.dice.chance(50) {
            return Input::StartFailed("the disk refuses".into());
        }
        let there = &mut self.hosts[host];
        there.machine.pids += 1;
        let pid = there.machine.pids;
        there.machine.containers.insert(
            task,
            Container {
                pid,
                since,
                terms,
                stopped: None,
                exit: None,
            },
        );
        self.watch_lease(host, task);
        let node = self.hosts[host].node;
        self.book.runs_on(node, task, service, slot, exclusive);
        // Once all is mended, everything works.
        match behaviour {
            _ if self.healed => {}
            Behaviour::Steady => {}
            Behaviour::Crashing => {
                let after = self.dice.between(1, 400);
                self.exit_later(host, task, after, 1);
            }
            Behaviour::Job => {
                let after = self.dice.between(200, 9_000);
                self.exit_later(host, task, after, 0);
            }
        }
        Input::Started { pid, since }
    }

    /// A container ends, whether or not a daemon looks.
    pub(crate) fn exited(&mut self, host: usize, power: u64, task: TaskId, pid: u32, exit: Exit) {
        let there = &mut self.hosts[host];
        if there.power != power {
            return;
        }
        let Some(container) = there.machine.containers.get_mut(&task) else {
            return;
        };
        if container.exit.is_some() || container.pid != pid {
            return;
        }
        container.exit = Some(exit.clone());
        self.book.ended(task);
        if self.hosts[host].paused > 0 || self.driven(host, task).is_some() {
            self.hosts[host]
                .machine
                .begun
                .insert(task, Some(End::Exited(exit.clone())));
            self.step_later(host, task, 1, Step::Exited(exit));
        }
    }
}
