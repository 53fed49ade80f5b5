//! After everything is mended: one leader, all managers with the same state, every node ready, every service with as
//! many tasks as it should have where they may be, every agent told exactly what the state says and running exactly
//! that, and nothing left of what has ended.

use super::nodes_know_their_own::essence;
use crate::world::World;
use agent::decisions::Desired;
use api::model::{NodeState, RestartCondition, Service, ServiceMode, Task, TaskId, TaskState};
use api::state::State;
use manager::decisions::{Core, sweep};
use std::collections::{BTreeMap, BTreeSet};

/// What is not yet as it should be.
#[must_use]
pub fn open(world: &World) -> Option<String> {
    let managers = || {
        world
            .hosts
            .iter()
            .take(world.script.managers)
            .filter_map(|host| host.manager.as_ref())
    };
    let mut leaders = managers().filter(|manager| manager.lead.is_some());
    let (Some(leader), None) = (leaders.next(), leaders.next()) else {
        return Some("there is not one leader".into());
    };
    let state = &leader.state;
    for (number, manager) in managers().enumerate() {
        if manager.applied != leader.raft.log().last().1 {
            return Some(format!("manager {number} is behind"));
        }
        if let Some(what) = differ(&manager.state, state) {
            return Some(format!("manager {number} has other {what} than the leader"));
        }
    }
    nodes(world, state)
        .or_else(|| {
            let mut services = state.services().values();
            services.find_map(|s| service(world, state, s))
        })
        .or_else(|| leftovers(state))
        .or_else(|| (0..world.hosts.len()).find_map(|host| agent(world, state, host)))
}

fn differ(a: &State, b: &State) -> Option<&'static str> {
    let (a, b) = (a.tables(), b.tables());
    [
        (a.nodes != b.nodes, "nodes"),
        (a.networks != b.networks, "networks"),
        (a.services != b.services, "services"),
        (a.stacks != b.stacks, "stacks"),
        (a.tasks != b.tasks, "tasks"),
        (a.templates != b.templates, "templates"),
        (a.cluster != b.cluster, "settings"),
    ]
    .into_iter()
    .find_map(|(differs, what)| differs.then_some(what))
}

fn nodes(world: &World, state: &State) -> Option<String> {
    for (number, host) in world.hosts.iter().enumerate() {
        let node = state.nodes().get(&host.node);
        if !host.member || host.gone {
            continue;
        }
        let Some(node) = node else {
            return Some(format!("host {number} is no node"));
        };
        if node.status.state != NodeState::Ready {
            return Some(format!("node {number} is {:?}", node.status.state));
        }
    }
    None
}

/// Whether its slot may stay without a task that runs: the one that followed all others has ended, and that was the end.
fn is_finished(state: &State, service: &Service, tasks: &[&Task]) -> bool {
    let restart = &service.spec.template.restart;
    let made = |ended: bool| {
        let those = tasks
            .iter()
            .filter(move |task| task.status.state.is_ended() == ended);
        those.map(|task| task.meta.created_at).max()
    };
    let given_up = |task: &&Task| task.desired == TaskState::Shutdown && lost(state, task);
    let over = |task: &&Task| task.status.state.is_ended() || given_up(task);
    tasks.iter().all(over)
        && made(true) >= made(false)
        && (restart.condition != RestartCondition::Any || restart.max_attempts.is_some())
}

/// Of a task on a machine that burnt down and was not removed nothing is heard any more: it may still run.
fn lost(state: &State, task: &Task) -> bool {
    let node = task.node.and_then(|id| state.nodes().get(&id));
    node.is_some_and(|node| node.status.state == NodeState::Down)
}

/// Slots that wait for a task that was begun to be kept, on a machine that never returns: only the node's removal tells
/// that it is over.
fn waiting(world: &World, state: &State, service: &Service) -> BTreeSet<u32> {
    let burnt = |task: &Task| {
        let mut hosts = world.hosts.iter();
        hosts.any(|host| host.gone && Some(host.node) == task.node)
    };
    let waits = |task: &Task| {
        state.may_still_run(task) && state.exclusive_until_ms(task) == Some(u64::MAX) && burnt(task)
    };
    let tasks = state.tasks_of_service(service.id);
    tasks.filter(|t| waits(t)).map(|t| t.slot).collect()
}

