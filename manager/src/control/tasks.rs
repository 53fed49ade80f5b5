//! Tasks, listed.

use super::{Control, Refusal, lookup};
use api::convert;
use api::model::{Task, TaskState};
use api::proto::{ListTasksReply, ListTasksRequest, TaskRow};
use api::state::State;
use std::collections::BTreeSet;
use std::sync::Arc;
use tonic::Status;

pub async fn list(control: &Control, request: ListTasksRequest) -> Result<ListTasksReply, Status> {
    let tasks = control
        .read(|state| {
            let chosen = chosen(state, &request)?;
            Ok::<_, Refusal>(chosen.iter().map(|task| row(state, task)).collect())
        })
        .await??;
    Ok(ListTasksReply { tasks })
}

/// The tasks that pass every filter given; of a slot the newest first.
fn chosen(state: &State, request: &ListTasksRequest) -> Result<Vec<Arc<Task>>, Refusal> {
    let service = request
        .service
        .as_ref()
        .map(|text| lookup::service(state, text))
        .transpose()?;
    let node = request
        .node
        .as_ref()
        .map(|text| lookup::node(state, text))
        .transpose()?;
    let mut wanted: BTreeSet<_> = BTreeSet::new();
    for text in &request.tasks {
        wanted.insert(lookup::task(state, text)?.id);
    }
    for id in &request.ids {
        // One that is gone is just not listed: that is what is asked.
        wanted.insert(convert::task_id(id)?);
    }
    let stack = match &request.stack {
        Some(name) => {
            lookup::stack(state, name)?;
            Some(name.as_str())
        }
        None => None,
    };
    let by_id = !request.tasks.is_empty() || !request.ids.is_empty();
    let mut tasks: Vec<Arc<Task>> = match (&service, by_id) {
        (Some(service), false) => state.tasks_of_service(service.id).cloned().collect(),
        (_, true) => wanted
            .iter()
            .filter_map(|id| state.tasks().get(id).cloned())
            .collect(),
        (None, false) => state.tasks().values().cloned().collect(),
    };
    tasks.retain(|task| {
        service
            .as_ref()
            .is_none_or(|service| task.service == service.id)
            && node.as_ref().is_none_or(|node| task.node == Some(node.id))
            && stack.is_none_or(|stack| in_stack(state, task, stack))
            && (!request.running_only
                || (task.desired <= TaskState::Running && !task.status.state.is_ended()))
    });
    tasks.sort_by(|a, b| {
        (&a.service_name, a.slot)
            .cmp(&(&b.service_name, b.slot))
            .then((b.meta.created_at, b.id).cmp(&(a.meta.created_at, a.id)))
    });
    Ok(tasks)
}

fn in_stack(state: &State, task: &Task, stack: &str) -> bool {
    state
        .services()
        .get(&task.service)
        .is_some_and(|service| service.spec.stack.as_deref() == Some(stack))
}

fn row(state: &State, task: &Task) -> TaskRow {
    let node = task.node.and_then(|id| state.nodes().get(&id));
    TaskRow {
        task: Some(task.into()),
        name: task.name(),
        image: state
            .template(task)
            .map(|t| t.container.image.clone())
            .unwrap_or_default(),
        node: node
            .map(|node| node.description.hostname.clone())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, running, service, state_of};
    use api::state::Op;

    #[test]
    fn all_filters_have_to_hold() {
        let mut state = state_of(vec![
            Op::CreateNode(Box::new(node(1, "node1"))),
            Op::CreateNode(Box::new(node(2, "node2"))),
            Op::CreateService(Box::new(service(1, "web"))),
            Op::CreateService(Box::new(service(2, "db"))),
        ]);
        for (id, service, slot, node) in [(1, 1, 1, 1), (2, 1, 2, 2), (3, 2, 1, 1)] {
            running(&mut state, id, service, slot, node);
        }
        let names = |request: &ListTasksRequest| -> Vec<String> {
            chosen(&state, request)
                .unwrap()
                .iter()
                .map(|task| task.name())
                .collect()
        };
        let all = ListTasksRequest::default();
        assert_eq!(names(&all), ["db.1", "web.1", "web.2"]);
        let web = ListTasksRequest {
            service: Some("web".into()),
            ..all.clone()
        };
        assert_eq!(names(&web), ["web.1", "web.2"]);
        let there = ListTasksRequest {
            node: Some("node1".into()),
            ..web.clone()
        };
        assert_eq!(names(&there), ["web.1"]);
        let gone = ListTasksRequest {
            ids: vec![convert::id_bytes(3), convert::id_bytes(99)],
            ..all.clone()
        };
        assert_eq!(names(&gone), ["db.1"]);
        let none = ListTasksRequest {
            service: Some("weeb".into()),
            ..all
        };
        assert!(
            chosen(&state, &none)
                .unwrap_err()
                .text
                .contains("did you mean \"web\"?")
        );
    }
}
