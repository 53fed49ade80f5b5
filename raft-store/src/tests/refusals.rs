//! What is refused, and how.

use super::*;
use crate::{OpenError, Proposal};
use api::model::{Protocol, PublishedPort, ServiceId, ServiceSpec};
use api::state::ErrorKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_told_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 1).await;
    let handle = &handles[0];
    let mut watcher = handle.watch();
    watcher.next().await;
    let gone = Transaction {
        at: Timestamp(1),
        ops: vec![Op::RemoveStack("none".into())],
    };
    match handle.propose(gone).await {
        Err(ProposeError::Refused(refused)) => {
            assert!(refused.to_string().contains("none"), "{refused}")
        }
        other => panic!("{other:?}"),
    }
    let revision = handle.read(State::revision);
    let huge = stack(&"x".repeat(9 << 20));
    match handle.propose(huge).await {
        Err(error @ ProposeError::TooLarge { bytes, limit }) => {
            assert!(
                bytes > limit && error.to_string().contains("make it in parts"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        handle.read(State::revision),
        revision,
        "it never reached the log"
    );
    let large = "y".repeat(7 << 20);
    handle.propose(stack(&large)).await.unwrap();
    assert!(handle.read(|state| has(state, &large)));
    let error = handle
        .transfer_leadership(NodeId(9))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("is no manager"), "{error}");
    handle.transfer_leadership(NodeId(1)).await.unwrap();
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_could_read_is_refused_before_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 1).await;
    let revision = handles[0].read(State::revision);
    let service = ServiceSpec {
        ports: vec![PublishedPort {
            protocol: Protocol::Tcp,
            published: 80,
            target: 0,
        }],
        ..Default::default()
    };
    let op = Op::UpdateService {
        id: ServiceId(1),
        spec: Box::new(service),
        vips: Default::default(),
        at_revision: 0,
    };
    match handles[0]
        .propose(Transaction {
            at: Timestamp(1),
            ops: vec![op],
        })
        .await
    {
        Err(ProposeError::Refused(refused)) => assert_eq!(refused.kind, ErrorKind::Invalid),
        other => panic!("{other:?}"),
    }
    assert_eq!(handles[0].read(State::revision), revision);
    close(handles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_stops_a_manager_rather_than_being_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handles = cluster(&net, dir.path(), 1).await;
    // As of a newer version.
    let strange = Proposal(vec![0xff, 0xff, 0xff].into());
    assert!(handles[0].raft().client_write(strange).await.is_err());
    let why = tokio::time::timeout(LONG, handles[0].failure())
        .await
        .unwrap();
    assert!(why.contains("upgrade this one"), "{why}");
    close(handles).await;
    match Handle::open(options(dir.path(), 1), net.links(1)).await {
        Err(error @ OpenError::Raft(_)) => {
            assert!(error.to_string().contains("upgrade this one"), "{error}")
        }
        // It was not known to be committed: it is applied when this manager leads again.
        Ok(handle) => {
            let why = tokio::time::timeout(LONG, handle.failure()).await.unwrap();
            assert!(why.contains("upgrade this one"), "{why}");
            handle.shutdown().await;
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let good = options(dir.path(), 1);
    let backwards = std::ops::Range {
        start: 600,
        end: 300,
    };
    let bad = [
        Options {
            snapshot_every: 0,
            ..good.clone()
        },
        Options {
            election_ms: backwards,
            ..good.clone()
        },
        Options {
            heartbeat_ms: 1_000,
            ..good
        },
    ];
    for options in bad {
        let refused = Handle::open(options, net.links(1)).await;
        assert!(
            matches!(refused, Err(OpenError::Settings(_))),
            "{refused:?}"
        );
    }
    assert!(!dir.path().join("1").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let handle = open(&net, dir.path(), 1).await;
    let error = Handle::open(options(dir.path(), 1), net.links(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("another clusterd"), "{error}");
    handle.shutdown().await;
}
