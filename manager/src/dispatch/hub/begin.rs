//! A session begins: its node is called ready first, and then told all that it is to know.

use super::{Hub, Opening, Proposed, Session};
use crate::clock::now;
use crate::dispatch::standing::gone;
use api::model::{NodeId, NodeState, NodeStatus};
use api::proto::Welcome;
use api::proto::manager_message::Message as ToAgent;
use api::state::{Op, Transaction};
use raft_store::ProposeError;
use tonic::Status;

impl Hub {
    pub(super) fn begin(&mut self, opening: Opening) {
        let Opening {
            node,
            number,
            description,
            addr,
            instance,
            cert,
            out,
            over,
            heard,
        } = opening;
        let known = self.handle.read(|state| state.nodes().get(&node).cloned());
        let Some(known) = known else {
            // Its stream ends either way.
            let _ = out.try_send(Err(gone(node)));
            over.cancel();
            return;
        };
        let refusal = self.twin(node, &instance, addr.0);
        if let Some(refusal) = refusal.or_else(|| self.taken(node, addr)) {
            let _ = out.try_send(Err(refusal));
            over.cancel();
            return;
        }
        if let Some(old) = self.sessions.remove(&node) {
            tracing::debug!(%node, "a newer session replaces the one before");
            let _ = old.out.try_send(Err(Status::aborted(
                "a newer session of this node has begun",
            )));
            old.over.cancel();
            self.core.close(node);
        }
        self.liveness.heard(node, heard.at());
        self.sessions.insert(
            node,
            Session {
                number,
                out,
                over,
                heard,
                instance: instance.clone(),
                addr: addr.0,
                port: addr.1,
                acknowledged: 0,
                open: false,
                told: None,
            },
        );
        self.overview.has_session(node, instance);
        let same = self.is_certain
            && known.status.state == NodeState::Ready
            && known.description == description
            && (known.addr, known.port) == addr
            && cert.as_ref().is_none_or(|cert| *cert == known.cert);
        let handle = self.handle.clone();
        if same {
            // Another may lead by now, and what this one knows be old. What is written proves the same below.
            self.proposals.push(Box::pin(async move {
                let outcome = handle.linearizable().await.map(drop);
                Proposed::Ready {
                    node,
                    number,
                    outcome,
                }
            }));
            return;
        }
        let mut ops: Vec<Op> = Vec::new();
        ops.extend(cert.map(|cert| Op::SetNodeCert { id: node, cert }));
        ops.push(Op::SetNodeStatus {
            id: node,
            status: NodeStatus {
                state: NodeState::Ready,
                since: now(),
                ..NodeStatus::default()
            },
            description: Some(description),
            addr: Some(addr),
        });
        self.proposals.push(Box::pin(async move {
            let outcome = handle
                .propose(Transaction { at: now(), ops })
                .await
                .map(drop);
            Proposed::Ready {
                node,
                number,
                outcome,
            }
        }));
    }

    /// The node is known to be ready: its session opens.
    pub(super) fn ready(&mut self, node: NodeId, number: u64, outcome: Result<(), ProposeError>) {
        let Some(session) = self
            .sessions
            .get_mut(&node)
            .filter(|session| session.number == number)
        else {
            return;
        };
        if let Err(error) = outcome {
            let status = match error {
                ProposeError::NotLeader { .. } => crate::dispatch::not_the_leader(&self.handle),
                ProposeError::Refused(_) => gone(node),
                error => Status::unavailable(error.to_string()),
            };
            self.end(node, status);
            return;
        }
        session.open = true;
        self.look_at_pace();
        let welcome = Welcome {
            heartbeat_ms: self.pace.heartbeat_ms,
            dead_after_ms: self.pace.dead_after_ms,
            managers: self.managers.clone(),
        };
        let full = self.handle.read(|state| self.core.open(state, node));
        tracing::info!(%node, tasks = full.tasks.len(), "session open");
        self.send(node, ToAgent::Welcome(welcome));
        self.assign(node, full);
        self.tell_standings(Some(node));
    }
}
