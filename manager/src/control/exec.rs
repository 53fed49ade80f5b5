//! A process in a container, wherever it runs: finds the node and passes both directions on.

use super::logs::reason;
use super::lookup::{self, Target};
use super::{Control, Refusal, Reply};
use api::model::{NodeId, Task, TaskState};
use api::proto::agent_client::AgentClient;
use api::proto::exec_input::Input;
use api::proto::{ExecInput, ExecOutput, ExecStart};
use api::state::State;
use futures_util::{StreamExt, future, stream};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

/// How long the caller may take to say what to run, and the node to begin.
const BOUND: Duration = Duration::from_secs(20);

pub async fn exec(
    control: &Control,
    mut input: Streaming<ExecInput>,
) -> Result<Reply<ExecOutput>, Status> {
    let first = timeout(BOUND, input.message())
        .await
        .map_err(|_| Status::deadline_exceeded("exec: nothing was said about what to run"))??;
    let Some(ExecInput {
        input: Some(Input::Start(start)),
    }) = first
    else {
        return Err(Status::invalid_argument(
            "exec: the first message has to say what to run",
        ));
    };
    if start.args.is_empty() {
        return Err(Status::invalid_argument(
            "exec: there is no command; say what to run",
        ));
    }
    let place = control
        .read(|state| resolve(state, &start.target))
        .await??;
    let start = ExecStart {
        target: place.task,
        ..start
    };
    let begin = stream::once(future::ready(ExecInput {
        input: Some(Input::Start(start)),
    }));
    // An error ends the input; the node learns of it as the call is given up.
    let rest = input.filter_map(|message| future::ready(message.ok()));
    let mut client = AgentClient::new(control.dialer.node(&place.addr, place.node));
    match timeout(BOUND, client.exec(begin.chain(rest))).await {
        Ok(Ok(response)) => Ok(Box::pin(response.into_inner())),
        Ok(Err(status)) => {
            let why = match status.code() {
                Code::Unavailable => reason(&status),
                _ => status.message().to_owned(),
            };
            let (task, node) = (place.name, place.hostname);
            Err(Status::new(
                status.code(),
                format!("exec: task {task} on {node}: {why}"),
            ))
        }
        Err(_) => Err(Status::unavailable(format!(
            "exec: node {} did not answer within {} s",
            place.hostname,
            BOUND.as_secs()
        ))),
    }
}

#[derive(Debug)]
struct Place {
    task: String,
    name: String,
    node: NodeId,
    hostname: String,
    addr: String,
}

fn resolve(state: &State, text: &str) -> Result<Place, Refusal> {
    let task = match lookup::target(state, text)? {
        Target::Task(task) => task,
        Target::Service(service) => {
            let name = &service.spec.name;
            state
                .tasks_of_service(service.id)
                .filter(|task| runs(task))
                .min_by_key(|t| (t.slot, t.id))
                .cloned()
                .ok_or_else(|| {
                    Refusal::first(format!(
                        "service {name} has no running task; see `clusterctl service ps {name}`"
                    ))
                })?
        }
    };
    let name = task.name();
    if !runs(&task) {
        let why = if task.status.message.is_empty() {
            String::new()
        } else {
            format!(" ({})", task.status.message)
        };
        let state = task.status.state;
        let does = if state.is_ended() {
            "has ended"
        } else {
            "does not run yet"
        };
        return Err(Refusal::first(format!(
            "task {name} {does}: it is {}{why}",
            state.as_str()
        )));
    }
    let node = task
        .node
        .and_then(|id| state.nodes().get(&id))
        .ok_or_else(|| Refusal::first(format!("task {name} is on no node")))?;
    Ok(Place {
        task: task.id.to_string(),
        name,
        node: node.id,
        hostname: node.description.hostname.clone(),
        addr: format!("{}:{}", node.addr, node.port),
    })
}

fn runs(task: &Task) -> bool {
    task.status.state == TaskState::Running
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, apply, running, state_of};
    use api::model::{TaskId, TaskStatus};
    use api::state::Op;

    #[test]
    fn a_service_means_its_first_running_task_and_an_ended_task_is_told() {
        let mut state = state_of(vec![
            Op::CreateNode(Box::new(testing::node(1, "node1"))),
            Op::CreateService(Box::new(testing::service(1, "web"))),
        ]);
        assert!(
            resolve(&state, "web")
                .unwrap_err()
                .text
                .contains("service web has no running task")
        );
        running(&mut state, 1, 1, 1, 1);
        running(&mut state, 2, 1, 2, 1);
        assert_eq!(resolve(&state, "web").unwrap().name, "web.1");
        assert_eq!(
            resolve(&state, "web.2").unwrap().task,
            TaskId(2).to_string()
        );
        let status = TaskStatus {
            state: TaskState::Failed,
            message: "exit code 3".into(),
            ..TaskStatus::default()
        };
        apply(
            &mut state,
            vec![Op::SetTaskStatus {
                id: TaskId(1),
                status,
            }],
        );
        assert_eq!(resolve(&state, "web").unwrap().name, "web.2");
        let refusal = resolve(&state, "web.1").unwrap_err();
        assert_eq!(
            refusal.text,
            "task web.1 has ended: it is failed (exit code 3)"
        );
    }
}
