//! Each refusal: its kind, and words that name the object and the rule.

use super::*;

/// One node, two networks, a service with a VIP on the first, a task with an address there and a port.
fn base() -> State {
    let mut placed = task(1, 1, CURRENT);
    placed.node = Some(NodeId(1));
    placed.status.state = TaskState::Running;
    placed.addresses = vec![address(1, [10, 0, 1, 3])];
    placed.ports = vec![port(80)];
    state(vec![
        vec![
            Op::CreateCluster(Box::new(cluster(1))),
            Op::CreateNode(Box::new(node(1))),
            Op::CreateNetwork(Box::new(network(1, "front", 1, 1))),
            Op::CreateNetwork(Box::new(network(2, "back", 2, 2))),
        ],
        vec![Op::CreateService(Box::new(service(
            1,
            spec("web", "x", &[1]),
            vip(1, [10, 0, 1, 2]),
        )))],
        vec![
            Op::CreateTask(Box::new(placed)),
            Op::CreateTask(Box::new(task(2, 1, CURRENT))),
        ],
    ])
}

fn vip(network: u128, addr: [u8; 4]) -> BTreeMap<NetworkId, Ipv4Addr> {
    [(NetworkId(network), addr.into())].into()
}

fn address(network: u128, addr: [u8; 4]) -> TaskAddress {
    TaskAddress {
        network: NetworkId(network),
        addr: addr.into(),
    }
}

fn port(published: u16) -> PublishedPort {
    PublishedPort {
        protocol: Protocol::Tcp,
        published,
        target: 80,
    }
}

fn refused(op: Op) -> (ErrorKind, String) {
    let mut state = base();
    let before = contents(&state);
    let revision = state.revision() + 1;
    let transaction = resolve(&state, revision, vec![op]);
    let error = state
        .apply(revision, transaction)
        .expect_err("has to be refused");
    assert_eq!(contents(&state), before);
    (error.kind, error.message)
}

fn assign(id: u128, node: u128, addresses: Vec<TaskAddress>, ports: Vec<PublishedPort>) -> Op {
    Op::AssignTask {
        id: TaskId(id),
        node: NodeId(node),
        addresses,
        ports,
    }
}

