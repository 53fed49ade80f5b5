use super::world::{World, tcp};
use api::model::*;

fn versions(world: &World, service: ServiceId) -> (usize, usize) {
    let current = world.state.services()[&service].template_revision;
    let live = world.live(service);
    let new = live
        .iter()
        .filter(|t| t.template_revision == current)
        .count();
    (new, live.len() - new)
}

#[test]
fn one_at_a_time_stopped_first_each_waiting_for_the_one_before() {
    let mut world = World::of(2);
    let service = world.service(1, 3, |_| {});
    world.settle();
    world.update(service, |spec| spec.template.container.image = "new".into());
    for done in 0..3 {
        world.pass();
        assert_eq!(
            versions(&world, service),
            (done, 2 - done),
            "the old one is stopped first"
        );
        world.obey();
        world.pass();
        assert_eq!(
            versions(&world, service),
            (done + 1, 2 - done),
            "then the new one is made"
        );
        world.pass();
        assert_eq!(
            versions(&world, service),
            (done + 1, 2 - done),
            "which has to run"
        );
        world.obey();
    }
    world.settle();
    assert_eq!(versions(&world, service), (3, 0));
    assert_eq!(world.live_slots(service), [1, 2, 3]);
}

#[test]
fn a_version_that_fails_takes_one_task_down() {
    let mut world = World::of(2);
    let service = world.service(1, 3, |_| {});
    world.settle();
    world.update(service, |spec| spec.template.force += 1);
    world.pass();
    world.obey();
    for _ in 0..20 {
        let next = world.pass().next;
        world.now = next.unwrap_or(world.now);
        for task in world
            .live(service)
            .iter()
            .filter(|t| t.status.state < TaskState::Running)
        {
            world.report(task.id, TaskState::Failed);
        }
    }
    assert_eq!(versions(&world, service).1, 2);
}

#[test]
fn a_version_that_fails_for_good_takes_one_task_down() {
    let mut world = World::of(2);
    let service = world.service(1, 3, |_| {});
    world.settle();
    world.update(service, |spec| {
        spec.template.restart.condition = RestartCondition::None
    });
    world.pass();
    world.obey();
    world.pass();
    let new = world
        .live(service)
        .into_iter()
        .find(|t| t.status.state < TaskState::Running)
        .unwrap();
    world.report(new.id, TaskState::Failed);
    world.settle();
    assert_eq!(versions(&world, service), (0, 2));
    world.update(service, |spec| {
        spec.template.restart = RestartPolicy::default()
    });
    world.settle();
    assert_eq!(versions(&world, service), (3, 0));
}

#[test]
fn a_version_that_completes_is_no_failure() {
    let mut world = World::of(2);
    let service = world.service(1, 2, |_| {});
    world.settle();
    world.update(service, |spec| {
        spec.template.restart.condition = RestartCondition::OnFailure
    });
    for _ in 0..10 {
        world.pass();
        world.obey();
        let current = world.state.services()[&service].template_revision;
        for task in world
            .live(service)
            .iter()
            .filter(|t| t.template_revision == current)
        {
            world.report(task.id, TaskState::Complete);
        }
    }
    assert_eq!(world.live(service), []);
}

#[test]
fn a_version_that_finds_no_node_takes_one_task_down() {
    let mut world = World::of(2);
    let service = world.service(1, 3, |_| {});
    world.settle();
    world.update(service, |spec| {
        spec.template.placement.constraints = vec!["node.labels.disk==ssd".parse().unwrap()];
    });
    world.settle();
    assert_eq!(versions(&world, service), (1, 2));
    let waits = world
        .live(service)
        .into_iter()
        .find(|t| t.node.is_none())
        .unwrap();
    assert_eq!(
        waits.status.message,
        "no suitable node: 2 of 2 nodes fail node.labels.disk==ssd"
    );
    world.update_node(NodeId(2), |spec| {
        drop(spec.labels.insert("disk".into(), "ssd".into()))
    });
    world.settle();
    assert_eq!(versions(&world, service), (3, 0));
    assert_eq!(world.on(service, NodeId(2)), 3);
}

#[test]
fn a_task_that_never_found_a_node_holds_no_rollout_up() {
    for pending in 1..=3 {
        let mut world = World::of(2);
        let service = world.service(1, 2, |spec| spec.ports = vec![tcp(80)]);
        world.settle();
        world.scale(service, 3);
        world.settle();
        // Whichever of the three is the one without a node.
        if pending < 3 {
            let id = world.slot(service, pending).id;
            world.report(id, TaskState::Failed);
            world.settle();
        }
        let waiting = world
            .live(service)
            .into_iter()
            .find(|t| t.node.is_none())
            .unwrap()
            .slot;
        assert_eq!(waiting, pending);
        world.update(service, |spec| spec.template.force += 1);
        world.settle();
        assert_eq!(versions(&world, service), (3, 0));
        assert_eq!(world.running(service), 2);
    }
}

#[test]
fn tasks_that_serve_nobody_yet_do_not_wait_for_their_turn() {
    let mut world = World::of(2);
    let service = world.service(1, 4, |_| {});
    world.pass();
    world.update(service, |spec| spec.template.force += 1);
    world.pass();
    assert_eq!(versions(&world, service), (0, 0));
    world.obey();
    world.pass();
    assert_eq!(versions(&world, service), (4, 0));
}

#[test]
fn an_old_task_on_a_lost_node_is_replaced_by_the_new_version() {
    let mut world = World::of(2);
    let service = world.service(1, 2, |_| {});
    world.settle();
    world.update(service, |spec| spec.template.force += 1);
    world.pass();
    let stopping = world
        .tasks(service)
        .into_iter()
        .find(|t| t.desired == TaskState::Shutdown)
        .unwrap();
    world.set_node(stopping.node.unwrap(), NodeState::Down);
    world.pass();
    assert_eq!(versions(&world, service), (1, 1));
    world.settle();
    assert_eq!(versions(&world, service), (2, 0));
}

#[test]
fn a_change_of_ports_is_a_new_version_and_one_of_replicas_is_not() {
    let mut world = World::of(2);
    let service = world.service(1, 2, |_| {});
    world.settle();
    let before: Vec<_> = world.live(service).iter().map(|t| t.id).collect();
    world.scale(service, 3);
    world.settle();
    assert!(
        before
            .iter()
            .all(|id| world.live(service).iter().any(|t| t.id == *id))
    );
    world.scale(service, 2);
    world.update(service, |spec| spec.ports = vec![tcp(80)]);
    world.settle();
    assert!(world.live(service).iter().all(|t| t.ports == [tcp(80)]));
}

#[test]
fn a_node_that_is_lost_or_drained_holds_no_rollout_up() {
    for drained in [true, false] {
        let mut world = World::of(3);
        let service = world.service(1, 3, |spec| spec.ports = vec![tcp(80)]);
        world.settle();
        if drained {
            world.set_availability(NodeId(1), Availability::Drain);
        } else {
            world.set_node(NodeId(1), NodeState::Down);
        }
        world.settle();
        world.update(service, |spec| spec.template.force += 1);
        world.settle();
        assert_eq!(
            (versions(&world, service), world.running(service)),
            ((3, 0), 2)
        );
    }
}
