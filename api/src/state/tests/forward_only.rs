//! A task's state only moves forward, and so does what is desired of it.

use super::*;

proptest! {
    #[test]
    fn a_task_only_moves_forward(history in history()) {
        play(history, |before, after, _| {
            for (id, old) in before.tasks() {
                let Some(new) = after.tasks().get(id) else { continue };
                // Removed and made anew in one transaction: another task, which ids forbid outside of tests.
                if new.meta.created_at != old.meta.created_at {
                    continue;
                }
                assert!(new.status.state >= old.status.state, "{:?} to {:?}", old.status, new.status);
                assert!(new.desired >= old.desired, "{:?} to {:?}", old.desired, new.desired);
                if old.status.state.is_ended() {
                    assert_eq!(&new.status, &old.status, "an ended task says nothing more");
                }
                if old.node.is_some() {
                    let place = |t: &Task| (t.node, t.addresses.clone(), t.ports.clone());
                    assert_eq!(place(new), place(old), "a task stays where it is");
                }
            }
        });
    }
}

/// Every pair of states.
#[test]
fn a_status_behind_the_known_one_changes_nothing() {
    for from in TaskState::ALL {
        for to in TaskState::ALL {
            let mut new = task(1, 1, 1);
            new.status.state = from;
            let mut state = state(vec![vec![
                Op::CreateService(Box::new(service(1, spec("a", "x", &[]), BTreeMap::new()))),
                Op::CreateTask(Box::new(new)),
            ]]);
            let status = TaskStatus {
                state: to,
                message: "new".into(),
                ..TaskStatus::default()
            };
            let ops = vec![Op::SetTaskStatus {
                id: TaskId(1),
                status,
            }];
            let events = state
                .apply(
                    2,
                    Transaction {
                        at: Timestamp(2),
                        ops,
                    },
                )
                .expect("never an error");
            let taken = to >= from && !from.is_ended();
            assert_eq!(events.len(), usize::from(taken), "{from:?} to {to:?}");
            assert_eq!(
                state.tasks()[&TaskId(1)].status.state,
                if taken { to } else { from }
            );
        }
    }
}

#[test]
fn a_status_of_a_task_that_is_gone_is_no_error() {
    let ops = vec![Op::SetTaskStatus {
        id: TaskId(9),
        status: TaskStatus::default(),
    }];
    let events = State::new().apply(
        1,
        Transaction {
            at: Timestamp(1),
            ops,
        },
    );
    assert!(events.is_ok_and(|e| e.is_empty()));
}
