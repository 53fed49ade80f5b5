//! Entries between managers, many requests on one call.

mod common;

use api::model::ClusterSpec;
use api::proto::append_entries_reply::Result as Answer;
use api::proto::raft_client::RaftClient;
use api::proto::*;
use common::{Boss, eventually, refused};
use futures_util::FutureExt;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

const LIMIT: Duration = Duration::from_secs(10);

/// A call from one manager to another, and where its requests come from.
async fn call(
    from: &Boss,
    to: &Boss,
) -> (
    mpsc::Sender<AppendEntriesRequest>,
    Streaming<AppendEntriesReply>,
) {
    let (requests, outgoing) = mpsc::channel(8);
    let mut raft = RaftClient::new(from.dialer.node(&to.addr, to.id));
    let replies = raft.stream_append(ReceiverStream::new(outgoing)).await;
    (requests, replies.expect("a manager may").into_inner())
}

/// Of a leader that was.
fn outdated() -> AppendEntriesRequest {
    let leader = Some(LeaderId { term: 0, node: 1 });
    AppendEntriesRequest {
        vote: Some(RaftVote {
            leader,
            committed: true,
        }),
        ..AppendEntriesRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_request_has_its_answer_and_what_cant_be_read_ends_the_call() {
    let (mut first, founding) = Boss::found(ClusterSpec::default()).await;
    let mut second = Boss::join(&founding.tokens.manager, &first.addr, "node2").await;
    let (requests, mut replies) = call(&second, &first).await;
    requests.send(outdated()).await.unwrap();
    let reply = timeout(LIMIT, replies.message()).await.unwrap().unwrap();
    let answer = reply.and_then(|reply| reply.result);
    assert!(matches!(answer, Some(Answer::HigherVote(_))), "{answer:?}");
    let (requests, mut replies) = call(&second, &first).await;
    requests
        .send(AppendEntriesRequest::default())
        .await
        .unwrap();
    let (code, text) = refused(timeout(LIMIT, replies.message()).await.unwrap());
    assert_eq!(code, Code::InvalidArgument, "{text}");
    second.kill().await;
    first.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_comes_to_lead_takes_no_entries_any_more_and_one_that_stops_neither() {
    let (mut first, founding) = Boss::found(ClusterSpec::default()).await;
    let mut others = vec![
        Boss::join(&founding.tokens.manager, &first.addr, "node2").await,
        Boss::join(&founding.tokens.manager, &first.addr, "node3").await,
    ];
    let mut calls = vec![
        call(&others[1], &others[0]).await,
        call(&others[0], &others[1]).await,
    ];
    first.kill().await;
    let leader = eventually("another leads", async || {
        others.iter().position(Boss::leads)
    })
    .await;
    let (_requests, mut replies) = calls.swap_remove(leader);
    let ended = timeout(LIMIT, replies.message()).await.unwrap();
    assert!(matches!(ended, Ok(None)), "{ended:?}");
    let (_requests, mut replies) = calls.pop().unwrap();
    let open = replies.message().now_or_never();
    assert!(open.is_none(), "the other follows: {open:?}");
    for other in &mut others {
        other.kill().await;
    }
}
