//! Names, ids and beginnings of ids to objects; what is not found is told with its nearest neighbour.

use super::refusal::Refusal;
use api::model::{Blob, BlobKind, Network, Node, Service, Stack, Task};
use api::state::{Lookup, State};
use std::sync::Arc;

fn found<'a, T>(
    what: &str,
    text: &str,
    lookup: Lookup<T>,
    names: impl Iterator<Item = &'a str>,
) -> Result<T, Refusal> {
    match lookup {
        Lookup::Found(object) => Ok(object),
        Lookup::Ambiguous(count) => Err(Refusal::invalid(format!(
            "{text:?} means {count} {what}s: give more of the id"
        ))),
        Lookup::Missing => Err(Refusal::not_found(match nearest(text, names) {
            Some(name) => format!("no {what} {text:?}; did you mean {name:?}?"),
            None => format!("no {what} {text:?}; see `clusterctl {what} ls`"),
        })),
    }
}

/// A service.
pub fn service(state: &State, text: &str) -> Result<Arc<Service>, Refusal> {
    let names = state.services().values().map(|s| s.spec.name.as_str());
    found("service", text, state.find_service(text), names)
}

/// A network.
pub fn network(state: &State, text: &str) -> Result<Arc<Network>, Refusal> {
    let names = state.networks().values().map(|n| n.spec.name.as_str());
    found("network", text, state.find_network(text), names)
}

/// A secret or a config.
pub fn blob(state: &State, kind: BlobKind, text: &str) -> Result<Arc<Blob>, Refusal> {
    let of_kind = state.blobs().values().filter(|b| b.spec.kind == kind);
    let names = of_kind.map(|b| b.spec.name.as_str());
    found(kind.as_str(), text, state.find_blob(kind, text), names)
}

/// A node.
pub fn node(state: &State, text: &str) -> Result<Arc<Node>, Refusal> {
    let names = state
        .nodes()
        .values()
        .map(|n| n.description.hostname.as_str());
    found("node", text, state.find_node(text), names)
}

/// What people call a node.
pub fn name(node: &Node) -> String {
    match node.description.hostname.as_str() {
        "" => node.id.to_string(),
        hostname => hostname.to_owned(),
    }
}

/// A stack.
pub fn stack(state: &State, name: &str) -> Result<Arc<Stack>, Refusal> {
    let lookup = state
        .stacks()
        .get(name)
        .map_or(Lookup::Missing, |stack| Lookup::Found(stack.clone()));
    found(
        "stack",
        name,
        lookup,
        state.stacks().keys().map(|name| &**name),
    )
}

/// A task.
pub fn task(state: &State, text: &str) -> Result<Arc<Task>, Refusal> {
    let names: Vec<String> = state.tasks().values().map(|t| t.name()).collect();
    match found(
        "task",
        text,
        state.find_task(text),
        names.iter().map(String::as_str),
    ) {
        Err(refusal) if refusal.text.contains("`clusterctl task ls`") => Err(Refusal::not_found(
            format!("no task {text:?}; see `clusterctl service ps SERVICE`"),
        )),
        other => other,
    }
}

/// What a log or an exec is asked of.
pub enum Target {
    /// All of its tasks.
    Service(Arc<Service>),
    /// One.
    Task(Arc<Task>),
}

/// A service or a task.
pub fn target(state: &State, text: &str) -> Result<Target, Refusal> {
    let (service, task) = (state.find_service(text), state.find_task(text));
    match (service, task) {
        (Lookup::Found(service), _) if service.spec.name == text => Ok(Target::Service(service)),
        (Lookup::Found(service), Lookup::Missing) => Ok(Target::Service(service)),
        (Lookup::Missing, Lookup::Found(task)) => Ok(Target::Task(task)),
        // A task's name is never a beginning of an id: it has a dot.
        (_, Lookup::Found(task)) if task.name() == text => Ok(Target::Task(task)),
        (Lookup::Missing, Lookup::Missing) => {
            let tasks: Vec<String> = state.tasks().values().map(|t| t.name()).collect();
            let names = state
                .services()
                .values()
                .map(|s| s.spec.name.as_str())
                .chain(tasks.iter().map(String::as_str));
            Err(Refusal::not_found(match nearest(text, names) {
                Some(name) => format!("no service or task {text:?}; did you mean {name:?}?"),
                None => format!("no service or task {text:?}; see `clusterctl service ls`"),
            }))
        }
        (service, task) => {
            let count = |many: usize, one: bool| if one { 1 } else { many };
            let services = match service {
                Lookup::Ambiguous(many) => count(many, false),
                Lookup::Found(_) => count(0, true),
                Lookup::Missing => 0,
            };
            let tasks = match task {
                Lookup::Ambiguous(many) => count(many, false),
                Lookup::Found(_) => count(0, true),
                Lookup::Missing => 0,
            };
            Err(Refusal::invalid(format!(
                "{text:?} means {services} services and {tasks} tasks: give more of the id"
            )))
        }
    }
}

/// The name that is fewest slips away, when that is few enough to be a slip.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (text.chars().count() / 3).clamp(1, 3);
    names
        .map(|name| (slips(text, name), name))
        .filter(|(count, name)| {
            *count <= allowed || (text.len() >= 3 && name.ends_with(&format!("_{text}")))
        })
        .min()
        .map(|(_, name)| name)
}

/// Characters to add, drop, change or swap with their neighbour to get from one text to the other.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(80).collect(), b.chars().take(80).collect());
    let width = b.len() + 1;
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..width).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node as make_node, service as make_service, state_of};
    use api::state::Op;
    use proptest::prelude::*;

    #[test]
    fn slips_are_counted_as_people_make_them() {
        for (a, b, count) in [
            ("redis", "redis", 0),
            ("rediss", "redis", 1),
            ("rdeis", "redis", 1),
            ("", "abc", 3),
            ("flask", "redis", 5),
        ] {
            assert_eq!(slips(a, b), count, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn slips_are_symmetric_and_bounded(a in "[a-c]{0,8}", b in "[a-c]{0,8}") {
            prop_assert_eq!(slips(&a, &b), slips(&b, &a));
            prop_assert!(slips(&a, &b) <= a.len().max(b.len()));
            prop_assert_eq!(slips(&a, &b) == 0, a == b);
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_its_neighbour() {
        let state = state_of(vec![Op::CreateService(Box::new(make_service(
            1,
            "shop_redis",
        )))]);
        let text = |name: &str| service(&state, name).unwrap_err().text;
        assert_eq!(
            text("shop_rediss"),
            "no service \"shop_rediss\"; did you mean \"shop_redis\"?"
        );
        assert_eq!(
            text("redis"),
            "no service \"redis\"; did you mean \"shop_redis\"?"
        );
        assert_eq!(
            text("web"),
            "no service \"web\"; see `clusterctl service ls`"
        );
        assert!(service(&state, "shop_redis").is_ok());
    }

    #[test]
    fn an_ambiguous_name_is_told_with_the_count() {
        let state = state_of(vec![
            Op::CreateNode(Box::new(make_node(1, "twin"))),
            Op::CreateNode(Box::new(make_node(2, "twin"))),
        ]);
        let refusal = node(&state, "twin").unwrap_err();
        assert_eq!(refusal.text, "\"twin\" means 2 nodes: give more of the id");
    }
}
