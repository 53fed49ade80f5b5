use super::world::{World, attached, tcp};
use api::model::*;

#[test]
fn tasks_are_spread_by_service_then_in_all_then_by_id() {
    let mut world = World::of(3);
    let first = world.service(1, 4, |_| {});
    world.settle();
    let counts = |world: &World, service| [1, 2, 3].map(|n| world.on(service, NodeId(n)));
    assert_eq!(counts(&world, first), [2, 1, 1]);
    // Equal for this service, so the emptier ones come first.
    let second = world.service(2, 2, |_| {});
    world.settle();
    assert_eq!(counts(&world, second), [0, 1, 1]);
    // The service's own tasks weigh more than all others.
    world.scale(second, 3);
    world.settle();
    assert_eq!(counts(&world, second), [1, 1, 1]);
}

#[test]
fn spread_counts_neither_what_has_ended_nor_what_is_ending() {
    let mut world = World::of(2);
    let big = world.service(1, 2, |_| {});
    world.settle();
    world.scale(big, 1);
    // Slot 2 on node 2 goes in the same pass in which this one comes.
    let other = world.service(2, 1, |_| {});
    world.pass();
    assert_eq!(world.slot(other, 1).node, Some(NodeId(2)));
}

#[test]
fn a_refusal_names_each_rule_and_how_many_nodes() {
    let mut world = World::of(2);
    world.set_availability(NodeId(1), Availability::Drain);
    let service = world.service(1, 1, |spec| {
        spec.template.placement.constraints = vec!["node.labels.disk==ssd".parse().unwrap()];
    });
    world.pass();
    let task = world.slot(service, 1);
    assert_eq!(task.status.state, TaskState::Pending);
    assert_eq!(
        task.status.message,
        "no suitable node: 1 of 2 nodes fails node.labels.disk==ssd; 1 of 2 nodes is drained"
    );
    assert_eq!(
        crate::explain(&world.state, &task),
        Some(task.status.message.clone())
    );
    world.now = world.now.plus_ms(60_000);
    assert_eq!(
        world.pass().transactions,
        [],
        "the same refusal is not told again"
    );
    world.set_availability(NodeId(1), Availability::Active);
    world.pass();
    assert_eq!(
        world.slot(service, 1).status.message,
        "no suitable node: 2 of 2 nodes fail node.labels.disk==ssd"
    );
    world.update_node(NodeId(1), |spec| {
        drop(spec.labels.insert("disk".into(), "ssd".into()))
    });
    assert_eq!(crate::explain(&world.state, &task), None);
    world.settle();
    let placed = world.slot(service, 1);
    assert_eq!((placed.id, placed.node), (task.id, Some(NodeId(1))));
    assert_eq!(placed.status.message, "");
}

#[test]
fn each_state_of_a_node_has_its_words() {
    let mut world = World::new();
    let service = world.service(1, 1, |_| {});
    world.pass();
    assert_eq!(
        world.slot(service, 1).status.message,
        "no suitable node: the cluster has none"
    );
    type Change = fn(&mut World);
    let cases: [(Change, &str); 4] = [
        (
            |w| w.set_node(NodeId(1), NodeState::Unknown),
            "is not ready yet",
        ),
        (|w| w.set_node(NodeId(1), NodeState::Down), "is down"),
        (
            |w| w.set_availability(NodeId(1), Availability::Pause),
            "is paused",
        ),
        (
            |w| w.set_availability(NodeId(1), Availability::Drain),
            "is drained",
        ),
    ];
    for (change, words) in cases {
        let mut world = World::of(1);
        change(&mut world);
        let service = world.service(1, 1, |_| {});
        world.pass();
        let message = world.slot(service, 1).status.message;
        assert_eq!(message, format!("no suitable node: 1 of 1 nodes {words}"));
    }
}

