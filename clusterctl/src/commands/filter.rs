//! `--filter` of `node ls` and of the lists of tasks: of one key any may hold, of several keys all have to.

use crate::commands::rows::{NodeRow, TaskRow};
use anyhow::{Result, bail};
use api::model::TaskState;
use std::collections::BTreeMap;

/// Filters as they were given, by key.
#[derive(Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads `KEY=VALUE`.
    ///
    /// # Errors
    /// Names the filter that is none, and those there are.
    pub fn read(texts: &[String], known: &[&str]) -> Result<Self> {
        let mut filters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in texts {
            let Some((key, value)) = text.split_once('=') else {
                bail!(
                    "the filter {text:?} is not KEY=VALUE, such as {}=...",
                    known[0]
                );
            };
            if !known.contains(&key) {
                bail!("there is no filter {key:?}; there are {}", known.join(", "));
            }
            filters.entry(key.into()).or_default().push(value.into());
        }
        Ok(Self(filters))
    }

    /// Takes the values of a key out: somebody else goes by them.
    pub fn take(&mut self, key: &str) -> Vec<String> {
        self.0.remove(key).unwrap_or_default()
    }

    /// Refuses states that no task has: nothing would ever be shown.
    ///
    /// # Errors
    /// Names the one that is none, and those there are.
    pub fn check_task_states(&self) -> Result<()> {
        let known = TaskState::ALL.map(TaskState::as_str);
        for key in ["desired-state", "state"] {
            for value in self.0.get(key).into_iter().flatten() {
                if !known.contains(&value.as_str()) {
                    bail!(
                        "{key}={value}: no task has that state; there are {}",
                        known.join(", ")
                    );
                }
            }
        }
        Ok(())
    }

    fn holds(&self, test: impl Fn(&str, &str) -> bool) -> bool {
        self.0
            .iter()
            .all(|(key, values)| values.iter().any(|value| test(key, value)))
    }

    /// Whether a node is to be shown.
    pub fn take_node(&self, row: &NodeRow) -> bool {
        let node = &row.node;
        self.holds(|key, value| match key {
            "id" => node.id.to_string().starts_with(value),
            "name" => node.description.hostname.contains(value),
            "role" => node.spec.role.as_str() == value,
            "availability" => word(&node.spec.availability) == value,
            "state" => word(&node.status.state) == value || (row.suspect && value == "suspect"),
            "node.label" | "label" => has_label(&node.spec.labels, value),
            "engine.label" => has_label(&node.description.engine_labels, value),
            _ => false,
        })
    }

    /// Whether a task is to be shown.
    pub fn take_task(&self, row: &TaskRow) -> bool {
        self.holds(|key, value| match key {
            "id" => row.task.id.to_string().starts_with(value),
            "name" => row.name.contains(value),
            "desired-state" => row.task.desired.as_str() == value,
            "state" => row.task.status.state.as_str() == value,
            _ => false,
        })
    }
}

/// As the JSON has it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// `KEY` or `KEY=VALUE`.
fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|there| there == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::model::{
        Availability, Meta, Node, NodeCert, NodeDescription, NodeId, NodeSpec, NodeState,
        NodeStatus, Role,
    };

    fn row() -> NodeRow {
        let node = Node {
            id: NodeId(0xabc << 116),
            meta: Meta::default(),
            spec: NodeSpec {
                role: Role::Manager,
                availability: Availability::Drain,
                labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            },
            description: NodeDescription {
                hostname: "node1".into(),
                ..NodeDescription::default()
            },
            status: NodeStatus {
                state: NodeState::Ready,
                ..NodeStatus::default()
            },
            addr: [10, 0, 0, 1].into(),
            port: 2377,
            cert: NodeCert::default(),
        };
        NodeRow {
            node,
            leader: true,
            reachable: true,
            voter: true,
            manager: true,
            tasks: 0,
            suspect: false,
            twin: None,
            clock_ahead_ms: None,
        }
    }

    const KNOWN: [&str; 6] = ["id", "name", "role", "availability", "state", "node.label"];

    #[test]
    fn of_one_key_any_and_of_several_all_have_to_hold() {
        let takes = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Filters::read(&texts, &KNOWN).unwrap().take_node(&row())
        };
        assert!(takes(&[]));
        assert!(takes(&[
            "name=node1",
            "name=other",
            "role=manager",
            "state=ready"
        ]));
        let id = format!("id={}", &row().node.id.to_string()[..6]);
        assert!(takes(&["node.label=disk", "availability=drain", &id]));
        assert!(takes(&["node.label=disk=ssd"]));
        assert!(!takes(&["node.label=disk=hdd"]));
        assert!(!takes(&["name=node1", "role=worker"]));
    }

    #[test]
    fn a_state_that_no_task_has_is_named() {
        let check = |text: &str| {
            let filters = Filters::read(&[text.to_owned()], &["state", "desired-state"]);
            filters.unwrap().check_task_states()
        };
        check("state=running").unwrap();
        check("desired-state=shutdown").unwrap();
        let error = check("desired-state=runing").unwrap_err().to_string();
        assert!(
            error.contains("runing") && error.contains("running, complete"),
            "{error}"
        );
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        let refused = |text: &str| {
            let error = Filters::read(&[text.to_owned()], &KNOWN).unwrap_err();
            error.to_string()
        };
        assert!(refused("colour=red").contains("there are id, name, role"));
        assert!(refused("role").contains("KEY=VALUE"));
    }
}
