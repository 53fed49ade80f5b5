use super::world::World;
use api::model::*;
use api::state::Op;

#[test]
fn a_slot_keeps_the_newest_of_what_has_ended() {
    for (history, kept) in [(0, 1), (1, 1), (3, 3), (8, 8)] {
        let mut world = World::of(1);
        world.settings(|spec| spec.task_history = history);
        let service = world.service(1, 1, |spec| spec.template.restart.delay_ms = Some(1_000));
        let mut ids = Vec::new();
        for _ in 0..12 {
            world.settle();
            let id = world.slot(service, 1).id;
            ids.push(id);
            world.report(id, TaskState::Failed);
        }
        world.settle();
        let newest = ids.split_off(12 - kept);
        let left: Vec<_> = world
            .tasks(service)
            .iter()
            .filter(|t| t.status.state.is_ended())
            .map(|t| t.id)
            .collect();
        assert_eq!(left, newest, "a history of {history}");
    }
}

#[test]
fn a_removed_services_tasks_go_when_they_have_ended() {
    let mut world = World::of(2);
    let service = world.service(1, 4, |_| {});
    let pending = world.service(2, 1, |spec| {
        spec.template.placement.constraints = vec!["node.id==0".parse().unwrap()];
    });
    world.settle();
    world.set_node(NodeId(2), NodeState::Down);
    world.apply(vec![Op::RemoveService(service), Op::RemoveService(pending)]);
    world.settle();
    // Their node can't say that they have ended.
    let tasks: Vec<_> = world.state.tasks().values().cloned().collect();
    assert_eq!(tasks.len(), 2);
    assert!(
        tasks
            .iter()
            .all(|t| t.node == Some(NodeId(2)) && t.desired == TaskState::Remove)
    );
    world.set_node(NodeId(2), NodeState::Ready);
    world.settle();
    assert!(world.state.tasks().is_empty());
}

#[test]
fn a_removed_nodes_leftovers_go_with_it() {
    let mut world = World::of(2);
    let service = world.service(1, 4, |_| {});
    world.settle();
    world.set_node(NodeId(2), NodeState::Down);
    world.apply(vec![Op::RemoveService(service)]);
    world.settle();
    world.apply(vec![Op::RemoveNode(NodeId(2))]);
    world.settle();
    assert!(world.state.tasks().is_empty());
}

#[test]
fn what_was_asked_to_end_before_it_had_a_node_is_forgotten() {
    let mut world = World::new();
    let service = world.service(1, 1, |_| {});
    world.pass();
    let first = world.slot(service, 1).id;
    world.update(service, |spec| spec.template.force += 1);
    world.pass();
    assert_eq!(world.tasks(service).len(), 1);
    assert_ne!(world.slot(service, 1).id, first);
}
