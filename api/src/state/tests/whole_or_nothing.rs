//! A transaction happens whole or not at all, and the same way everywhere.

use super::*;

proptest! {
    #[test]
    fn a_refused_transaction_leaves_all_as_it_was(history in history()) {
        play(history, |before, after, outcome| {
            assert_eq!(after.revision(), before.revision() + 1);
            if outcome.is_err() {
                assert_eq!(contents(before), contents(after));
            }
        });
    }

    /// Played on the state before, the events give the state after: who follows them misses nothing.
    #[test]
    fn the_events_tell_all_that_changed(history in history()) {
        play(history, |before, after, outcome| {
            let Ok(events) = outcome else { return };
            let mut copy = before.clone();
            for event in events {
                replay(&mut copy, event.clone());
            }
            assert_eq!(contents(&copy), contents(after));
        });
    }

    /// Taken back from the last, they give the state before.
    #[test]
    fn the_events_can_be_taken_back(history in history()) {
        play(history, |before, after, outcome| {
            let Ok(events) = outcome else { return };
            let mut copy = after.clone();
            for event in events.iter().rev() {
                copy.revert(event.clone());
            }
            assert_eq!(contents(before), contents(&copy));
        });
    }

    #[test]
    fn the_same_transactions_make_the_same_state(history in history()) {
        let mut outcomes = Vec::new();
        let first = play(history.clone(), |_, _, outcome| outcomes.push(format!("{outcome:?}")));
        let mut again = outcomes.iter();
        let second = play(history, |_, _, outcome| {
            assert_eq!(Some(&format!("{outcome:?}")), again.next());
        });
        assert_eq!(contents(&first), contents(&second));
    }
}

fn replay(state: &mut State, event: Event) {
    match event {
        Event::Cluster(_, new) => state.cluster = new,
        Event::Node(id, _, new) => drop(state.set_node(id, new)),
        Event::Network(id, _, new) => drop(state.set_network(id, new)),
        Event::Service(id, _, new) => drop(state.set_service(id, new)),
        Event::Stack(name, _, new) => drop(state.set_stack(&name, new)),
        Event::Blob(id, _, new) => drop(state.set_blob(id, new)),
        Event::Task(id, _, new) => drop(state.set_task(id, new)),
        Event::Template(key, _, new) => drop(state.set_template(key, new)),
    }
}

#[test]
fn the_first_broken_rule_takes_back_all_before_it() {
    let mut state = State::new();
    let ops = vec![
        Op::CreateNode(Box::new(node(1))),
        Op::CreateNetwork(Box::new(network(1, "a", 1, 1))),
        Op::CreateNode(Box::new(node(1))),
    ];
    let error = state
        .apply(
            5,
            Transaction {
                at: Timestamp(1),
                ops,
            },
        )
        .expect_err("the node is there twice");
    assert_eq!(error.kind, ErrorKind::Taken);
    assert_eq!(state.revision(), 5);
    assert_eq!(contents(&state), contents(&State::new()));
}
