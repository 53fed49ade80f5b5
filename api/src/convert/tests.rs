//! Whatever the model holds survives the wire, and nothing on the wire can hurt.

use super::*;
use crate::model::*;
use proptest::prelude::*;
use prost::Message;
use std::fmt::Debug;

fn survives<M, P>(value: &M)
where
    M: PartialEq + Debug + TryFrom<P, Error = ConvertError>,
    P: for<'a> From<&'a M> + Message + Default,
{
    let bytes = P::from(value).encode_to_vec();
    let wire = P::decode(bytes.as_slice()).expect("what was encoded is decoded");
    assert_eq!(&M::try_from(wire).expect("what was written is read"), value);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn clusters_survive(value in generators::cluster()) {
        survives::<_, proto::Cluster>(&value);
    }

    #[test]
    fn nodes_survive(value in generators::node()) {
        survives::<_, proto::Node>(&value);
    }

    #[test]
    fn networks_survive(value in generators::network()) {
        survives::<_, proto::Network>(&value);
    }

    #[test]
    fn services_survive(value in generators::service()) {
        survives::<_, proto::Service>(&value);
    }

    #[test]
    fn tasks_survive(value in generators::task()) {
        survives::<_, proto::Task>(&value);
    }

    #[test]
    fn blobs_survive(value in generators::blob()) {
        survives::<_, proto::Blob>(&value);
    }

    #[test]
    fn stacks_survive(value in generators::stack()) {
        survives::<_, proto::Stack>(&value);
    }

    #[test]
    fn stack_specs_survive(value in generators::stack_spec()) {
        survives::<_, proto::StackSpec>(&value);
    }

    #[test]
    fn transactions_survive(value in generators::transaction()) {
        prop_assert_eq!(decode_transaction(&encode_transaction(&value)), Ok(value));
    }

    #[test]
    fn tables_survive(value in generators::tables()) {
        let read = decode_tables(&encode_tables(&value)).expect("what was written is read");
        prop_assert_eq!(read.revision, value.revision);
        prop_assert_eq!(read.cluster, value.cluster);
        prop_assert_eq!(read.nodes, value.nodes);
        prop_assert_eq!(read.networks, value.networks);
        prop_assert_eq!(read.services, value.services);
        prop_assert_eq!(read.stacks, value.stacks);
        prop_assert_eq!(read.tasks, value.tasks);
        prop_assert_eq!(read.templates, value.templates);
        prop_assert_eq!(read.blobs, value.blobs);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_transaction(&bytes);
        let _ = decode_tables(&bytes);
    }

    /// One damaged byte keeps most of the structure, so this reaches deeper than random bytes.
    #[test]
    fn a_damaged_transaction_is_read_or_refused(
        value in generators::transaction(),
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let mut bytes = encode_transaction(&value).to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode_transaction(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = decode_transaction(&bytes);
        }
    }

    #[test]
    fn damaged_tables_are_read_or_refused(
        value in generators::tables(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = encode_tables(&value);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode_tables(&bytes);
        }
    }
}

fn id() -> bytes::Bytes {
    id_bytes(7)
}

fn op(op: proto::op::Op) -> String {
    let transaction = proto::Transaction {
        at: 1,
        ops: vec![proto::Op { op: Some(op) }],
    };
    decode_transaction(&transaction.encode_to_vec())
        .expect_err("has to be refused")
        .to_string()
}

