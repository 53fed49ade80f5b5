//! Exclusive services: a slot's successor waits until the node that is down has surely stopped its task.

use super::world::World;
use api::model::*;
use api::state::Op;

const OVER: u64 = 20_000;

fn exclusive(spec: &mut ServiceSpec) {
    spec.template.disconnect = Disconnect {
        stop_after_ms: Some(5_000),
        exclusive: true,
    };
}

fn over() -> u64 {
    let terms = Disconnect {
        stop_after_ms: Some(5_000),
        exclusive: true,
    };
    terms.over_after_ms().unwrap()
}

#[test]
fn an_exclusive_slot_waits_until_the_lease_is_surely_over_and_no_longer() {
    let mut world = World::of(2);
    let service = world.service(1, 1, exclusive);
    world.settle();
    let first = world.slot(service, 1);
    let (node, other) = match first.node {
        Some(NodeId(1)) => (NodeId(1), NodeId(2)),
        _ => (NodeId(2), NodeId(1)),
    };
    world.silent(node, NodeState::Down, 3_000);
    assert_eq!(world.pass().transactions, [], "replaced too early");
    world.silent(node, NodeState::Down, over() - 1);
    assert_eq!(world.pass().transactions, [], "replaced too early");
    world.silent(node, NodeState::Down, over());
    world.settle();
    let second = world.slot(service, 1);
    assert_eq!(second.node, Some(other));
    assert_eq!(second.status.state, TaskState::Running);
    // Back again: what it has stopped ends for good.
    world.set_node(node, NodeState::Ready);
    world.settle();
    assert!(world.state.tasks()[&first.id].status.state.is_ended());
    assert_eq!(world.slot(service, 1).id, second.id);
}

#[test]
fn a_node_that_returns_within_the_lease_keeps_its_exclusive_task() {
    let mut world = World::of(2);
    let service = world.service(1, 2, exclusive);
    world.settle();
    let before = world.live(service);
    world.silent(NodeId(1), NodeState::Down, 3_000);
    world.settle();
    world.set_node(NodeId(1), NodeState::Ready);
    world.settle();
    assert_eq!(world.live(service), before);
}

#[test]
fn neither_scaling_nor_draining_nor_a_new_version_runs_an_exclusive_slot_twice() {
    let mut world = World::of(2);
    let service = world.service(1, 1, exclusive);
    world.settle();
    let first = world.slot(service, 1);
    let node = first.node.unwrap();
    world.silent(node, NodeState::Down, 3_000);
    world.set_availability(node, Availability::Drain);
    world.settle();
    world.update(service, |spec| spec.template.force += 1);
    world.settle();
    world.scale(service, 0);
    world.settle();
    world.scale(service, 1);
    world.settle();
    let elsewhere = |world: &World| {
        let held = world.tasks(service).into_iter();
        held.filter(|t| t.node.is_some_and(|n| n != node) && !t.status.state.is_ended())
            .count()
    };
    assert_eq!(elsewhere(&world), 0);
    world.silent(node, NodeState::Down, over());
    world.settle();
    assert_eq!(elsewhere(&world), 1);
}

#[test]
fn removing_the_node_is_its_end() {
    let mut world = World::of(2);
    let service = world.service(1, 1, exclusive);
    world.settle();
    let node = world.slot(service, 1).node.unwrap();
    world.silent(node, NodeState::Down, 3_000);
    world.settle();
    world.apply(vec![Op::RemoveNode(node)]);
    world.settle();
    assert_eq!(world.running(service), 1);
    assert_ne!(world.slot(service, 1).node, Some(node));
}

#[test]
fn what_was_started_to_be_kept_is_waited_for_until_its_node_returns() {
    let mut world = World::of(2);
    let service = world.service(1, 1, |_| {});
    world.settle();
    let node = world.slot(service, 1).node.unwrap();
    world.silent(node, NodeState::Down, 0);
    // Before any pass saw the node down, the service has become exclusive; the node knows nothing of it.
    world.update(service, exclusive);
    world.settle();
    world.silent(node, NodeState::Down, 1_000 * OVER);
    world.settle();
    assert_eq!(world.slot(service, 1).node, Some(node));
    world.set_node(node, NodeState::Ready);
    world.settle();
    assert_eq!(world.running(service), 1);
}

#[test]
fn others_are_replaced_at_once_whatever_their_lease() {
    let mut world = World::of(2);
    let service = world.service(1, 1, |spec| {
        spec.template.disconnect.stop_after_ms = Some(60_000);
    });
    world.settle();
    let node = world.slot(service, 1).node.unwrap();
    world.silent(node, NodeState::Down, 3_000);
    world.settle();
    assert_ne!(world.slot(service, 1).node, Some(node));
}
