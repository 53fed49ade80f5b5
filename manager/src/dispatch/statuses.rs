//! Statuses of all sessions into few transactions: what comes in while one is on its way is the next one.

use api::model::{NodeId, TaskId, TaskStatus};
use api::proto::ManagerMessage;
use api::proto::manager_message::Message as ToAgent;
use api::state::{Op, State, Transaction};
use raft_store::{Handle, ProposeError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long statuses are gathered.
const GATHER: Duration = Duration::from_millis(5);
/// Most statuses of one transaction.
const MOST: usize = 1_000;
/// How long before a transaction that found no quorum is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Where to say that statuses are committed.
#[derive(Debug)]
pub struct Ack {
    pub sequence: u64,
    pub out: mpsc::Sender<Result<ManagerMessage, Status>>,
    pub over: CancellationToken,
}

impl Ack {
    fn say(self) {
        let message = ManagerMessage {
            message: Some(ToAgent::StatusesCommitted(self.sequence)),
        };
        if self.out.try_send(Ok(message)).is_err() {
            // It does not read: it begins anew, and sends them again.
            self.over.cancel();
        }
    }
}

/// One message of one session.
#[derive(Debug)]
pub struct Report {
    pub node: NodeId,
    pub statuses: Vec<(TaskId, TaskStatus)>,
    pub ack: Ack,
}

/// Goes on until it is stopped, or nobody reports any more.
pub async fn run(handle: Handle, mut reports: mpsc::Receiver<Report>, stop: CancellationToken) {
    loop {
        let first = tokio::select! {
            first = reports.recv() => first,
            () = stop.cancelled() => return,
        };
        let Some(first) = first else { return };
        let mut count = first.statuses.len();
        let mut gathered = vec![first];
        let deadline = Instant::now() + GATHER;
        while count < MOST
            && let Ok(Some(report)) = timeout_at(deadline, reports.recv()).await
        {
            count += report.statuses.len();
            gathered.push(report);
        }
        let ops = handle.read(|state| {
            let reports = gathered
                .iter()
                .map(|report| (report.node, report.statuses.as_slice()));
            news(state, reports)
        });
        tokio::select! {
            () = commit(&handle, ops) => gathered.into_iter().for_each(|report| report.ack.say()),
            () = stop.cancelled() => return,
        }
    }
}

/// What the reports change: of the reporting node's own tasks, and only forward.
pub fn news<'a>(
    state: &State,
    reports: impl IntoIterator<Item = (NodeId, &'a [(TaskId, TaskStatus)])>,
) -> Vec<Op> {
    let mut ops = Vec::new();
    for (node, statuses) in reports {
        for (id, status) in statuses {
            let Some(task) = state.tasks().get(id) else {
                continue;
            };
            if task.node != Some(node) {
                tracing::warn!(%node, task = %id, "a status of a task of another node was dropped");
                continue;
            }
            let known = &task.status;
            #[cfg(feature = "sabotage")]
            if api::sabotage::has(api::sabotage::Bug::StatusMovesBack) {
                ops.push(Op::SetTaskStatus {
                    id: *id,
                    status: status.clone(),
                });
                continue;
            }
            if known.state.is_ended() || status.state < known.state || status == known {
                continue;
            }
            ops.push(Op::SetTaskStatus {
                id: *id,
                status: status.clone(),
            });
        }
    }
    ops
}

/// Returns once all of it is committed.
async fn commit(handle: &Handle, ops: Vec<Op>) {
    let mut left: Vec<Vec<Op>> = ops.chunks(MOST).rev().map(<[Op]>::to_vec).collect();
    while let Some(chunk) = left.pop() {
        let transaction = Transaction {
            at: crate::clock::now(),
            ops: chunk.clone(),
        };
        match handle.propose(transaction).await {
            Ok(_) => {}
            // Who does not lead any more is stopped; the agents send them again to the next leader.
            Err(error @ (ProposeError::NotLeader { .. } | ProposeError::Unavailable(_))) => {
                tracing::debug!("statuses wait: {error}");
                left.push(chunk);
                sleep(RETRY).await;
            }
            Err(ProposeError::TooLarge { .. }) if chunk.len() > 1 => {
                let (first, second) = chunk.split_at(chunk.len() / 2);
                left.push(second.to_vec());
                left.push(first.to_vec());
            }
            // A status is never refused; should one be, sending it again would not help.
            Err(error) => tracing::error!("statuses were dropped: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, running, state_of};
    use api::model::TaskState;

    #[test]
    fn only_news_of_the_nodes_own_tasks_are_proposed() {
        let mut state = state_of(vec![
            Op::CreateNode(Box::new(testing::node(1, "node1"))),
            Op::CreateNode(Box::new(testing::node(2, "node2"))),
            Op::CreateService(Box::new(testing::service(1, "web"))),
        ]);
        running(&mut state, 1, 1, 1, 1);
        running(&mut state, 2, 1, 2, 2);
        let status = |state| TaskStatus {
            state,
            ..TaskStatus::default()
        };
        let failed = status(TaskState::Failed);
        let first = [
            (TaskId(1), status(TaskState::Preparing)),
            (TaskId(2), failed.clone()),
        ];
        let second = [(TaskId(99), failed.clone()), (TaskId(1), failed.clone())];
        assert_eq!(
            news(
                &state,
                [
                    (NodeId(1), first.as_slice()),
                    (NodeId(1), second.as_slice())
                ]
            ),
            [Op::SetTaskStatus {
                id: TaskId(1),
                status: failed
            }]
        );
    }
}
