use super::world::World;
use api::model::*;

/// Ends the task of slot 1 and goes to its restart; how long that took.
fn fail(world: &mut World, service: ServiceId, state: TaskState) -> u64 {
    let task = world.slot(service, 1).id;
    world.report(task, state);
    let began = world.now;
    match world.pass().next {
        Some(next) => world.now = next,
        None => assert!(!world.live(service).is_empty(), "no restart is due"),
    }
    let waited = world.now.since_ms(began);
    world.settle();
    waited
}

#[test]
fn the_policy_says_which_ends_are_followed_by_a_restart() {
    use RestartCondition::{Any, None, OnFailure};
    use TaskState::{Complete, Failed, Rejected, Shutdown};
    let cases = [
        (None, Failed, false),
        (None, Complete, false),
        (None, Shutdown, false),
        (OnFailure, Complete, false),
        (OnFailure, Failed, true),
        (OnFailure, Rejected, true),
        (OnFailure, Shutdown, true),
        (Any, Complete, true),
        (Any, Failed, true),
        (Any, Rejected, true),
        (Any, Shutdown, true),
    ];
    for (condition, end, again) in cases {
        let mut world = World::of(1);
        let service = world.service(1, 1, |spec| spec.template.restart.condition = condition);
        world.settle();
        let task = world.slot(service, 1).id;
        world.report(task, end);
        world.settle();
        assert_eq!(
            !world.live(service).is_empty(),
            again,
            "{condition:?} {end:?}"
        );
        // What has finished stays so, and its slot is not filled anew.
        world.now = world.now.plus_ms(3_600_000);
        world.settle();
        assert_eq!(
            world.tasks(service).len(),
            1 + usize::from(again),
            "{condition:?} {end:?}"
        );
        assert_eq!(
            has_completed(&world, service),
            !again && end == Complete,
            "{condition:?} {end:?}"
        );
    }
}

/// Whether slot 1 needs no task any more.
fn has_completed(world: &World, service: ServiceId) -> bool {
    let tasks = world.state.tasks_of_service(service);
    let of_slot = tasks.filter(|task| task.slot == 1).map(|task| &**task);
    crate::has_completed(
        &world.state.services()[&service],
        of_slot.collect(),
        world.now,
    )
}

#[test]
fn a_slot_has_completed_when_its_last_attempt_ended_well_in_this_version() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |spec| spec.template.restart.max_attempts = Some(1));
    assert!(!has_completed(&world, service), "it has not begun");
    world.settle();
    assert!(!has_completed(&world, service), "it runs");
    fail(&mut world, service, TaskState::Failed);
    let task = world.slot(service, 1).id;
    world.report(task, TaskState::Complete);
    assert!(has_completed(&world, service), "as soon as it is known");
    world.settle();
    assert!(has_completed(&world, service), "and when it is noted");
    world.update(service, |spec| spec.template.force += 1);
    assert!(
        !has_completed(&world, service),
        "the new version has not run"
    );
}

#[test]
fn the_default_delay_doubles_from_100_ms_to_5_s() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |_| {});
    world.settle();
    let delays: Vec<_> = (0..9)
        .map(|_| fail(&mut world, service, TaskState::Failed))
        .collect();
    assert_eq!(
        delays,
        [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]
    );
}

#[test]
fn the_delay_does_not_depend_on_the_length_of_the_history() {
    for history in [0, 1, 20] {
        let mut world = World::of(1);
        world.settings(|spec| spec.task_history = history);
        let service = world.service(1, 1, |_| {});
        world.settle();
        let delays: Vec<_> = (0..8)
            .map(|_| fail(&mut world, service, TaskState::Failed))
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    }
}

#[test]
fn a_run_of_ten_seconds_makes_the_next_delay_the_first() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |_| {});
    world.settle();
    for _ in 0..3 {
        fail(&mut world, service, TaskState::Failed);
    }
    world.now = world.now.plus_ms(9_999);
    assert_eq!(fail(&mut world, service, TaskState::Failed), 800);
    world.now = world.now.plus_ms(10_000);
    assert_eq!(fail(&mut world, service, TaskState::Failed), 100);
    assert_eq!(fail(&mut world, service, TaskState::Failed), 100);
    assert_eq!(fail(&mut world, service, TaskState::Failed), 200);
}

#[test]
fn quick_completions_wait_longer_each_time_too() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |_| {});
    world.settle();
    let delays: Vec<_> = (0..3)
        .map(|_| fail(&mut world, service, TaskState::Complete))
        .collect();
    assert_eq!(delays, [100, 200, 400]);
}

#[test]
fn a_fixed_delay_is_kept_to() {
    for delay in [0, 1, 60_000] {
        let mut world = World::of(1);
        let service = world.service(1, 1, |spec| spec.template.restart.delay_ms = Some(delay));
        world.settle();
        for _ in 0..4 {
            assert_eq!(fail(&mut world, service, TaskState::Failed), delay);
        }
    }
}

#[test]
fn the_delay_counts_from_when_the_end_was_known() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |_| {});
    world.settle();
    let task = world.slot(service, 1).id;
    world.report(task, TaskState::Failed);
    let end = world.now;
    world.pass();
    world.now = world.now.plus_ms(99);
    assert_eq!(world.pass().next, Some(end.plus_ms(100)));
    assert!(world.live(service).is_empty());
    world.now = world.now.plus_ms(1);
    assert_eq!(world.pass().next, None);
    assert_eq!(world.live_slots(service), [1]);
    // In its history it is what was asked to end.
    assert_eq!(world.state.tasks()[&task].desired, TaskState::Shutdown);
}

