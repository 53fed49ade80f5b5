//! What the machine asks for, step by step and at random.

use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_000);

fn states(actions: &[Action]) -> Vec<TaskState> {
    actions
        .iter()
        .filter_map(|a| {
            if let Action::Report(s) = a {
                Some(s.state)
            } else {
                None
            }
        })
        .collect()
}

fn new(desired: TaskState, found: Found) -> (Machine, Vec<Action>) {
    Machine::begin(desired, Timestamp(0), found, NOW)
}

fn exit(code: i32) -> Exit {
    Exit {
        code,
        message: String::new(),
    }
}

#[test]
fn a_task_runs_and_ends() {
    let (mut machine, mut all) = new(TaskState::Running, Found::Nothing);
    for input in [
        Input::Prepared,
        Input::Started { pid: 7, since: NOW },
        Input::Exited(exit(0)),
        Input::Cleaned(Ok(())),
    ] {
        all.extend(machine.on(input, NOW));
    }
    use TaskState::{Complete, Preparing, Running, Starting};
    assert_eq!(states(&all), [Preparing, Starting, Running, Complete]);
    assert!(machine.is_done());
}

#[test]
fn a_task_that_runs_again_says_so_in_the_same_state() {
    let (mut machine, mut all) = new(TaskState::Running, Found::Again("started again".into()));
    for input in [Input::Prepared, Input::Started { pid: 8, since: NOW }] {
        all.extend(machine.on(input, NOW));
    }
    let Some(Action::Report(status)) = all
        .iter()
        .rfind(|action| matches!(action, Action::Report(_)))
    else {
        panic!("{all:?}")
    };
    assert_eq!(
        (status.state, status.pid, status.message.as_str()),
        (TaskState::Running, Some(8), "started again")
    );
}

#[test]
fn a_failure_says_its_code() {
    let (mut machine, _) = new(TaskState::Running, Found::Running { pid: 1, since: NOW });
    let _ = machine.on(Input::Exited(exit(3)), NOW);
    let end = machine.on(Input::Cleaned(Ok(())), NOW);
    let [Action::Report(status)] = end.as_slice() else {
        panic!("{end:?}")
    };
    assert_eq!(
        (status.state, status.exit_code, status.message.as_str()),
        (TaskState::Failed, Some(3), "exit code 3")
    );
}

#[test]
fn the_end_is_reported_only_after_the_cleaning() {
    let (mut machine, _) = new(TaskState::Running, Found::Running { pid: 1, since: NOW });
    assert_eq!(machine.on(Input::Exited(exit(0)), NOW), [Action::Clean(0)]);
    assert_eq!(
        states(&machine.on(Input::Cleaned(Ok(())), NOW)),
        [TaskState::Complete]
    );
}

#[test]
fn what_is_asked_to_stop_is_stopped_from_every_phase() {
    let (mut waiting, _) =
        Machine::begin(TaskState::Running, Timestamp(5_000), Found::Nothing, NOW);
    assert!(
        waiting
            .on(Input::Prepared, NOW)
            .contains(&Action::Delay(4_000))
    );
    assert_eq!(
        waiting.on(Input::Desired(TaskState::Shutdown), NOW),
        [Action::Clean(0)]
    );

    let (mut preparing, _) = new(TaskState::Running, Found::Nothing);
    assert_eq!(
        preparing.on(Input::Desired(TaskState::Remove), NOW),
        [Action::CancelPrepare]
    );
    assert_eq!(preparing.on(Input::Prepared, NOW), [Action::Clean(0)]);

    let (mut starting, _) = new(TaskState::Running, Found::Nothing);
    let _ = starting.on(Input::Prepared, NOW);
    assert_eq!(starting.on(Input::Desired(TaskState::Shutdown), NOW), []);
    assert!(
        starting
            .on(Input::Started { pid: 1, since: NOW }, NOW)
            .contains(&Action::Stop)
    );

    let (_, begun) = new(TaskState::Shutdown, Found::Running { pid: 1, since: NOW });
    assert!(
        begun.contains(&Action::Stop),
        "found running, wanted stopped: {begun:?}"
    );
    assert_eq!(
        new(TaskState::Shutdown, Found::Nothing).1,
        [Action::Clean(0)]
    );
}