fn service(world: &World, state: &State, service: &Service) -> Option<String> {
    let ServiceMode::Replicated { replicas } = service.spec.mode;
    let name = &service.spec.name;
    let mut slots: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    let gone = |task: &Task| task.desired == TaskState::Remove && lost(state, task);
    for task in state
        .tasks_of_service(service.id)
        .filter(|task| !gone(task))
    {
        slots.entry(task.slot).or_default().push(task);
    }
    let waiting = waiting(world, state, service);
    slots.retain(|slot, _| !waiting.contains(slot));
    let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
    // What waits is one of its slots, or one that it had once.
    let most = u32::try_from(slots.len() + waiting.len()).unwrap_or(u32::MAX);
    if !(count..=most).contains(&replicas) {
        return Some(format!("service {name} has {count} slots of {replicas}"));
    }
    for (slot, tasks) in slots {
        let live: Vec<&&Task> = tasks
            .iter()
            .filter(|task| !task.status.state.is_ended() && !lost(state, task))
            .collect();
        match live.as_slice() {
            [] if is_finished(state, service, &tasks) => {}
            [] => return Some(format!("slot {name}.{slot} has no task")),
            [task] if task.node.is_none() => {
                if scheduler::explain(state, task).is_none() {
                    return Some(format!("task {name}.{slot} has no node, and there is one"));
                }
            }
            // Its node is gone for good: it may be that the policy wants no other.
            [task] => {
                let good = task.status.state == TaskState::Running
                    && task.desired == TaskState::Running
                    && task.template_revision == service.template_revision;
                let stuck = tasks
                    .iter()
                    .any(|task| task.template_revision != service.template_revision);
                let waits = stuck && task.status.state == TaskState::Running;
                if !good && !waits {
                    return Some(format!(
                        "task {name}.{slot} is {:?}, wanted {:?}",
                        task.status.state, task.desired
                    ));
                }
            }
            more => return Some(format!("slot {name}.{slot} has {} tasks", more.len())),
        }
    }
    None
}

fn leftovers(state: &State) -> Option<String> {
    let homeless = state
        .tasks()
        .values()
        .find(|task| !state.services().contains_key(&task.service) && !lost(state, task));
    if let Some(task) = homeless {
        return Some(format!("task {} is of no service", task.name()));
    }
    if !sweep(state).is_empty() {
        return Some("a network is nobody's".into());
    }
    for network in state.networks().keys() {
        let held = state.addresses(*network).map_or(0, |held| held.len());
        let tasks = state.tasks().values().filter(|task| {
            !task.status.state.is_ended() && task.addresses.iter().any(|a| a.network == *network)
        });
        let vips = state
            .services()
            .values()
            .filter(|service| service.vips.contains_key(network));
        let due = tasks.count() + vips.count();
        if held != due {
            return Some(format!(
                "{held} addresses of network {network} are held, for {due}"
            ));
        }
    }
    None
}

fn agent(world: &World, state: &State, number: usize) -> Option<String> {
    let host = &world.hosts[number];
    if !host.member || host.gone {
        return None;
    }
    let Some(agent) = &host.agent else {
        return Some(format!("host {number} does not run"));
    };
    let mut full = Desired::default();
    full.apply(Core::default().open(state, host.node));
    if essence(&agent.desired) != essence(&full) {
        return Some(format!("node {number} knows something else than the state"));
    }
    let wanted: BTreeSet<TaskId> = state
        .tasks_of_node(host.node)
        .filter(|task| task.status.state == TaskState::Running)
        .map(|task| task.id)
        .collect();
    let running: BTreeSet<TaskId> = host.machine.containers.keys().copied().collect();
    (wanted != running).then(|| {
        format!(
            "node {number} runs {} containers, and should run {}",
            running.len(),
            wanted.len()
        )
    })
}
