use super::*;
use api::model::ClusterId;
use std::collections::BTreeSet;

const CLUSTER: ClusterId = ClusterId(1);

struct Facts {
    role: Role,
    worker_exec: bool,
    gone: Option<NodeId>,
}

impl Policy for Facts {
    fn me(&self) -> Option<Identity> {
        Some(Identity {
            cluster: CLUSTER,
            node: NodeId(1),
            role: self.role,
        })
    }
    fn worker_exec(&self) -> bool {
        self.worker_exec
    }
    fn managers(&self) -> String {
        "node1 192.0.2.1".into()
    }
    fn is_gone(&self, node: NodeId) -> bool {
        self.gone == Some(node)
    }
}

const MANAGER: Facts = Facts {
    role: Role::Manager,
    worker_exec: true,
    gone: None,
};

fn peer(role: Role) -> Caller {
    Caller::Peer(
        Identity {
            cluster: CLUSTER,
            node: NodeId(2),
            role,
        },
        None,
    )
}

/// Every `rpc` of every service of the protobuf files.
fn all_methods() -> BTreeSet<String> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/proto/clusterd/v1");
    let mut methods = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut service = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.split_whitespace().next().unwrap().to_owned();
            } else if let Some(rest) = line.strip_prefix("rpc ") {
                let method = rest.split('(').next().unwrap();
                methods.insert(format!("/clusterd.v1.{service}/{method}"));
            }
        }
    }
    methods
}

#[test]
fn the_table_holds_every_method_and_no_other() {
    let known: BTreeSet<_> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(known, all_methods());
    assert_eq!(known.len(), TABLE.len(), "a path stands twice");
}

/// Who may: outsider, worker, manager, socket of a worker, socket of a manager.
fn expected(path: &str) -> [bool; 5] {
    let (service, method) = path
        .trim_start_matches("/clusterd.v1.")
        .split_once('/')
        .unwrap();
    match (service, method) {
        ("Ca", "Renew") => [false, true, true, false, false],
        ("Ca", _) => [true, true, true, false, false],
        ("Dispatch", _) => [false, true, true, false, false],
        ("Agent" | "Machine" | "Raft", _) => [false, false, true, false, false],
        ("Daemon", _) => [false, false, false, true, true],
        ("Control", "GetStatus" | "InspectCluster" | "GetCa" | "Logs" | "Exec") => {
            [false, true, true, true, true]
        }
        ("Control", method) if method.starts_with("List") => [false, true, true, true, true],
        ("Control", _) => [false, false, true, true, true],
        _ => panic!("{path} has no rule"),
    }
}

#[test]
fn every_caller_may_what_its_rule_says() {
    let worker = Facts {
        role: Role::Worker,
        ..MANAGER
    };
    for path in all_methods() {
        let may = |caller: &Caller, facts: &Facts| decide(&path, caller, None, facts).is_ok();
        let found = [
            may(&Caller::Unknown(None), &MANAGER),
            may(&peer(Role::Worker), &MANAGER),
            may(&peer(Role::Manager), &MANAGER),
            may(&Caller::Local, &worker),
            may(&Caller::Local, &MANAGER),
        ];
        assert_eq!(found, expected(&path), "{path}");
    }
}

#[test]
fn unknown_methods_are_denied_to_everybody() {
    for path in [
        "/clusterd.v1.Control/Destroy",
        "/",
        "",
        "/clusterd.v1.Control/GetStatus/",
        "/grpc.health",
    ] {
        for caller in [Caller::Local, peer(Role::Manager), Caller::Unknown(None)] {
            let denied = decide(path, &caller, None, &MANAGER);
            assert!(
                matches!(denied, Err(Denied::NoSuchCall(_))),
                "{path} {caller:?}"
            );
        }
    }
}

#[test]
fn a_claim_is_believed_from_a_manager_only() {
    let deploy = "/clusterd.v1.Control/DeployStack";
    let by_worker = Origin::worker(NodeId(9)).to_string();
    let by_operator = Origin::operator(Some(NodeId(8))).to_string();

    let passed_on = decide(deploy, &peer(Role::Manager), Some(&by_worker), &MANAGER);
    assert_eq!(passed_on, Err(Denied::Worker("node1 192.0.2.1".into())));
    assert_eq!(
        passed_on.unwrap_err().to_string(),
        "this node is a worker: run it on a manager (node1 192.0.2.1)"
    );
    let passed_on = decide(deploy, &peer(Role::Manager), Some(&by_operator), &MANAGER);
    assert_eq!(passed_on, Ok(Origin::operator(Some(NodeId(8)))));
    let forged = decide(deploy, &peer(Role::Worker), Some(&by_operator), &MANAGER);
    assert!(matches!(forged, Err(Denied::Worker(_))));
    let forged = decide(
        "/clusterd.v1.Raft/Vote",
        &peer(Role::Worker),
        Some(&by_operator),
        &MANAGER,
    );
    assert!(matches!(forged, Err(Denied::ManagersOnly(_))));
}

#[test]
fn exec_from_a_worker_is_the_clusters_choice() {
    let exec = "/clusterd.v1.Control/Exec";
    let closed = Facts {
        worker_exec: false,
        ..MANAGER
    };
    assert!(decide(exec, &peer(Role::Worker), None, &MANAGER).is_ok());
    assert!(matches!(
        decide(exec, &peer(Role::Worker), None, &closed),
        Err(Denied::WorkerExec(_))
    ));
    assert!(decide(exec, &peer(Role::Manager), None, &closed).is_ok());
}

#[test]
fn strangers_and_removed_nodes_are_denied() {
    let status = "/clusterd.v1.Control/GetStatus";
    let other = Caller::Peer(
        Identity {
            cluster: ClusterId(7),
            node: NodeId(2),
            role: Role::Manager,
        },
        None,
    );
    assert!(matches!(
        decide(status, &other, None, &MANAGER),
        Err(Denied::OtherCluster { .. })
    ));
    let gone = Facts {
        gone: Some(NodeId(2)),
        ..MANAGER
    };
    assert_eq!(
        decide(status, &peer(Role::Manager), None, &gone),
        Err(Denied::Gone(NodeId(2)))
    );
    let strange = Caller::Strange("odd".into());
    assert!(decide("/clusterd.v1.Ca/GetRoot", &strange, None, &MANAGER).is_err());
}