#[test]
fn a_stop_is_asked_for_once() {
    let (mut machine, _) = new(TaskState::Running, Found::Running { pid: 1, since: NOW });
    assert_eq!(
        machine.on(Input::Desired(TaskState::Shutdown), NOW),
        [Action::Stop]
    );
    assert_eq!(machine.on(Input::Desired(TaskState::Remove), NOW), []);
}

#[test]
fn what_was_refused_once_is_not_prepared_by_the_next_daemon() {
    let kept = serde_json::to_vec(&End::Refused {
        refused: "no image".into(),
    })
    .unwrap();
    let end: End = serde_json::from_slice(&kept).unwrap();
    let (mut machine, mut all) = new(TaskState::Running, end.clone().into());
    all.extend(machine.on(Input::Cleaned(Ok(())), NOW));
    assert_eq!(states(&all), [TaskState::Rejected]);
    assert!(format!("{all:?}").contains("no image"));
    assert!(!all.contains(&Action::Prepare));

    let (mut machine, mut all) = new(TaskState::Shutdown, end.into());
    all.extend(machine.on(Input::Cleaned(Ok(())), NOW));
    assert_eq!(states(&all), [TaskState::Shutdown]);
}

#[test]
fn the_end_of_a_container_is_kept_as_it_was_before_there_were_others() {
    let end = End::Exited(exit(3));
    let kept = serde_json::to_string(&end).unwrap();
    assert_eq!(kept, r#"{"code":3,"message":""}"#);
    assert_eq!(serde_json::from_str::<End>(&kept).unwrap(), end);
}

#[test]
fn what_cannot_be_removed_is_said_and_tried_again() {
    let (mut machine, _) = new(TaskState::Running, Found::Lost);
    let mut all = Vec::new();
    for _ in 0..4 {
        all.extend(machine.on(Input::Cleaned(Err("busy".into())), NOW));
    }
    assert_eq!(states(&all), [TaskState::Failed]);
    assert!(format!("{all:?}").contains("not all of it could be removed: busy"));
    assert!(!machine.is_done());
    assert!(machine.on(Input::Cleaned(Ok(())), NOW).is_empty());
    assert!(machine.is_done());
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Desired(TaskState::Running)),
        Just(Input::Desired(TaskState::Shutdown)),
        Just(Input::Desired(TaskState::Remove)),
        Just(Input::Prepared),
        Just(Input::Refused("no image".into())),
        Just(Input::DelayOver),
        Just(Input::Started { pid: 5, since: NOW }),
        Just(Input::StartFailed("no such file".into())),
        any::<i32>().prop_map(|code| Input::Exited(exit(code))),
        Just(Input::Cleaned(Ok(()))),
        Just(Input::Cleaned(Err("busy".into()))),
    ]
}

proptest! {
    #[test]
    fn states_only_move_forward(inputs in proptest::collection::vec(input(), 0..30), late in any::<bool>()) {
        let not_before = Timestamp(if late { 9_000 } else { 0 });
        let (mut machine, mut all) = Machine::begin(TaskState::Running, not_before, Found::Nothing, NOW);
        for input in inputs {
            let done = machine.is_done();
            let actions = machine.on(input, NOW);
            prop_assert!(!done || actions.is_empty(), "asked for {actions:?} after the end");
            all.extend(actions);
        }
        let reported = states(&all);
        prop_assert!(reported.windows(2).all(|w| w[0] < w[1]), "{reported:?}");
    }
}

#[test]
fn what_is_not_wanted_any_more_and_was_not_begun_is_shut_down_not_failed() {
    let (mut machine, mut all) = new(TaskState::Running, Found::Nothing);
    for input in [
        Input::Prepared,
        Input::Desired(TaskState::Shutdown),
        Input::StartFailed("it is not wanted any more".into()),
        Input::Cleaned(Ok(())),
    ] {
        all.extend(machine.on(input, NOW));
    }
    use TaskState::{Preparing, Shutdown, Starting};
    assert_eq!(states(&all), [Preparing, Starting, Shutdown]);
}
