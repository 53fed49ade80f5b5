use super::world::{World, attached};
use api::model::*;
use api::state::Op;

#[test]
fn a_lost_nodes_tasks_are_replaced_at_once_and_end_when_it_returns() {
    let mut world = World::of(2);
    let network = world.network(1, "10.1.0.0/24");
    let service = world.service(1, 4, |spec| spec.template.networks = attached(network));
    world.settle();
    let lost: Vec<_> = world
        .live(service)
        .into_iter()
        .filter(|t| t.node == Some(NodeId(1)))
        .collect();
    world.set_node(NodeId(1), NodeState::Down);
    world.pass();
    assert_eq!(world.live_slots(service), [1, 2, 3, 4]);
    assert_eq!(world.on(service, NodeId(2)), 4);
    // Who is there may still use the addresses.
    for task in &lost {
        let held = world.state.addresses(network).unwrap();
        assert!(task.addresses.iter().all(|a| held.contains_key(&a.addr)));
        assert_eq!(world.state.tasks()[&task.id].desired, TaskState::Shutdown);
    }
    world.settle();
    world.set_node(NodeId(1), NodeState::Ready);
    world.settle();
    assert_eq!(world.running(service), 4);
    assert!(
        lost.iter()
            .all(|t| world.state.tasks()[&t.id].status.state.is_ended())
    );
}

#[test]
fn where_a_leader_has_just_begun_an_unknown_node_keeps_its_tasks() {
    let mut world = World::of(2);
    let service = world.service(1, 4, |_| {});
    world.settle();
    world.set_node(NodeId(1), NodeState::Unknown);
    assert_eq!(world.pass().transactions, []);
    world.update(service, |spec| spec.template.force += 1);
    world.settle();
    // A rollout leaves them alone too, until the node is heard of.
    let old = world
        .live(service)
        .into_iter()
        .filter(|t| t.node == Some(NodeId(1)))
        .count();
    assert_eq!((old, world.live(service).len()), (2, 4));
    world.set_node(NodeId(1), NodeState::Ready);
    world.settle();
    let current = world.state.services()[&service].template_revision;
    assert!(
        world
            .live(service)
            .iter()
            .all(|t| t.template_revision == current)
    );
}

#[test]
fn a_drained_nodes_tasks_end_before_they_begin_elsewhere() {
    let mut world = World::of(2);
    world.set_availability(NodeId(2), Availability::Pause);
    let service = world.service(1, 2, |_| {});
    world.settle();
    world.set_availability(NodeId(2), Availability::Active);
    world.set_availability(NodeId(1), Availability::Drain);
    world.pass();
    assert_eq!(world.live(service), [], "begun before the old ones ended");
    world.settle();
    assert_eq!(
        (world.on(service, NodeId(2)), world.running(service)),
        (2, 2)
    );
}

#[test]
fn a_paused_node_keeps_what_it_has_and_takes_nothing() {
    let mut world = World::of(2);
    let service = world.service(1, 2, |_| {});
    world.settle();
    world.set_availability(NodeId(1), Availability::Pause);
    world.scale(service, 4);
    world.settle();
    assert_eq!(
        (world.on(service, NodeId(1)), world.on(service, NodeId(2))),
        (1, 3)
    );
}

#[test]
fn where_no_other_node_will_do_the_successor_waits_and_says_why() {
    let mut world = World::of(2);
    let service = world.service(1, 1, |spec| {
        spec.template.placement.constraints = vec!["node.hostname==node2".parse().unwrap()];
    });
    world.settle();
    world.set_node(NodeId(2), NodeState::Down);
    world.settle();
    let waits = world.slot(service, 1);
    assert_eq!(
        waits.status.message,
        "no suitable node: 1 of 2 nodes fails node.hostname==node2; 1 of 2 nodes is down"
    );
    // It may not begin while its predecessor still runs.
    world.set_node(NodeId(2), NodeState::Ready);
    world.pass();
    assert!(world.slot(service, 1).node.is_none());
    world.settle();
    assert_eq!(world.slot(service, 1).id, waits.id);
    assert_eq!(world.running(service), 1);
}

#[test]
fn a_removed_nodes_tasks_are_replaced_at_once_whatever_the_policy() {
    let mut world = World::of(2);
    let service = world.service(1, 3, |spec| {
        spec.template.restart.max_attempts = Some(1);
        spec.template.restart.delay_ms = Some(0);
    });
    world.settle();
    for slot in 1..=3 {
        // One more failure would be one too many.
        let id = world.slot(service, slot).id;
        world.report(id, TaskState::Failed);
        world.settle();
    }
    world.apply(vec![Op::RemoveNode(NodeId(1))]);
    world.pass();
    assert_eq!(world.live_slots(service), [1, 2, 3]);
    assert_eq!(world.on(service, NodeId(2)), 3);
    assert!(
        !world
            .tasks(service)
            .iter()
            .any(|t| t.status.state == TaskState::Orphaned)
    );
}

#[test]
fn a_removed_nodes_task_is_replaced_though_one_before_it_still_ends_elsewhere() {
    let mut world = World::of(2);
    let service = world.service(1, 1, |spec| {
        spec.template.restart.condition = RestartCondition::None;
    });
    world.settle();
    let first = world.slot(service, 1).id;
    world.set_node(NodeId(1), NodeState::Down);
    world.settle();
    world.set_node(NodeId(1), NodeState::Ready);
    world.apply(vec![Op::RemoveNode(NodeId(2))]);
    world.pass();
    assert!(
        world.live(service).is_empty(),
        "the first is still on its node"
    );
    world.report(first, TaskState::Failed);
    world.pass();
    assert_eq!(world.live_slots(service), [1]);
}