#[test]
fn each_refusal_names_message_and_field() {
    use proto::op::Op;
    let absent = "absent, or of a kind that this version doesn't know";
    let unknown_op = proto::Transaction {
        at: 1,
        ops: vec![proto::Op { op: None }],
    };
    let error = decode_transaction(&unknown_op.encode_to_vec()).expect_err("has to be refused");
    assert_eq!(error.to_string(), format!("Op.op: {absent}"));

    let cases = [
        (
            Op::RemoveNode(vec![1, 2, 3].into()),
            "Op.remove_node: an id has 16 bytes, this one has 3".into(),
        ),
        (
            Op::CreateTask(proto::Task::default()),
            "Task.id: an id has 16 bytes, this one has 0".into(),
        ),
        (
            Op::CreateNode(proto::Node {
                id: id(),
                ..Default::default()
            }),
            format!("Node.meta: {absent}"),
        ),
        (
            Op::UpdateNode(proto::UpdateNode {
                id: id(),
                spec: None,
                at_revision: 1,
            }),
            format!("UpdateNode.spec: {absent}"),
        ),
        (
            Op::SetTaskDesired(proto::SetTaskDesired {
                id: id(),
                desired: 99,
            }),
            "SetTaskDesired.desired: unknown value 99; the sender's version may know more".into(),
        ),
        (
            Op::SetTaskDesired(proto::SetTaskDesired {
                id: id(),
                desired: 0,
            }),
            "SetTaskDesired.desired: unknown value 0; the sender's version may know more".into(),
        ),
        (
            Op::AssignTask(proto::AssignTask {
                id: id(),
                node: id(),
                addresses: vec![],
                ports: vec![proto::PublishedPort {
                    protocol: 1,
                    published: 70_000,
                    target: 80,
                }],
            }),
            "PublishedPort.published: 70000 is no port: 1 to 65535 are".into(),
        ),
        (
            Op::SetNodeStatus(proto::SetNodeStatus {
                id: id(),
                addr: Some(1),
                ..Default::default()
            }),
            "SetNodeStatus.addr: comes together with port or not at all".into(),
        ),
        (
            Op::CreateNetwork(proto::Network {
                id: id(),
                meta: Some(proto::Meta::default()),
                spec: Some(proto::NetworkSpec::default()),
                vni: 1,
                subnet: "10.0.0.0/33".into(),
            }),
            "Network.subnet: \"10.0.0.0/33\" is no IPv4 subnet such as 10.0.0.0/20".into(),
        ),
        (
            Op::CreateService(proto::Service {
                id: id(),
                meta: Some(proto::Meta::default()),
                spec: Some((&ServiceSpec::default()).into()),
                template_revision: 1,
                vips: vec![
                    proto::TaskAddress {
                        network: id(),
                        addr: 1
                    };
                    2
                ],
            }),
            "Service.vips: network 0000000000000000000000007 is there twice".into(),
        ),
    ];
    for (wire, want) in cases {
        assert_eq!(op(wire), want);
    }
}

#[test]
fn a_constraint_that_nobody_could_write_is_refused() {
    let wire = |key: &str, value: &str| proto::Constraint {
        key: key.into(),
        equal: true,
        value: value.into(),
    };
    for (key, value) in [
        ("node.disk", "ssd"),
        ("node.labels.", "ssd"),
        ("node.labels.a==b", "c"),
        ("node.role", "boss"),
        ("node.id", " x"),
    ] {
        let error = Constraint::try_from(wire(key, value))
            .expect_err("has to be refused")
            .to_string();
        assert!(error.starts_with("Constraint.key: constraint"), "{error}");
    }
    assert!(Constraint::try_from(wire("node.labels.disk", "ssd")).is_ok());
}

#[test]
fn no_message_shows_a_content() {
    let data = proto::BlobData {
        value: "hunter2".into(),
    };
    let spec = proto::BlobSpec {
        data: Some(data),
        ..Default::default()
    };
    let shown = format!("{spec:?}");
    assert!(shown.contains("7 bytes"), "{shown}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("104, 117"),
        "{shown}"
    );
}

#[test]
fn a_subnet_prefix_above_32_is_refused() {
    let mut wire = proto::ClusterSpec::from(&ClusterSpec::default());
    for prefix in [33, 256 + 20] {
        wire.subnet_prefix = prefix;
        let error = ClusterSpec::try_from(wire.clone()).expect_err("has to be refused");
        assert_eq!(
            error.to_string(),
            format!("ClusterSpec.subnet_prefix: {prefix} is more than 32")
        );
    }
}

#[test]
fn an_enum_number_is_read_or_refused_by_name() {
    assert_eq!(
        enumeration::<proto::TaskState>(8),
        Ok(proto::TaskState::Running)
    );
    let error = enumeration::<proto::TaskState>(99).expect_err("has to be refused");
    assert_eq!(
        error.to_string(),
        "TaskState: unknown value 99; the sender's version may know more"
    );
}

#[test]
fn every_task_state_survives() {
    for state in TaskState::ALL {
        assert_eq!(
            TaskState::try_from(proto::TaskState::from(state)),
            Ok(state)
        );
    }
}
