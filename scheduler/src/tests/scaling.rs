use super::world::World;
use api::model::*;
use api::state::Op;

#[test]
fn new_tasks_get_the_lowest_free_numbers() {
    let mut world = World::of(2);
    let service = world.service(1, 3, |_| {});
    world.settle();
    assert_eq!(world.live_slots(service), [1, 2, 3]);
    let middle = world.slot(service, 2).id;
    world.apply(vec![Op::SetTaskDesired {
        id: middle,
        desired: TaskState::Remove,
    }]);
    world.settle();
    world.scale(service, 5);
    world.settle();
    assert_eq!(world.live_slots(service), [1, 2, 3, 4, 5]);
}

#[test]
fn a_number_whose_task_is_on_its_way_out_waits_for_it() {
    let mut world = World::of(2);
    let service = world.service(1, 2, |_| {});
    world.settle();
    world.scale(service, 0);
    world.pass();
    world.scale(service, 3);
    world.pass();
    assert_eq!(world.live_slots(service), [3]);
    world.settle();
    assert_eq!(world.live_slots(service), [1, 2, 3]);
}

#[test]
fn a_number_whose_task_is_on_a_lost_node_does_not_wait() {
    let mut world = World::of(2);
    let service = world.service(1, 2, |_| {});
    world.settle();
    world.scale(service, 0);
    world.pass();
    world.set_node(NodeId(1), NodeState::Down);
    world.set_node(NodeId(2), NodeState::Down);
    world.node(3);
    world.scale(service, 2);
    world.pass();
    assert_eq!(world.live_slots(service), [1, 2]);
}

#[test]
fn scaling_down_takes_pending_then_failing_then_starting_tasks() {
    let mut world = World::of(2);
    // A port, so that there is room for one on each node.
    let service = world.service(1, 2, |spec| spec.ports = vec![super::world::tcp(80)]);
    world.settle();
    let first = world.slot(service, 1).id;
    world.report(first, TaskState::Failed);
    world.pass();
    world.scale(service, 4);
    world.pass();
    // 1 waits for its restart, 2 runs, 3 has taken the free node, 4 finds none.
    assert!(world.slot(service, 4).node.is_none());
    assert_eq!(world.slot(service, 3).status.state, TaskState::Assigned);
    let mut left = Vec::new();
    for replicas in (0..4).rev() {
        world.scale(service, replicas);
        world.pass();
        left.push(world.live_slots(service));
    }
    assert_eq!(left, [vec![2, 3], vec![2, 3], vec![2], vec![]]);
}

#[test]
fn scaling_down_takes_from_the_fullest_node_the_newest_first() {
    let mut world = World::of(1);
    let service = world.service(1, 3, |_| {});
    world.settle();
    world.now = world.now.plus_ms(1_000);
    world.node(2);
    world.scale(service, 5);
    world.settle();
    // 1, 2, 3 on the first node, 4 and 5 on the second.
    world.scale(service, 4);
    world.settle();
    assert_eq!(world.live_slots(service), [1, 2, 4, 5]);
    // The nodes have two each: the newest of all goes.
    world.scale(service, 3);
    world.settle();
    assert_eq!(world.live_slots(service), [1, 2, 4]);
    world.scale(service, 2);
    world.settle();
    assert_eq!(world.live_slots(service), [1, 4]);
}

#[test]
fn a_task_that_is_scaled_away_is_shut_down_and_then_removed() {
    let mut world = World::of(1);
    let service = world.service(1, 2, |_| {});
    world.settle();
    let second = world.slot(service, 2).id;
    world.scale(service, 1);
    world.pass();
    let task = world.state.tasks()[&second].clone();
    assert_eq!(
        (task.desired, task.status.state),
        (TaskState::Remove, TaskState::Running)
    );
    world.report(second, TaskState::Shutdown);
    world.pass();
    assert!(!world.state.tasks().contains_key(&second));
    assert_eq!(world.live_slots(service), [1]);
}

#[test]
fn scaling_to_zero_leaves_nothing() {
    let mut world = World::of(2);
    let service = world.service(1, 4, |_| {});
    world.settle();
    for _ in 0..3 {
        let id = world.slot(service, 2).id;
        world.report(id, TaskState::Failed);
        world.settle();
    }
    world.scale(service, 0);
    world.settle();
    assert!(world.tasks(service).is_empty());
}

#[test]
fn large_changes_come_in_transactions_of_256() {
    let mut world = World::of(3);
    world.service(1, 600, |_| {});
    let sizes: Vec<_> = world
        .pass()
        .transactions
        .iter()
        .map(|t| t.ops.len())
        .collect();
    assert_eq!(sizes, [256, 256, 88]);
}
