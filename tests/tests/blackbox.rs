//! A slice of what `make blackbox` does at length.

use cluster_tests::blackbox::{
    Report, Run,
    history::{Answer, Ask, Entry, Value},
    judge,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Each bends a history as a cluster that is wrong would have: what it bends has been acknowledged, and read later.
fn bent(history: &[Entry]) -> Vec<(&'static str, Vec<Entry>)> {
    // The last reading of each register.
    let mut last: BTreeMap<&str, (usize, Value)> = BTreeMap::new();
    for (place, entry) in history.iter().enumerate() {
        match (entry.ask, &entry.answer) {
            (Ask::Read, Answer::Holds(Some(value))) => {
                last.insert(&entry.key, (place, *value));
            }
            (Ask::Read, Answer::Holds(None)) => {
                last.remove(entry.key.as_str());
            }
            _ => {}
        }
    }
    // All of them: some may have been written and removed side by side.
    let mut lost = history.to_vec();
    for (place, _) in last.values() {
        lost[*place].answer = Answer::Holds(None);
    }
    let (_, value) = *last.values().next().expect("something is there in the end");
    let writes = |entry: &Entry| matches!(entry.ask, Ask::Set(v) | Ask::Create(v) if v == value);
    let unwritten = history.iter().filter(|entry| !writes(entry)).cloned();
    let mut refused = history.to_vec();
    for entry in refused.iter_mut().filter(|entry| writes(entry)) {
        entry.answer = Answer::Refused("no".into());
    }
    vec![
        ("acknowledged writes are lost", lost),
        (
            "a value is read that nobody has written",
            unwritten.collect(),
        ),
        ("a write that was refused is there", refused),
    ]
}

fn check(report: &Report) {
    // Nothing is proved by calls that were never answered.
    for what in [
        "set: done",
        "create: done",
        "remove: done",
        "read: answered",
        "stale read: answered",
    ] {
        let count = report.calls.get(what).copied().unwrap_or_default();
        assert!(count >= 10, "{what}: {count} times\n{report}");
    }
    assert!(report.watched.1 >= 10, "{report}");
    judge(&report.history).expect("it was judged before");
    for (how, history) in bent(&report.history) {
        assert!(judge(&history).is_err(), "not seen: {how}");
    }
}

#[test]
fn a_disturbed_cluster_answers_as_one_machine_and_loses_nothing() {
    let run = Run {
        seed: 1,
        length: Duration::from_secs(25),
    };
    match run.run(&|step| println!("{step}")) {
        Ok(report) => {
            println!("{report}");
            check(&report);
        }
        Err(error) => panic!("{error:#}"),
    }
}