#[test]
fn each_refusal_names_the_object_and_the_rule() {
    let one = "0000000000000000000000001";
    let nine = "0000000000000000000000009";
    let two = "0000000000000000000000002";
    let named = |id: u128, name: &str| {
        Op::CreateService(Box::new(service(id, spec(name, "x", &[]), BTreeMap::new())))
    };
    let stale = || Op::UpdateService {
        id: ServiceId(1),
        spec: Box::new(spec("web", "y", &[])),
        vips: BTreeMap::new(),
        at_revision: 1,
    };
    let mut bare = task(9, 1, CURRENT);
    bare.ports = vec![port(81)];
    let cases = [
        (
            Op::CreateCluster(Box::new(cluster(2))),
            ErrorKind::Taken,
            format!("cluster {one} is there already"),
        ),
        (
            Op::UpdateCluster {
                cluster: Box::new(cluster(2)),
                at_revision: CURRENT,
            },
            ErrorKind::Invalid,
            format!("this is cluster {one}, not {two}"),
        ),
        (
            Op::CreateNode(Box::new(node(1))),
            ErrorKind::Taken,
            format!("node {one} is there already"),
        ),
        (
            Op::RemoveNode(NodeId(9)),
            ErrorKind::NotFound,
            format!("node {nine} is not there (any more)"),
        ),
        (
            Op::UpdateNode {
                id: NodeId(1),
                spec: NodeSpec::default(),
                at_revision: 0,
            },
            ErrorKind::Conflict,
            format!("node {one} has changed since it was read (revision 0, now 1)"),
        ),
        (
            Op::CreateNetwork(Box::new(network(9, "front", 9, 9))),
            ErrorKind::Taken,
            "network front is there already".into(),
        ),
        (
            Op::CreateNetwork(Box::new(network(9, "new", 0, 9))),
            ErrorKind::Invalid,
            "network new: 0 is no VNI".into(),
        ),
        (
            Op::CreateNetwork(Box::new(network(9, "new", 1 << 24, 9))),
            ErrorKind::Invalid,
            "network new: 16777216 is no VNI".into(),
        ),
        (
            Op::CreateNetwork(Box::new(network(9, "new", 2, 9))),
            ErrorKind::Conflict,
            format!("VNI 2 is held by network {two}"),
        ),
        (
            Op::CreateNetwork(Box::new(network(9, "new", 9, 2))),
            ErrorKind::Taken,
            "network new: 10.0.2.0/24 overlaps 10.0.2.0/24 of network back".into(),
        ),
        (
            Op::RemoveNetwork(NetworkId(1)),
            ErrorKind::InUse,
            "network front is used by web; remove these first".into(),
        ),
        (
            named(9, "web"),
            ErrorKind::Taken,
            "service web is there already".into(),
        ),
        (
            Op::CreateService(Box::new(service(
                9,
                spec("new", "x", &[9]),
                BTreeMap::new(),
            ))),
            ErrorKind::NotFound,
            format!("network {nine} is not there (any more)"),
        ),
        (
            Op::CreateService(Box::new(service(
                9,
                spec("new", "x", &[1]),
                vip(1, [10, 0, 2, 2]),
            ))),
            ErrorKind::Invalid,
            "10.0.2.2 is not in 10.0.1.0/24 of network front".into(),
        ),
        (
            Op::CreateService(Box::new(service(
                9,
                spec("new", "x", &[1]),
                vip(1, [10, 0, 1, 3]),
            ))),
            ErrorKind::Conflict,
            format!("10.0.1.3 of network front is held by Task({one})"),
        ),
        (
            stale(),
            ErrorKind::Conflict,
            "service web has changed since it was read (revision 1, now 2)".into(),
        ),
        (
            Op::RemoveService(ServiceId(9)),
            ErrorKind::NotFound,
            format!("service {nine} is not there (any more)"),
        ),
        (
            Op::RemoveStack("x".into()),
            ErrorKind::NotFound,
            "stack x is not there (any more)".into(),
        ),
        (
            Op::CreateTask(Box::new(task(1, 1, CURRENT))),
            ErrorKind::Taken,
            format!("task {one} is there already"),
        ),
        (
            Op::CreateTask(Box::new(task(9, 1, 99))),
            ErrorKind::Conflict,
            "service a has no version 99".into(),
        ),
        (
            Op::CreateTask(Box::new(bare)),
            ErrorKind::Invalid,
            format!("task {nine} has no node, so it can hold no address and no port"),
        ),
        (
            assign(1, 1, vec![], vec![]),
            ErrorKind::Conflict,
            format!("task {one} has a node already or has ended"),
        ),
        (
            assign(2, 9, vec![], vec![]),
            ErrorKind::NotFound,
            format!("node {nine} is not there (any more)"),
        ),
        (
            assign(2, 1, vec![address(1, [10, 0, 1, 2])], vec![]),
            ErrorKind::Conflict,
            format!("10.0.1.2 of network front is held by Service({one})"),
        ),
        (
            assign(2, 1, vec![], vec![port(80)]),
            ErrorKind::Conflict,
            format!("port 80/tcp of node {one} is held by task {one}"),
        ),
        (
            Op::SetTaskDesired {
                id: TaskId(9),
                desired: TaskState::Shutdown,
            },
            ErrorKind::NotFound,
            format!("task {nine} is not there (any more)"),
        ),
        (
            Op::RemoveTask(TaskId(1)),
            ErrorKind::InUse,
            format!("task {one} has not ended on its node"),
        ),
    ];
    for (op, kind, message) in cases {
        let shown = format!("{op:?}");
        assert_eq!(refused(op), (kind, message), "{shown}");
    }
}

#[test]
fn a_network_is_kept_until_its_last_task_has_left() {
    let mut state = base();
    let mut apply = |ops: Vec<Op>| {
        let revision = state.revision() + 1;
        let transaction = resolve(&state, revision, ops);
        state
            .apply(revision, transaction)
            .map(drop)
            .map_err(|e| e.message)
    };
    apply(vec![Op::RemoveService(ServiceId(1))]).expect("a service can always be removed");
    let error = apply(vec![Op::RemoveNetwork(NetworkId(1))]).expect_err("a task still runs");
    assert_eq!(
        error,
        "network front is still left by 1 task(s) that are ending; try again in a moment"
    );
    let status = TaskStatus {
        state: TaskState::Shutdown,
        ..TaskStatus::default()
    };
    apply(vec![Op::SetTaskStatus {
        id: TaskId(1),
        status,
    }])
    .expect("it ends");
    // The other one never had a node and holds nothing.
    apply(vec![Op::RemoveNetwork(NetworkId(1))]).expect("nobody is on it");
    apply(vec![Op::RemoveTask(TaskId(1)), Op::RemoveTask(TaskId(2))]).expect("they have ended");
}