#[test]
fn constraints_mean_what_swarms_mean() {
    let mut world = World::of(7);
    let id = NodeId(7);
    world.update_node(id, |spec| {
        drop(spec.labels.insert("disk".into(), "ssd".into()))
    });
    let own = id.to_string();
    let yes = [
        &format!("node.id=={own}"),
        "node.id!=0000000000000000000000001",
        "node.id!=nonsense",
        "node.hostname==NODE7",
        "node.role == worker",
        "node.role != manager",
        "node.platform.arch==amd64",
        "node.platform.arch==X86_64",
        "node.platform.arch!=arm64",
        "node.platform.os==Linux",
        "node.ip==192.168.0.7",
        "node.ip==192.168.0.0/24",
        "node.ip!=192.168.1.0/24",
        "node.labels.disk==SSD",
        "node.labels.disk!=hdd",
        "node.labels.missing!=1",
        "engine.labels.missing!=1",
    ];
    let no = [
        "node.id==nonsense",
        "node.hostname!=node7",
        "node.role==manager",
        "node.platform.arch==aarch64",
        "node.platform.arch!=x86_64",
        "node.ip==192.168.0.8",
        "node.ip!=192.168.0.0/16",
        "node.labels.DISK==ssd",
        "node.labels.missing==1",
        "engine.labels.disk==ssd",
    ];
    for (text, holds) in yes.iter().map(|t| (*t, true)).chain(no.map(|t| (t, false))) {
        let constraint: Constraint = text.parse().unwrap();
        let node = &world.state.nodes()[&id];
        assert_eq!(crate::place::holds(node, &constraint), holds, "{text}");
    }
}

#[test]
fn all_constraints_have_to_hold_and_the_first_that_fails_is_named() {
    let mut world = World::of(3);
    let service = world.service(1, 1, |spec| {
        spec.template.placement.constraints = ["node.hostname!=node1", "node.ip==192.168.0.1"]
            .map(|t| t.parse().unwrap())
            .into();
    });
    world.pass();
    assert_eq!(
        world.slot(service, 1).status.message,
        "no suitable node: 2 of 3 nodes fail node.ip==192.168.0.1; 1 of 3 nodes fails node.hostname!=node1"
    );
}

#[test]
fn a_published_port_is_held_once_a_node_and_its_holder_named() {
    let mut world = World::of(2);
    let first = world.service(1, 1, |spec| spec.ports = vec![tcp(5000)]);
    let second = world.service(2, 2, |spec| spec.ports = vec![tcp(80), tcp(5000)]);
    world.settle();
    assert_eq!(world.on(first, NodeId(1)), 1);
    assert_eq!(world.on(second, NodeId(2)), 1);
    assert_eq!(
        world.slot(second, 2).status.message,
        "no suitable node: 1 of 2 nodes has port 5000/tcp taken by svc1.1; \
         1 of 2 nodes has port 80/tcp taken by svc2.1"
    );
    // The same number in the other protocol is another port.
    let udp = PublishedPort {
        protocol: Protocol::Udp,
        ..tcp(5000)
    };
    let third = world.service(3, 2, |spec| spec.ports = vec![udp]);
    world.settle();
    assert_eq!(world.running(third), 2);
    world.scale(first, 0);
    world.settle();
    assert_eq!(
        world.slot(second, 2).node,
        Some(NodeId(1)),
        "the port is free when its task has ended"
    );
}

#[test]
fn one_reason_names_few_holders() {
    let mut world = World::of(6);
    let service = world.service(1, 7, |spec| spec.ports = vec![tcp(80)]);
    world.settle();
    assert_eq!(
        world.slot(service, 7).status.message,
        "no suitable node: 6 of 6 nodes have port 80/tcp taken by svc1.1, svc1.2, svc1.3 and others"
    );
}

#[test]
fn a_full_network_says_so() {
    let mut world = World::of(2);
    let network = world.network(1, "10.1.0.0/29");
    let service = world.service(1, 6, |spec| spec.template.networks = attached(network));
    world.settle();
    assert_eq!(world.running(service), 5);
    assert_eq!(
        world.slot(service, 6).status.message,
        "network net1 has no free address (of 5)"
    );
    let first = world.slot(service, 1).id;
    world.scale(service, 5);
    world.settle();
    world.report(first, TaskState::Failed);
    world.settle();
    assert_eq!(world.running(service), 5);
}
