//! What the leader sees through, a step at a time: managers that shall be workers are let go, and an old CA goes once
//! nobody needs it. Level-triggered: a new leader goes on where the one before has stopped.

use crate::ca::laggards;
use crate::clock::now;
use crate::raft_rpc::hand_over;
use api::model::{NodeId, Role};
use api::state::{Op, State, Transaction};
use raft_store::{Handle, ManagerState};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);
/// How long after a step that failed.
const PAUSE: Duration = Duration::from_secs(2);

/// A step.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// This manager shall be a worker: another has to lead first.
    HandOver,
    /// A manager is let go.
    LetGo(NodeId),
    /// Nobody has a certificate of the old root any more.
    ForgetRoot,
}

/// The next step, if there is one: pure.
fn next(state: &State, managers: &[ManagerState], me: NodeId) -> Option<Step> {
    let demoted = |manager: &&ManagerState| {
        let node = state.nodes().get(&manager.peer.node_id);
        node.is_some_and(|node| node.spec.role == Role::Worker)
    };
    let stays = |manager: &ManagerState| manager.voter && !demoted(&manager);
    if managers.iter().any(stays) {
        // The leader last: it lets the others go.
        let other = managers
            .iter()
            .filter(|manager| manager.peer.node_id != me)
            .find(demoted);
        if let Some(manager) = other {
            return Some(Step::LetGo(manager.peer.node_id));
        }
        if managers
            .iter()
            .filter(|manager| manager.peer.node_id == me)
            .any(|manager| demoted(&manager))
        {
            return Some(Step::HandOver);
        }
    }
    let replacing = state.cluster().is_some_and(|c| c.retiring.is_some());
    (replacing && laggards(state).is_empty()).then_some(Step::ForgetRoot)
}

/// Goes on until it is stopped.
pub async fn run(handle: Handle, me: NodeId, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = steps(&handle, me) => {}
    }
}

async fn steps(handle: &Handle, me: NodeId) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let managers = handle.managers();
        let Some(step) = handle.read(|state| next(state, &managers, me)) else {
            continue;
        };
        tracing::debug!(?step, "upkeep");
        if let Err(why) = take(handle, me, &step).await {
            tracing::warn!(?step, "not done yet, it is tried again: {why}");
            sleep(PAUSE).await;
        }
    }
}

async fn take(handle: &Handle, me: NodeId, step: &Step) -> Result<(), String> {
    match step {
        Step::HandOver => hand_over(handle, me)
            .await
            .map_err(|status| status.message().to_owned()),
        Step::LetGo(node) => handle
            .remove_manager(*node)
            .await
            .map_err(|error| error.to_string()),
        Step::ForgetRoot => {
            let Some(mut cluster) = handle.read(|state| state.cluster().cloned()) else {
                return Ok(());
            };
            let at_revision = cluster.meta.revision;
            std::sync::Arc::make_mut(&mut cluster).retiring = None;
            let ops = vec![Op::UpdateCluster {
                cluster: Box::new((*cluster).clone()),
                at_revision,
            }];
            // A node that has joined meanwhile has its certificate of the new root.
            handle
                .propose(Transaction { at: now(), ops })
                .await
                .map_err(|error| error.to_string())?;
            tracing::info!("the old CA is gone: every node has a certificate of the new one");
            Ok(())
        }
    }
}