/// A task that waits for a node will want its networks.
#[test]
fn a_network_is_kept_for_a_task_that_waits() {
    let mut state = base();
    let update = Op::UpdateService {
        id: ServiceId(1),
        spec: Box::new(spec("web", "x", &[])),
        vips: BTreeMap::new(),
        at_revision: CURRENT,
    };
    let ended = TaskStatus {
        state: TaskState::Failed,
        ..TaskStatus::default()
    };
    let ops = vec![
        update,
        Op::SetTaskStatus {
            id: TaskId(1),
            status: ended,
        },
    ];
    let transaction = resolve(&state, 4, ops);
    state.apply(4, transaction).expect("an update");
    let remove = |state: &mut State, revision| {
        let ops = vec![Op::RemoveNetwork(NetworkId(1))];
        state
            .apply(
                revision,
                Transaction {
                    at: Timestamp(0),
                    ops,
                },
            )
            .map(drop)
            .map_err(|e| e.to_string())
    };
    let want = "network front is wanted by 1 task(s) that wait for a node; try again in a moment";
    assert_eq!(remove(&mut state, 5), Err(want.into()));
    let ops = vec![Op::SetTaskDesired {
        id: TaskId(2),
        desired: TaskState::Shutdown,
    }];
    state
        .apply(
            6,
            Transaction {
                at: Timestamp(0),
                ops,
            },
        )
        .expect("forward");
    assert_eq!(remove(&mut state, 7), Ok(()));
}

#[test]
fn the_tasks_of_a_removed_node_are_orphaned_and_hold_nothing() {
    let mut state = base();
    let ops = vec![Op::RemoveNode(NodeId(1))];
    state
        .apply(
            4,
            Transaction {
                at: Timestamp(4),
                ops,
            },
        )
        .expect("a node can be removed");
    let task = &state.tasks()[&TaskId(1)];
    assert_eq!(task.status.state, TaskState::Orphaned);
    assert_eq!(task.status.message, "its node was removed from the cluster");
    assert_eq!(state.port_holder(NodeId(1), Protocol::Tcp, 80), None);
    let held = state
        .addresses(NetworkId(1))
        .expect("the service's own is held");
    assert_eq!(
        held.values().collect::<Vec<_>>(),
        [&Holder::Service(ServiceId(1))]
    );
}

#[test]
fn what_an_ended_task_held_can_be_had() {
    let mut state = base();
    let status = TaskStatus {
        state: TaskState::Failed,
        ..TaskStatus::default()
    };
    let ops = vec![
        Op::SetTaskStatus {
            id: TaskId(1),
            status,
        },
        assign(2, 1, vec![address(1, [10, 0, 1, 3])], vec![port(80)]),
    ];
    state
        .apply(
            4,
            Transaction {
                at: Timestamp(4),
                ops,
            },
        )
        .expect("in one transaction");
    assert_eq!(
        state.port_holder(NodeId(1), Protocol::Tcp, 80),
        Some(TaskId(2))
    );
}

#[test]
fn a_status_leaves_the_revision_that_updates_compare() {
    let mut state = base();
    let status = NodeStatus {
        state: NodeState::Ready,
        ..NodeStatus::default()
    };
    let ops = vec![
        Op::SetNodeStatus {
            id: NodeId(1),
            status,
            description: None,
            addr: Some((Ipv4Addr::LOCALHOST, 1)),
        },
        Op::UpdateNode {
            id: NodeId(1),
            spec: NodeSpec::default(),
            at_revision: 1,
        },
    ];
    state
        .apply(
            4,
            Transaction {
                at: Timestamp(4),
                ops,
            },
        )
        .expect("the node was read at revision 1");
    let node = &state.nodes()[&NodeId(1)];
    assert_eq!(
        (node.status.state, node.port, node.meta.revision),
        (NodeState::Ready, 1, 4)
    );
}

#[test]
fn objects_are_found_by_name_id_or_its_beginning() {
    let state = base();
    let one = ServiceId(1).to_string();
    assert!(matches!(state.find_service("web"), Lookup::Found(s) if s.id == ServiceId(1)));
    assert!(matches!(state.find_service(&one), Lookup::Found(_)));
    assert!(matches!(state.find_network("0000"), Lookup::Ambiguous(2)));
    assert!(matches!(state.find_network(""), Lookup::Missing));
    assert!(matches!(state.find_task("web.1"), Lookup::Found(t) if t.id == TaskId(2)));
    assert!(matches!(state.find_task("web.2"), Lookup::Missing));
    assert!(matches!(state.find_node("zzz"), Lookup::Missing));
}

#[test]
fn a_node_that_is_down_takes_no_task() {
    let mut state = base();
    let mut apply = |op| {
        let revision = state.revision() + 1;
        let transaction = resolve(&state, revision, vec![op]);
        state.apply(revision, transaction).map(drop)
    };
    let is = |now| Op::SetNodeStatus {
        id: NodeId(1),
        status: NodeStatus {
            state: now,
            ..NodeStatus::default()
        },
        description: None,
        addr: None,
    };
    apply(is(NodeState::Down)).unwrap();
    for op in [
        assign(2, 1, vec![], vec![]),
        Op::CreateTask(Box::new(Task {
            node: Some(NodeId(1)),
            ..task(3, 1, CURRENT)
        })),
    ] {
        let error = apply(op).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(error.message.ends_with("is down, and takes no task"));
    }
    apply(is(NodeState::Ready)).unwrap();
    apply(assign(2, 1, vec![], vec![])).unwrap();
}
