//! Every session's difference, from the state and its events: pure.
//!
//! ```text
//! events ─► batch ─► tables of the networks some node is on ─► difference of each network
//!                └─► tasks of each node with a session      ─┴─► one message per node
//! ```
//!
//! Each network is kept once, whatever the number of nodes on it, and its difference is made once; all
//! sessions move with the tables in step. A session that can't follow is closed and begins anew with a full
//! message.
//!
//! Invariants: what a node gets by adding up its messages is what a full message would tell it; a node is told the
//! content of a secret or a config with the first task of its own that uses it, and to forget it with the last.

use super::batch::Batch;
use super::view::{self, NetworkTable};
use api::convert;
use api::model::{BlobId, NetworkId, NodeId, Task, TaskId};
use api::proto::{Assignments, EndpointKey, ServiceKey};
use api::state::{Event, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a node was told.
#[derive(Debug, Default)]
struct Session {
    tasks: BTreeMap<TaskId, Told>,
    /// The networks of those tasks, with how many of them are on each.
    networks: BTreeMap<NetworkId, usize>,
    /// The secrets and configs of those tasks, with how many of them use each.
    blobs: BTreeMap<BlobId, usize>,
}

/// A task as a node was told of it.
#[derive(Debug)]
struct Told {
    task: Arc<Task>,
    /// What its template names, which may be gone by the time the task is.
    blobs: BTreeSet<BlobId>,
}

/// How a network has changed.
#[derive(Debug, Default)]
struct Difference {
    changed: Assignments,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Core {
    sessions: BTreeMap<NodeId, Session>,
    /// The networks that some session is on, with how many.
    tables: BTreeMap<NetworkId, (NetworkTable, usize)>,
}

impl Core {
    /// A session begins, or begins anew: its full message.
    pub fn open(&mut self, state: &State, node: NodeId) -> Assignments {
        self.close(node);
        self.sessions.insert(node, Session::default());
        let tasks: BTreeSet<TaskId> = state.tasks_of_node(node).map(|task| task.id).collect();
        let mut message = self.message(state, node, &tasks, &BTreeMap::new());
        message.full = true;
        message
    }

    /// A session has ended.
    pub fn close(&mut self, node: NodeId) {
        if let Some(session) = self.sessions.remove(&node) {
            for network in session.networks.keys() {
                self.leave(*network);
            }
        }
    }

    /// Who has a session.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.sessions.keys().copied()
    }

    /// Takes events; the state holds at least them. The messages that are not empty.
    pub fn advance<'a>(
        &mut self,
        state: &State,
        events: impl Iterator<Item = &'a Event>,
    ) -> Vec<(NodeId, Assignments)> {
        let mut batch = Batch::default();
        for event in events {
            batch.add(event, state);
        }
        if batch.is_empty() {
            return Vec::new();
        }
        let differences = self.advance_tables(state, &batch);
        let none = BTreeSet::new();
        let touched: Vec<NodeId> = self
            .sessions
            .iter()
            .filter(|(node, session)| {
                batch.tasks.contains_key(node)
                    || session
                        .networks
                        .keys()
                        .any(|network| differences.contains_key(network))
            })
            .map(|(node, _)| *node)
            .collect();
        touched
            .into_iter()
            .map(|node| {
                let tasks = batch.tasks.get(&node).unwrap_or(&none);
                (node, self.message(state, node, tasks, &differences))
            })
            .filter(|(_, message)| !is_empty(message))
            .collect()
    }

    /// Every session begins anew: the full messages.
    pub fn resync(&mut self, state: &State) -> Vec<(NodeId, Assignments)> {
        self.tables.clear();
        let nodes: Vec<NodeId> = std::mem::take(&mut self.sessions).into_keys().collect();
        nodes
            .into_iter()
            .map(|node| (node, self.open(state, node)))
            .collect()
    }

    fn advance_tables(&mut self, state: &State, batch: &Batch) -> BTreeMap<NetworkId, Difference> {
        let mut differences: BTreeMap<NetworkId, Difference> = BTreeMap::new();
        for (id, (table, _)) in &mut self.tables {
            let mut difference = Difference::default();
            let changed = &mut difference.changed;
            if batch.networks.contains(id)
                && let Some(network) = state.networks().get(id)
            {
                let view = view::network_view(network);
                if table.view != view {
                    changed.networks.push(view.clone());
                    table.view = view;
                }
            }
            for task in batch.endpoints.get(id).into_iter().flatten() {
                let now = state
                    .tasks()
                    .get(task)
                    .and_then(|task| view::endpoint(state, *id, task));
                match (now, table.endpoints.get(task)) {
                    (Some(now), was) if was != Some(&now) => {
                        changed.endpoints.push(now.clone());
                        table.endpoints.insert(*task, now);
                    }
                    #[cfg(feature = "sabotage")]
                    (None, Some(_))
                        if api::sabotage::has(api::sabotage::Bug::EndpointLeftBehind) => {}
                    (None, Some(_)) => {
                        table.endpoints.remove(task);
                        changed.endpoints_removed.push(EndpointKey {
                            network: convert::id_bytes(id.0),
                            task: convert::id_bytes(task.0),
                        });
                    }
                    _ => {}
                }
            }
            for service in batch.services.get(id).into_iter().flatten() {
                let now = state
                    .services()
                    .get(service)
                    .and_then(|service| view::service_view(service, *id));
                match (now, table.services.get(service)) {
                    (Some(now), was) if was != Some(&now) => {
                        changed.services.push(now.clone());
                        table.services.insert(*service, now);
                    }
                    (None, Some(_)) => {
                        table.services.remove(service);
                        changed.services_removed.push(ServiceKey {
                            network: convert::id_bytes(id.0),
                            service: convert::id_bytes(service.0),
                        });
                    }
                    _ => {}
                }
            }
            if !is_empty(changed) {
                differences.insert(*id, difference);
            }
        }
        differences
    }

    /// What a node is told: of these of its tasks, and of the networks that have changed.
    fn message(
        &mut self,
        state: &State,
        node: NodeId,
        tasks: &BTreeSet<TaskId>,
        differences: &BTreeMap<NetworkId, Difference>,
    ) -> Assignments {
        let mut message = Assignments {
            revision: state.revision(),
            ..Assignments::default()
        };
        let Some(mut session) = self.sessions.remove(&node) else {
            return message;
        };
        let before: BTreeSet<NetworkId> = session.networks.keys().copied().collect();
        let had: BTreeSet<BlobId> = session.blobs.keys().copied().collect();
        for id in tasks {
            session.task(state, node, *id, &mut message);
        }
        session.contents(state, &had, &mut message);
        for network in session.networks.keys() {
            if before.contains(network) {
                if let Some(difference) = differences.get(network) {
                    add(&mut message, &difference.changed);
                }
            } else {
                self.enter(state, *network, &mut message);
            }
        }
        for network in before
            .iter()
            .filter(|network| !session.networks.contains_key(network))
        {
            self.leave(*network);
            message.networks_removed.push(convert::id_bytes(network.0));
        }
        self.sessions.insert(node, session);
        message
    }

    /// A node comes onto a network: it is told all of it.
    fn enter(&mut self, state: &State, network: NetworkId, message: &mut Assignments) {
        let (table, users) = self
            .tables
            .entry(network)
            // A network that is gone has nobody on it; the event that says so is on its way.
            .or_insert_with(|| (view::table(state, network).unwrap_or_default(), 0));
        *users += 1;
        message.networks.push(table.view.clone());
        message.endpoints.extend(table.endpoints.values().cloned());
        message.services.extend(table.services.values().cloned());
    }

    fn leave(&mut self, network: NetworkId) {
        if let Some((_, users)) = self.tables.get_mut(&network) {
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.tables.remove(&network);
            }
        }
    }
}

