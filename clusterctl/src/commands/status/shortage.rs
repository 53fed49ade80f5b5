//! The services that run fewer tasks than they should.

use api::proto;
use serde::Serialize;

/// Such a service.
#[derive(Debug, Serialize)]
pub struct Short {
    pub service: String,
    pub running: u32,
    pub wanted: u32,
    /// What stands in the way, where that is known.
    pub reason: Option<String>,
}

impl From<proto::ServiceTrouble> for Short {
    fn from(trouble: proto::ServiceTrouble) -> Self {
        Self {
            service: trouble.name,
            running: trouble.running,
            wanted: trouble.wanted,
            reason: Some(trouble.message).filter(|text| !text.is_empty()),
        }
    }
}

/// What to tell of them, which are the first of `count`.
pub fn warnings(short: &[Short], count: u32) -> Vec<String> {
    let one = |short: &Short| {
        let tasks = if short.wanted == 1 { "task" } else { "tasks" };
        let why = short.reason.as_ref().map(|why| format!(": {why}"));
        format!(
            "service {} runs {} of {} {tasks}{}; see `clusterctl service ps {}`",
            short.service,
            short.running,
            short.wanted,
            why.unwrap_or_default(),
            short.service
        )
    };
    let mut told: Vec<String> = short.iter().map(one).collect();
    let more = usize::try_from(count).map_or(0, |count| count.saturating_sub(told.len()));
    if more > 0 {
        told.push(format!(
            "{more} more run fewer tasks than they should; see `clusterctl service ls`"
        ));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_with_its_reason_and_the_rest_are_counted() {
        let short = |name: &str, wanted, message: &str| {
            Short::from(proto::ServiceTrouble {
                name: name.into(),
                running: 0,
                wanted,
                message: message.into(),
            })
        };
        let told = warnings(&[short("db", 1, "exit code 1"), short("web", 3, "")], 5);
        assert_eq!(
            told,
            [
                "service db runs 0 of 1 task: exit code 1; see `clusterctl service ps db`",
                "service web runs 0 of 3 tasks; see `clusterctl service ps web`",
                "3 more run fewer tasks than they should; see `clusterctl service ls`",
            ]
        );
        assert!(warnings(&[], 0).is_empty());
    }
}
