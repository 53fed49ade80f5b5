//! Logs and exec across nodes, with scripted agents at their ends.

mod common;

use api::convert;
use api::model::{ClusterSpec, ServiceMode};
use api::proto::agent_message::Message as FromAgent;
use api::proto::agent_server::{self, AgentServer};
use api::proto::manager_message::Message as ToAgent;
use api::proto::*;
use common::{Boss, Hand, description, refused};
use std::collections::BTreeMap;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

/// An agent whose tasks have logged their lines at these times, and whose processes echo.
#[derive(Clone)]
struct Scripted {
    hostname: String,
    lines: Vec<i64>,
}

type Reply<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl agent_server::Agent for Scripted {
    type LogsStream = Reply<LogRecord>;
    type ExecStream = Reply<ExecOutput>;

    async fn logs(
        &self,
        request: Request<AgentLogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let record = |at: &i64| {
            Ok(LogRecord {
                task: request.name.clone(),
                node: self.hostname.clone(),
                at_ns: *at,
                line: format!("line {at}").into(),
                ..LogRecord::default()
            })
        };
        let records: Vec<_> = self.lines.iter().map(record).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(records))))
    }

    async fn exec(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut input = request.into_inner();
        let first = input.message().await?.and_then(|input| input.input);
        let Some(exec_input::Input::Start(start)) = first else {
            panic!("no start")
        };
        start
            .target
            .parse::<api::model::TaskId>()
            .expect("the manager names the task by id");
        let (tx, rx) = mpsc::channel(4);
        tokio::spawn(async move {
            let say = |output| {
                Ok(ExecOutput {
                    output: Some(output),
                })
            };
            let _ = tx
                .send(say(exec_output::Output::Stderr(
                    start.args.join(" ").into(),
                )))
                .await;
            while let Ok(Some(message)) = input.message().await {
                match message.input {
                    Some(exec_input::Input::Stdin(data)) => {
                        let _ = tx.send(say(exec_output::Output::Stdout(data))).await;
                    }
                    _ => break,
                }
            }
            let _ = tx.send(say(exec_output::Output::ExitCode(42))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }
}

/// A worker whose session reports everything it is given as running. It ends with the returned handle.
async fn run_all(hand: &Hand, boss: &Boss) -> tokio::task::JoinHandle<()> {
    let (tx, rx) = mpsc::channel(16);
    let hello = Hello {
        description: Some(NodeDescription::from(&description(&hand.hostname))),
        addr: std::net::Ipv4Addr::LOCALHOST.into(),
        port: hand.port.into(),
        ..Hello::default()
    };
    tx.send(AgentMessage {
        message: Some(FromAgent::Hello(hello)),
    })
    .await
    .unwrap();
    let mut told = hand
        .dispatch(boss)
        .session(ReceiverStream::new(rx))
        .await
        .unwrap()
        .into_inner();
    tokio::spawn(async move {
        let mut sequence = 0;
        while let Ok(Some(message)) = told.message().await {
            let Some(ToAgent::Assignments(told)) = message.message else {
                continue;
            };
            let status = api::model::TaskStatus {
                state: api::model::TaskState::Running,
                ..Default::default()
            };
            let set = |assigned: AssignedTask| {
                Some(SetTaskStatus {
                    id: assigned.task?.id,
                    status: Some(TaskStatus::from(&status)),
                })
            };
            sequence += 1;
            let statuses: Vec<_> = told.tasks.into_iter().filter_map(set).collect();
            let batch = FromAgent::Statuses(StatusBatch { sequence, statuses });
            if tx
                .send(AgentMessage {
                    message: Some(batch),
                })
                .await
                .is_err()
            {
                return;
            }
        }
    })
}

async fn deploy(boss: &Boss, replicas: u32) {
    let mut spec = api::model::ServiceSpec {
        name: "shop_web".into(),
        stack: Some("shop".into()),
        mode: ServiceMode::Replicated { replicas },
        ..Default::default()
    };
    spec.template.container.image = "busybox".into();
    let service = api::model::StackService {
        spec,
        networks: BTreeMap::new(),
        ..Default::default()
    };
    let stack = api::model::StackSpec {
        name: "shop".into(),
        services: BTreeMap::from([("shop_web".to_owned(), service)]),
        ..Default::default()
    };
    boss.control()
        .deploy_stack(DeployStackRequest {
            spec: Some(StackSpec::from(&stack)),
        })
        .await
        .unwrap();
    common::eventually("all run", async || {
        let status = boss
            .control()
            .get_status(GetStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        (status.tasks_running == replicas).then_some(())
    })
    .await;
}

fn agent(hostname: &str, lines: &[i64]) -> Routes {
    Routes::new(AgentServer::new(Scripted {
        hostname: hostname.into(),
        lines: lines.to_vec(),
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_logs_of_all_nodes_come_in_order_and_a_dead_node_is_told() {
    let (mut boss, founding) = Boss::found(ClusterSpec {
        dead_after_ms: 60_000,
        ..ClusterSpec::default()
    })
    .await;
    let token = &founding.tokens.worker;
    let one = Hand::join(
        token,
        &boss.addr,
        "node2",
        Some(agent("node2", &[10, 30, 50])),
    )
    .await;
    let two = Hand::join(token, &boss.addr, "node3", Some(agent("node3", &[20, 40]))).await;
    // Nobody listens there.
    let dead = Hand::join(token, &boss.addr, "node4", None).await;
    let mut sessions = Vec::new();
    for hand in [&one, &two, &dead] {
        sessions.push(run_all(hand, &boss).await);
    }
    deploy(&boss, 3).await;
    let request = LogsRequest {
        target: "shop_web".into(),
        ..LogsRequest::default()
    };
    let mut stream = boss.control().logs(request).await.unwrap().into_inner();
    let (mut times, mut notices) = (Vec::new(), Vec::new());
    while let Some(record) = stream.message().await.unwrap() {
        if record.notice.is_empty() {
            times.push(record.at_ns);
        } else {
            notices.push(record.notice);
        }
    }
    assert_eq!(times, [10, 20, 30, 40, 50]);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].contains("on node node4 is missing here: 127.0.0.1:"),
        "{notices:?}"
    );
    assert!(notices[0].contains("can't be reached"), "{notices:?}");

    let request = LogsRequest {
        target: "shop_wev".into(),
        ..LogsRequest::default()
    };
    let (code, text) = refused(boss.control().logs(request).await.map(drop));
    assert_eq!(
        (code, text.as_str()),
        (
            Code::NotFound,
            "no service or task \"shop_wev\"; did you mean \"shop_web\"?"
        )
    );
    sessions.iter().for_each(tokio::task::JoinHandle::abort);
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_down_is_called_that_in_the_log() {
    let (mut boss, founding) = Boss::found(ClusterSpec::default()).await;
    let dead = Hand::join(&founding.tokens.worker, &boss.addr, "node2", None).await;
    let session = run_all(&dead, &boss).await;
    deploy(&boss, 1).await;
    session.abort();
    common::eventually("it is down", async || {
        let status = boss
            .control()
            .get_status(GetStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        let short = status.services_short.first()?;
        assert_eq!((short.name.as_str(), short.running), ("shop_web", 0));
        (status.nodes_ready == 0).then_some(())
    })
    .await;
    let request = LogsRequest {
        target: "shop_web".into(),
        ..LogsRequest::default()
    };
    let mut stream = boss.control().logs(request).await.unwrap().into_inner();
    let told = stream.message().await.unwrap().unwrap().notice;
    assert!(told.contains("missing here: the node is down"), "{told}");
    assert!(stream.message().await.unwrap().is_none());
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_runs_where_its_task_does_and_its_input_output_and_code_pass() {
    let spec = ClusterSpec {
        dead_after_ms: 60_000,
        ..ClusterSpec::default()
    };
    let (mut boss, founding) = Boss::found(spec).await;
    let follower = Boss::join(&founding.tokens.manager, &boss.addr, "node5").await;
    let hand = Hand::join(
        &founding.tokens.worker,
        &boss.addr,
        "node2",
        Some(agent("node2", &[])),
    )
    .await;
    let session = run_all(&hand, &boss).await;
    deploy(&boss, 1).await;
    // From a manager that does not lead, and from a worker: the calls pass over up to three nodes.
    for mut control in [boss.control(), follower.control(), hand.control(&follower)] {
        let (tx, rx) = mpsc::channel(1);
        let start = ExecStart {
            target: "shop_web".into(),
            args: vec!["cat".into()],
            ..ExecStart::default()
        };
        tx.send(ExecInput {
            input: Some(exec_input::Input::Start(start)),
        })
        .await
        .unwrap();
        let mut output = control
            .exec(ReceiverStream::new(rx))
            .await
            .unwrap()
            .into_inner();
        let mut next = async || output.message().await.unwrap().unwrap().output.unwrap();
        assert_eq!(next().await, exec_output::Output::Stderr("cat".into()));
        for text in ["one", "two"] {
            let data = exec_input::Input::Stdin(text.into());
            tx.send(ExecInput { input: Some(data) }).await.unwrap();
            assert_eq!(next().await, exec_output::Output::Stdout(text.into()));
        }
        tx.send(ExecInput {
            input: Some(exec_input::Input::StdinEnd(true)),
        })
        .await
        .unwrap();
        assert_eq!(next().await, exec_output::Output::ExitCode(42));
    }
    let start = |target: &str, args: Vec<String>| {
        let start = ExecStart {
            target: target.into(),
            args,
            ..ExecStart::default()
        };
        tokio_stream::iter([ExecInput {
            input: Some(exec_input::Input::Start(start)),
        }])
    };
    let (_, text) = refused(
        boss.control()
            .exec(start("shop_web", vec![]))
            .await
            .map(drop),
    );
    assert_eq!(text, "exec: there is no command; say what to run");
    let (code, _) = refused(
        boss.control()
            .exec(start("nothing", vec!["x".into()]))
            .await
            .map(drop),
    );
    assert_eq!(code, Code::NotFound);
    // Only managers reach a node's agent.
    let mut other = agent_client::AgentClient::new(
        hand.dialer
            .node(&format!("127.0.0.1:{}", hand.port), hand.id),
    );
    let request = AgentLogsRequest {
        task: convert::id_bytes(1),
        ..AgentLogsRequest::default()
    };
    assert_eq!(
        refused(other.logs(request).await.map(drop)).0,
        Code::PermissionDenied
    );
    session.abort();
    let mut follower = follower;
    follower.kill().await;
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_followed_log_takes_in_new_tasks_and_ends_with_its_service() {
    let spec = ClusterSpec {
        dead_after_ms: 60_000,
        ..ClusterSpec::default()
    };
    let (mut boss, founding) = Boss::found(spec).await;
    let hand = Hand::join(
        &founding.tokens.worker,
        &boss.addr,
        "node2",
        Some(agent("node2", &[10])),
    )
    .await;
    let session = run_all(&hand, &boss).await;
    deploy(&boss, 1).await;
    let request = LogsRequest {
        target: "shop_web".into(),
        follow: true,
        ..LogsRequest::default()
    };
    let mut stream = boss.control().logs(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().task, "shop_web.1");
    deploy(&boss, 2).await;
    assert_eq!(stream.message().await.unwrap().unwrap().task, "shop_web.2");
    // Its tasks go with their node, so nothing of the service is left.
    boss.control()
        .remove_stack(RemoveStackRequest {
            stack: "shop".into(),
        })
        .await
        .unwrap();
    session.abort();
    boss.control()
        .remove_node(RemoveNodeRequest {
            node: "node2".into(),
            force: true,
        })
        .await
        .unwrap();
    assert!(stream.message().await.unwrap().is_none());
    boss.kill().await;
}
