//! One look at every node and every task, into dense arrays: what a pass decides from.
//!
//! Nodes are in order of their id and go by their place in that order. Tasks are in order of service and slot,
//! in a slot the newest first, with those that are to be removed behind them.

use api::model::{
    Availability, Node, NodeId, NodeState, Service, ServiceId, Task, TaskId, TaskState,
};
use api::state::{State, Table};
use std::cmp::Reverse;
use std::sync::Arc;

/// What a node means for the tasks on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// It is there.
    Ready,
    /// It has not been heard of yet (the managers have just changed): its tasks are left alone. So are those of
    /// exclusive services on a node that is down, until their lease is surely over.
    Unknown,
    /// The user wants it empty.
    Drained,
    /// It is down or gone: what runs on it can't be known, and nobody waits for it.
    Lost,
}

impl Host {
    fn of(node: &Node) -> Self {
        match (node.status.state, node.spec.availability) {
            (NodeState::Down, _) => Self::Lost,
            (_, Availability::Drain) => Self::Drained,
            (NodeState::Unknown, _) => Self::Unknown,
            (NodeState::Ready, _) => Self::Ready,
        }
    }
}

/// A node.
pub(crate) struct Site<'a> {
    pub node: &'a Node,
    pub host: Host,
    /// Live tasks on it.
    pub load: u32,
}

/// A task and where it is.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Place of its service in the order, then slot.
    key: (u32, u32),
    pub task: &'a Task,
    /// Its node, if that is (still) there.
    pub site: Option<u32>,
    /// Absent when it has no node.
    pub host: Option<Host>,
}

impl Entry<'_> {
    /// Whether something of it is on a node that we would hear its end from.
    pub fn is_held(&self) -> bool {
        #[cfg(feature = "sabotage")]
        if api::sabotage::has(api::sabotage::Bug::SlotStartsEarly) {
            return false;
        }
        self.host.is_some_and(|host| host != Host::Lost) && !self.task.status.state.is_ended()
    }
}

/// A service and its tasks.
#[derive(Clone, Copy)]
pub(crate) struct Group<'s, 'a> {
    pub service: &'a Arc<Service>,
    pub entries: &'s [Entry<'a>],
}

/// The tasks of one slot.
pub(crate) struct Slot<'s, 'a> {
    pub number: u32,
    /// Newest first.
    pub tasks: &'s [Entry<'a>],
    /// On a node still, to be removed.
    pub removed: &'s [Entry<'a>],
}

impl<'s, 'a> Group<'s, 'a> {
    /// In order of their numbers.
    pub fn slots(&self) -> impl Iterator<Item = Slot<'s, 'a>> {
        self.entries
            .chunk_by(|a, b| a.task.slot == b.task.slot)
            .filter_map(|tasks| {
                let number = tasks.first()?.task.slot;
                let (tasks, removed) =
                    tasks.split_at(tasks.partition_point(|e| e.task.desired < TaskState::Remove));
                Some(Slot {
                    number,
                    tasks,
                    removed,
                })
            })
    }
}

pub(crate) struct Survey<'a> {
    pub state: &'a State,
    pub sites: Vec<Site<'a>>,
    services: Vec<&'a Arc<Service>>,
    entries: Vec<Entry<'a>>,
    /// Tasks to be removed of which nothing is on any node.
    pub over: Vec<TaskId>,
}

/// Whether a task should run and has not ended.
pub(crate) fn is_live(task: &Task) -> bool {
    task.desired <= TaskState::Running && !task.status.state.is_ended()
}

impl<'a> Survey<'a> {
    pub fn of(state: &'a State) -> Self {
        let mut sites: Vec<Site<'a>> = state
            .nodes()
            .values()
            .map(|node| Site {
                node,
                host: Host::of(node),
                load: 0,
            })
            .collect();
        let places = places(state.nodes());
        let ids: Vec<ServiceId> = state.services().keys().copied().collect();
        let mut entries = Vec::with_capacity(state.tasks().len());
        let mut over = Vec::new();
        for task in state.tasks().values() {
            let site = task.node.and_then(|id| place(&places, id));
            if task.desired == TaskState::Remove
                && (task.node.is_none() || task.status.state.is_ended())
            {
                over.push(task.id);
                continue;
            }
            let Ok(service) = ids.binary_search(&task.service) else {
                continue;
            };
            let mut host = task.node.map(|_| Host::Lost);
            if let Some(site) = site.and_then(|at| sites.get_mut(at as usize)) {
                host = Some(match site.host {
                    // To all others it is as if the node had not been heard of yet.
                    Host::Lost if state.may_still_run(task) => Host::Unknown,
                    host => host,
                });
                site.load += u32::from(is_live(task));
            }
            let service = u32::try_from(service).unwrap_or(u32::MAX);
            entries.push(Entry {
                key: (service, task.slot),
                task: task.as_ref(),
                site,
                host,
            });
        }
        entries.sort_unstable_by(|a, b| {
            a.key
                .cmp(&b.key)
                .then_with(|| age(a.task).cmp(&age(b.task)))
        });
        Self {
            state,
            sites,
            services: state.services().values().collect(),
            entries,
            over,
        }
    }

    /// Services in order of their id, those without tasks too.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_, 'a>> {
        let mut rest = self.entries.as_slice();
        self.services
            .iter()
            .zip(0u32..)
            .map(move |(service, place)| {
                let (entries, behind) = rest.split_at(rest.partition_point(|e| e.key.0 <= place));
                rest = behind;
                Group { service, entries }
            })
    }
}

/// Newest first. Of two made in one moment the newer is the one that nobody has asked to end, else the one that
/// changed last.
pub(crate) fn age(task: &Task) -> impl Ord + use<> {
    let removed = task.desired == TaskState::Remove;
    (
        removed,
        Reverse((
            task.meta.created_at,
            task.desired <= TaskState::Running,
            task.meta.revision,
            task.id,
        )),
    )
}

fn places(nodes: &Table<NodeId, Arc<Node>>) -> Vec<NodeId> {
    nodes.keys().copied().collect()
}

fn place(places: &[NodeId], id: NodeId) -> Option<u32> {
    places
        .binary_search(&id)
        .ok()
        .and_then(|at| u32::try_from(at).ok())
}
