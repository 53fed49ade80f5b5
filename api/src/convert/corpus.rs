//! Writes what `manager/tests/fuzz.rs` begins with: any transaction, tables and messages, the same at each run.

use super::generators;
use crate::proto;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use prost::Message;
use std::fs;
use std::path::Path;

fn put(target: &str, n: usize, message: &impl Message) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus"));
    let folder = folder.join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{n:02}")), message.encode_to_vec()).unwrap();
}

#[test]
#[ignore = "writes tests/fuzz/corpus"]
fn write_the_corpus() {
    let mut runner = TestRunner::deterministic();
    for n in 0..12 {
        let transaction = generators::transaction().new_tree(&mut runner).unwrap();
        put(
            "transaction",
            n,
            &proto::Transaction::from(&transaction.current()),
        );
        let stack = generators::stack_spec().new_tree(&mut runner).unwrap();
        put("control", n, &proto::StackSpec::from(&stack.current()));
        let task = generators::task().new_tree(&mut runner).unwrap().current();
        let told = proto::Assignments {
            full: n % 2 == 0,
            revision: 7,
            tasks: vec![proto::AssignedTask {
                task: Some((&task).into()),
                ..Default::default()
            }],
            tasks_removed: vec![super::id_bytes(5)],
            managers: vec!["10.0.0.1:2377".into()],
            ..Default::default()
        };
        let message = Some(proto::manager_message::Message::Assignments(told));
        put("assignments", n, &proto::ManagerMessage { message });
        let batch = proto::StatusBatch {
            sequence: 3,
            statuses: vec![proto::SetTaskStatus {
                id: super::id_bytes(5),
                status: Some((&task.status).into()),
            }],
        };
        let message = Some(proto::agent_message::Message::Statuses(batch));
        put("statuses", n, &proto::AgentMessage { message });
    }
    for n in 0..4 {
        let tables = generators::tables().new_tree(&mut runner).unwrap();
        put("tables", n, &proto::StateSnapshot::from(&tables.current()));
    }
}
