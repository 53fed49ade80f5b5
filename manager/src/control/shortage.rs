//! The services that run fewer tasks than they should, and why.

use api::model::{RestartCondition, Service, ServiceMode, Task, TaskState};
use api::proto::ServiceTrouble;
use api::state::State;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The first `most` services, by name, that are short of tasks; and how many there are. One whose tasks have ended
/// well and are not to run again is not short of them.
pub fn short(state: &State, most: usize) -> (Vec<ServiceTrouble>, usize) {
    let mut running: BTreeMap<_, u32> = BTreeMap::new();
    for task in state.tasks().values().filter(|task| is_running(task)) {
        *running.entry(task.service).or_default() += 1;
    }
    let mut all: Vec<_> = state
        .services()
        .values()
        .filter_map(|service| {
            let ServiceMode::Replicated { replicas } = service.spec.mode;
            let running = running.get(&service.id).copied().unwrap_or_default();
            (running < replicas && running + done(state, service) < replicas)
                .then_some((service, running, replicas))
        })
        .collect();
    all.sort_by(|(a, ..), (b, ..)| a.spec.name.cmp(&b.spec.name));
    let count = all.len();
    let named = all.into_iter().take(most);
    let troubles = named.map(|(service, running, wanted)| ServiceTrouble {
        name: service.spec.name.clone(),
        running,
        wanted,
        message: reason(state, service),
    });
    (troubles.collect(), count)
}

fn is_running(task: &Task) -> bool {
    task.status.state == TaskState::Running && task.desired <= TaskState::Running
}

/// Each slot's last task.
fn last<'a>(state: &'a State, service: &Service) -> BTreeMap<u32, &'a Task> {
    let mut last: BTreeMap<u32, &Task> = BTreeMap::new();
    for task in state.tasks_of_service(service.id) {
        let place = last.entry(task.slot).or_insert(task);
        if task.meta.created_at > place.meta.created_at {
            *place = task;
        }
    }
    last
}

/// How many slots have ended well, for good.
fn done(state: &State, service: &Service) -> u32 {
    if service.spec.template.restart.condition == RestartCondition::Any {
        return 0;
    }
    let last = last(state, service);
    let done = last
        .values()
        .filter(|task| task.status.state == TaskState::Complete);
    u32::try_from(done.count()).unwrap_or(u32::MAX)
}

/// What stands in the way: that there is no node for a task, else the last failure, else what a task does meanwhile.
/// Empty where there is nothing to say.
fn reason(state: &State, service: &Service) -> String {
    let rank = |task: &Task| match task.status.state {
        TaskState::Pending if !task.status.message.is_empty() => Some(0),
        TaskState::Failed | TaskState::Rejected => Some(1),
        now if now < TaskState::Running && !task.status.message.is_empty() => Some(2),
        _ => None,
    };
    state
        .tasks_of_service(service.id)
        .filter(|task| task.template_revision == service.template_revision)
        .filter_map(|task| Some((rank(task)?, Reverse(task.status.at), task)))
        .min_by_key(|(rank, at, task)| (*rank, *at, task.slot))
        .map(|(_, _, task)| match task.status.exit_code {
            Some(code) if task.status.message.is_empty() => format!("exit code {code}"),
            _ => task.status.message.clone(),
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{apply, node, running, service, state_of};
    use api::model::{ServiceId, TaskId, TaskStatus, Timestamp};
    use api::state::Op;

    /// Services `a` to `c`, two tasks of each wanted.
    fn three() -> State {
        let service = |id, name| {
            let mut service = service(id, name);
            service.spec.mode = ServiceMode::Replicated { replicas: 2 };
            service.spec.template.restart.condition = RestartCondition::OnFailure;
            Op::CreateService(Box::new(service))
        };
        state_of(vec![
            Op::CreateNode(Box::new(node(1, "node1"))),
            service(3, "c"),
            service(2, "b"),
            service(1, "a"),
        ])
    }

    fn report(state: &mut State, task: u128, now: TaskState, at: i64, message: &str) {
        let status = TaskStatus {
            state: now,
            at: Timestamp(at),
            message: message.into(),
            ..TaskStatus::default()
        };
        let id = TaskId(task);
        apply(state, vec![Op::SetTaskStatus { id, status }]);
    }

    fn told(state: &State) -> Vec<String> {
        let (troubles, count) = short(state, 20);
        assert_eq!(troubles.len(), count);
        let told =
            |t: ServiceTrouble| format!("{} {}/{}: {}", t.name, t.running, t.wanted, t.message);
        troubles.into_iter().map(told).collect()
    }

    #[test]
    fn who_is_short_of_tasks_is_told_by_name_with_the_last_failure() {
        let mut state = three();
        assert_eq!(told(&state), ["a 0/2: ", "b 0/2: ", "c 0/2: "]);
        assert_eq!(short(&state, 1).0.len(), 1);
        assert_eq!(short(&state, 1).1, 3);
        for (id, service, slot) in [
            (1, 1, 1),
            (2, 1, 2),
            (3, 2, 1),
            (4, 2, 2),
            (5, 3, 1),
            (6, 3, 2),
        ] {
            running(&mut state, id, service, slot, 1);
        }
        assert!(told(&state).is_empty());
        // An end that was wanted is none of the service's troubles.
        report(&mut state, 3, TaskState::Complete, 7, "");
        assert!(told(&state).is_empty());
        report(&mut state, 5, TaskState::Failed, 8, "exit code 3");
        report(&mut state, 6, TaskState::Failed, 9, "exit code 4");
        assert_eq!(told(&state), ["c 0/2: exit code 4"]);
        running(&mut state, 7, 3, 1, 1);
        assert_eq!(told(&state), ["c 1/2: exit code 4"]);
        // It ended well and is to run again.
        let mut again = (*state.services()[&ServiceId(2)]).clone();
        again.spec.template.restart.condition = RestartCondition::Any;
        let id = again.id;
        assert_eq!(done(&state, &again), 0);
        assert_eq!(done(&state, &state.services()[&id]), 1);
    }
}
