//! A node knows of the tasks assigned to it and of nobody else's, of the networks those are on, of who is on these
//! now and of nobody who has left; and what it was told bit by bit sums up to what a full message would tell.

use super::Invariant;
use crate::sight::Sight;
use agent::decisions::Desired;
use api::convert;
use api::model::{NodeId, TaskId};
use bytes::Bytes;
use manager::decisions::Core;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct State;

/// But for what the node reports itself, which it is not told again.
pub fn essence(desired: &Desired) -> Desired {
    let mut desired = desired.clone();
    desired.revision = 0;
    for assigned in desired.tasks.values_mut() {
        // Of a removed service's tasks, which only have to end, a full message knows no stack any more.
        assigned.stack = None;
        if let Some(task) = &mut assigned.task {
            (task.status, task.meta) = (None, None);
        }
    }
    desired
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "nodes know their own"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, _: bool) -> Result<(), String> {
        let Sight::Told {
            node,
            told,
            contents,
            state,
            applied,
            whole,
        } = sight
        else {
            return Ok(());
        };
        only_its_own(*node, told, state, *whole)?;
        secrets(*node, contents, state, *whole)?;
        if !whole {
            return Ok(());
        }
        let mut full = Desired::default();
        full.apply(Core::default().open(state, *node));
        if essence(told) != essence(&full) {
            return Err(format!(
                "what node {node} was told up to {applied} is not what a full message says: {}",
                difference(told, &full)
            ));
        }
        Ok(())
    }
}

fn only_its_own(
    node: NodeId,
    told: &Desired,
    state: &api::state::State,
    whole: bool,
) -> Result<(), String> {
    let mut networks = BTreeSet::new();
    for id in told.tasks.keys() {
        let id = convert::task_id(id).map_err(|e| e.to_string())?;
        let task = state.tasks().get(&id);
        let Some(task) = task.filter(|task| task.node == Some(node)) else {
            return Err(format!(
                "node {node} knows task {id}, which is not assigned to it"
            ));
        };
        networks.extend(
            task.addresses
                .iter()
                .map(|held| convert::id_bytes(held.network.0)),
        );
    }
    if let Some(more) = told.networks.keys().find(|id| !networks.contains(*id)) {
        return Err(format!(
            "node {node} knows network {more:x?}, which it has no task on"
        ));
    }
    for (network, task) in told.endpoints.keys() {
        let id: TaskId = convert::task_id(task).map_err(|e| e.to_string())?;
        let there = state.tasks().get(&id).is_some_and(|task| {
            let on = |held: &api::model::TaskAddress| convert::id_bytes(held.network.0) == *network;
            !task.status.state.is_ended() && task.addresses.iter().any(on)
        });
        if whole && !there {
            return Err(format!(
                "node {node} knows an endpoint of task {id}, which has left"
            ));
        }
    }
    Ok(())
}

/// It has the contents that its tasks use, and no other.
fn secrets(
    node: NodeId,
    contents: &BTreeSet<Bytes>,
    state: &api::state::State,
    whole: bool,
) -> Result<(), String> {
    let mut used = BTreeSet::new();
    for task in state.tasks_of_node(node) {
        if !task.status.state.is_ended()
            && let Some(template) = state.template(task)
        {
            used.extend(
                template
                    .blobs
                    .iter()
                    .map(|file| convert::id_bytes(file.blob.0)),
            );
        }
    }
    if let Some(more) = contents.difference(&used).next() {
        return Err(format!(
            "node {node} knows secret or config {more:x?}, which no task of it uses"
        ));
    }
    match used.difference(contents).next() {
        Some(less) if whole => Err(format!("node {node} lacks secret or config {less:x?}")),
        _ => Ok(()),
    }
}

fn difference(told: &Desired, full: &Desired) -> &'static str {
    if told.tasks.len() != full.tasks.len() {
        "other tasks"
    } else if told.networks != full.networks {
        "other networks"
    } else if told.endpoints != full.endpoints {
        "other endpoints"
    } else if told.services != full.services {
        "other services"
    } else {
        "other words about tasks"
    }
}