#[test]
fn an_end_noted_by_a_clock_that_was_ahead_is_no_reason_to_wait() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |_| {});
    world.settle();
    let task = world.slot(service, 1).id;
    world.now = world.now.plus_ms(3_600_000);
    world.report(task, TaskState::Failed);
    world.pass();
    world.now = Timestamp(world.now.0 - 3_600_000);
    world.pass();
    assert_eq!(world.live_slots(service), [1]);
}

#[test]
fn attempts_are_bounded() {
    let mut world = World::of(1);
    world.settings(|spec| spec.task_history = 1);
    let service = world.service(1, 1, |spec| spec.template.restart.max_attempts = Some(3));
    world.settle();
    for _ in 0..3 {
        fail(&mut world, service, TaskState::Failed);
        assert_eq!(world.live_slots(service), [1]);
    }
    let task = world.slot(service, 1).id;
    world.report(task, TaskState::Failed);
    world.settle();
    assert!(world.live(service).is_empty());
    world.now = world.now.plus_ms(3_600_000);
    world.settle();
    assert!(
        world.live(service).is_empty(),
        "it was not used up for good"
    );
    // A new version begins anew.
    world.update(service, |spec| spec.template.force += 1);
    world.settle();
    assert_eq!(world.live_slots(service), [1]);
}

#[test]
fn attempts_are_counted_within_the_window_before_the_end() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |spec| {
        spec.template.restart.max_attempts = Some(2);
        spec.template.restart.window_ms = Some(60_000);
        spec.template.restart.delay_ms = Some(1_000);
    });
    world.settle();
    for _ in 0..10 {
        fail(&mut world, service, TaskState::Failed);
        world.now = world.now.plus_ms(40_000);
        world.settle();
    }
    assert_eq!(
        world.live_slots(service),
        [1],
        "one or two in a minute are not too many"
    );
    fail(&mut world, service, TaskState::Failed);
    let task = world.slot(service, 1).id;
    world.report(task, TaskState::Failed);
    world.settle();
    world.now = world.now.plus_ms(3_600_000);
    world.settle();
    assert!(world.live(service).is_empty(), "three in a minute are");
}

#[test]
fn what_ends_because_it_was_asked_to_is_replaced_at_once() {
    let mut world = World::of(2);
    let service = world.service(1, 1, |spec| {
        spec.template.restart.condition = RestartCondition::None;
        spec.template.restart.delay_ms = Some(60_000);
    });
    world.settle();
    let node = world.slot(service, 1).node.unwrap();
    world.set_availability(node, Availability::Drain);
    world.pass();
    world.obey();
    assert_eq!(world.pass().next, None);
    assert_eq!(world.live_slots(service), [1]);
}

#[test]
fn the_error_of_a_task_that_fails_again_and_again_stays_in_sight() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |_| {});
    for n in 0..20 {
        world.settle();
        let id = world.slot(service, 1).id;
        let message = format!("image x is not there ({n})");
        let status = TaskStatus {
            state: TaskState::Rejected,
            message,
            ..TaskStatus::default()
        };
        world.apply(vec![api::state::Op::SetTaskStatus { id, status }]);
    }
    world.settle();
    let told = |n: u32| {
        world
            .tasks(service)
            .iter()
            .any(|t| t.status.message.ends_with(&format!("({n})")))
    };
    assert!((15..20).all(told));
}

#[test]
fn a_leader_whose_clock_is_behind_still_knows_which_end_was_the_last() {
    let mut world = World::of(1);
    let service = world.service(1, 1, |spec| {
        spec.template.restart.condition = RestartCondition::OnFailure;
    });
    world.settle();
    let first = world.slot(service, 1).id;
    world.report(first, TaskState::Failed);
    world.pass();
    world.now = Timestamp(world.now.0 - 60_000);
    world.settle();
    let second = world.slot(service, 1).id;
    world.report(second, TaskState::Complete);
    for _ in 0..3 {
        world.settle();
        world.now = world.now.plus_ms(3_600_000);
    }
    assert!(
        world.live(service).is_empty(),
        "the failure before was taken for the last"
    );
    assert_eq!(world.tasks(service).len(), 2);
}

#[test]
fn the_history_that_attempts_are_counted_in_is_cut_once() {
    // A stop between two failures is no attempt, and those before it count all the same.
    let mut world = World::of(2);
    world.settings(|spec| spec.task_history = 1);
    let service = world.service(1, 1, |spec| spec.template.restart.max_attempts = Some(2));
    world.settle();
    for n in 0..6 {
        let task = world.slot(service, 1);
        if n % 2 == 0 {
            world.set_availability(task.node.unwrap(), Availability::Drain);
            world.settle();
            world.set_availability(task.node.unwrap(), Availability::Active);
        } else {
            world.report(task.id, TaskState::Failed);
        }
        world.settle();
    }
    assert!(world.live(service).is_empty());
    assert_eq!(
        world
            .tasks(service)
            .iter()
            .filter(|t| t.status.state == TaskState::Failed)
            .count(),
        3
    );
}