impl Session {
    fn task(&mut self, state: &State, node: NodeId, id: TaskId, message: &mut Assignments) {
        let now = state
            .tasks()
            .get(&id)
            .filter(|task| view::is_assigned(task, node))
            .cloned();
        match (now, self.tasks.get(&id)) {
            (Some(now), was) if was.is_none_or(|was| !same_to_node(&was.task, &now)) => {
                // Without its template it can't be run; it is on its way out.
                let Some(assigned) = view::assigned_task(state, &now) else {
                    return;
                };
                message.tasks.push(assigned);
                self.forget(id);
                for held in &now.addresses {
                    *self.networks.entry(held.network).or_default() += 1;
                }
                let blobs = view::blobs(state, &now);
                for blob in &blobs {
                    *self.blobs.entry(*blob).or_default() += 1;
                }
                self.tasks.insert(id, Told { task: now, blobs });
            }
            (None, Some(_)) => {
                self.forget(id);
                message.tasks_removed.push(convert::id_bytes(id.0));
            }
            _ => {}
        }
    }

    fn forget(&mut self, id: TaskId) {
        let Some(told) = self.tasks.remove(&id) else {
            return;
        };
        for held in &told.task.addresses {
            less(&mut self.networks, held.network);
        }
        for blob in told.blobs {
            less(&mut self.blobs, blob);
        }
    }

    /// What has come into use and what has gone out of it, since `had` was in use.
    fn contents(&self, state: &State, had: &BTreeSet<BlobId>, message: &mut Assignments) {
        // One that is used is there: the state keeps it.
        let come = self.blobs.keys().filter(|id| !had.contains(id));
        let come = come.filter_map(|id| state.blobs().get(id));
        message.blobs.extend(come.map(|blob| view::content(blob)));
        let gone = had.iter().filter(|id| !self.blobs.contains_key(id));
        message
            .blobs_removed
            .extend(gone.map(|id| convert::id_bytes(id.0)));
    }
}

fn less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// A node is not told its own reports.
fn same_to_node(a: &Task, b: &Task) -> bool {
    a.desired == b.desired
        && a.not_before == b.not_before
        && a.addresses == b.addresses
        && a.ports == b.ports
        && a.template_revision == b.template_revision
}

fn add(message: &mut Assignments, more: &Assignments) {
    message.networks.extend(more.networks.iter().cloned());
    message.endpoints.extend(more.endpoints.iter().cloned());
    message
        .endpoints_removed
        .extend(more.endpoints_removed.iter().cloned());
    message.services.extend(more.services.iter().cloned());
    message
        .services_removed
        .extend(more.services_removed.iter().cloned());
}

fn is_empty(message: &Assignments) -> bool {
    message.tasks.is_empty()
        && message.tasks_removed.is_empty()
        && message.networks.is_empty()
        && message.networks_removed.is_empty()
        && message.endpoints.is_empty()
        && message.endpoints_removed.is_empty()
        && message.services.is_empty()
        && message.services_removed.is_empty()
        && message.blobs.is_empty()
        && message.blobs_removed.is_empty()
}

#[cfg(test)]
mod tests;
