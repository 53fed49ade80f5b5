//! The services that run fewer tasks than they should, and why.

use api::model::{NodeState, Service, ServiceId, ServiceMode, Task, TaskState, Timestamp};
use api::proto::ServiceTrouble;
use api::state::State;
use std::collections::BTreeMap;

/// How many tasks each service runs that runs any.
pub fn running(state: &State) -> BTreeMap<ServiceId, u32> {
    let mut running = BTreeMap::new();
    for task in state.tasks().values().filter(|t| state.is_running(t)) {
        *running.entry(task.service).or_default() += 1;
    }
    running
}

/// The first `most` services, by name, that are short of tasks, and how many there are; `running` is what
/// [`running`] says. One whose tasks have ended well and are not to run again is not short of them.
pub fn short(
    state: &State,
    running: &BTreeMap<ServiceId, u32>,
    now: Timestamp,
    most: usize,
) -> (Vec<ServiceTrouble>, usize) {
    let lacking = state.services().values().filter_map(|service| {
        let ServiceMode::Replicated { replicas } = service.spec.mode;
        let running = running.get(&service.id).copied().unwrap_or_default();
        (running < replicas).then_some((service, running, replicas))
    });
    let mut short: Vec<_> = lacking
        .filter(|(service, running, wanted)| {
            let completed = slots(state, service)
                .into_values()
                .filter_map(|tasks| scheduler::has_completed(service, tasks, now).then_some(()))
                .count();
            running.saturating_add(u32::try_from(completed).unwrap_or(u32::MAX)) < *wanted
        })
        .collect();
    short.sort_by(|(a, ..), (b, ..)| a.spec.name.cmp(&b.spec.name));
    let count = short.len();
    let named = short.into_iter().take(most);
    let troubles = named.map(|(service, running, wanted)| ServiceTrouble {
        name: service.spec.name.clone(),
        running,
        wanted,
        message: reason(state, service),
    });
    (troubles.collect(), count)
}

/// A service's tasks by their slots.
fn slots<'a>(state: &'a State, service: &Service) -> BTreeMap<u32, Vec<&'a Task>> {
    let mut slots: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in state.tasks_of_service(service.id) {
        slots.entry(task.slot).or_default().push(task);
    }
    slots
}

/// What stands in the way, of the slots that run nothing: that there is no node for a task, else a failure, else what
/// a task does meanwhile. Empty where there is nothing to say.
fn reason(state: &State, service: &Service) -> String {
    let version = service.template_revision;
    slots(state, service)
        .into_values()
        .filter_map(|tasks| {
            tasks
                .into_iter()
                .max_by_key(|task| (task.meta.created_at, task.id))
        })
        .filter(|last| last.template_revision == version && !state.is_running(last))
        .filter_map(|last| trouble(state, last))
        .min()
        .map(|(_, text)| text)
        .unwrap_or_default()
}

/// What is to be told of the last task of a slot, the most telling first.
fn trouble(state: &State, task: &Task) -> Option<(u8, String)> {
    let node = task.node.and_then(|id| state.nodes().get(&id));
    let down = node.filter(|node| node.status.state == NodeState::Down);
    if let Some(node) = down {
        // Only what must not run twice has no successor yet.
        let name = &node.description.hostname;
        return Some((0, format!("node {name} is down")));
    }
    let status = &task.status;
    let rank = match status.state {
        TaskState::Pending => 1,
        TaskState::Failed | TaskState::Rejected => 2,
        now if now < TaskState::Running => 3,
        _ => return None,
    };
    let text = match status.exit_code {
        Some(code) if status.message.is_empty() => format!("exit code {code}"),
        _ => status.message.clone(),
    };
    (!text.is_empty()).then_some((rank, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{apply, node, running, service, state_of};
    use api::model::{NodeId, NodeStatus, RestartCondition, TaskId, TaskStatus};
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
        let (troubles, count) = short(state, &super::running(state), Timestamp(100), 20);
        assert_eq!(troubles.len(), count);
        let told =
            |t: ServiceTrouble| format!("{} {}/{}: {}", t.name, t.running, t.wanted, t.message);
        troubles.into_iter().map(told).collect()
    }

    fn change(state: &mut State, id: u128, change: impl FnOnce(&mut Service)) {
        let old = state.services()[&ServiceId(id)].clone();
        let mut new = (*old).clone();
        change(&mut new);
        let op = Op::UpdateService {
            id: old.id,
            spec: Box::new(new.spec),
            vips: old.vips.clone(),
            at_revision: old.meta.revision,
        };
        apply(state, vec![op]);
    }

    #[test]
    fn who_is_short_of_tasks_is_told_by_name_with_what_its_missing_tasks_say() {
        let mut state = three();
        assert_eq!(told(&state), ["a 0/2: ", "b 0/2: ", "c 0/2: "]);
        let (first, count) = short(&state, &BTreeMap::new(), Timestamp(100), 1);
        assert_eq!((first.len(), count), (1, 3));
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
        report(&mut state, 5, TaskState::Failed, 8, "exit code 3");
        report(&mut state, 6, TaskState::Failed, 9, "exit code 4");
        assert_eq!(told(&state), ["c 0/2: exit code 3"]);
        // Which runs again has nothing to tell any more.
        running(&mut state, 7, 3, 1, 1);
        assert_eq!(told(&state), ["c 1/2: exit code 4"]);
        running(&mut state, 8, 3, 2, 1);
        assert!(told(&state).is_empty());
    }

    #[test]
    fn what_has_ended_well_and_stays_so_is_not_missing() {
        let mut state = three();
        for (id, service, slot) in [(1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2)] {
            running(&mut state, id, service, slot, 1);
        }
        for task in 1..=4 {
            report(&mut state, task, TaskState::Complete, 7, "");
        }
        assert_eq!(told(&state), ["c 0/2: "]);
        // It is to run again, or so many times.
        change(&mut state, 1, |service| {
            service.spec.template.restart.condition = RestartCondition::Any;
        });
        assert_eq!(told(&state), ["a 0/2: ", "c 0/2: "]);
    }

    #[test]
    fn a_task_on_a_node_that_is_down_is_not_called_running() {
        let mut state = three();
        for (id, service, slot) in [(1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2)] {
            running(&mut state, id, service, slot, 1);
        }
        let status = NodeStatus {
            state: NodeState::Down,
            ..NodeStatus::default()
        };
        let op = Op::SetNodeStatus {
            id: NodeId(1),
            description: None,
            addr: None,
            status,
        };
        apply(&mut state, vec![op]);
        let told = told(&state);
        assert_eq!(told[0], "a 0/2: node node1 is down", "{told:?}");
    }
}
