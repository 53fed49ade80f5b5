//! What managers ask of a node: the log of a task, a process in its container.

use crate::supervisor::Tools;
use api::convert;
use api::proto::agent_server;
use api::proto::exec_input::Input;
use api::proto::exec_output::Output;
use api::proto::{AgentLogsRequest, ExecInput, ExecOutput, ExecStart, LogRecord};
use futures_util::StreamExt;
use runtime::logs::{LogQuery, Stream};
use runtime::{ExecSession, ExecSpec};
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages on their way to the reader.
const QUEUE: usize = 64;
/// Bytes of output in one message.
const CHUNK: usize = 32 * 1024;

type Reply<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone)]
pub struct AgentService {
    tools: Arc<Tools>,
    hostname: String,
}

impl AgentService {
    pub(crate) fn new(tools: Arc<Tools>, hostname: String) -> Self {
        Self { tools, hostname }
    }
}

#[tonic::async_trait]
impl agent_server::Agent for AgentService {
    type LogsStream = Reply<LogRecord>;
    type ExecStream = Reply<ExecOutput>;

    async fn logs(
        &self,
        request: Request<AgentLogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let task =
            convert::task_id(&request.task).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let query = LogQuery {
            tail: request.tail,
            since: request
                .since
                .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()),
            until: request
                .until
                .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()),
            follow: request.follow,
        };
        let lines = self
            .tools
            .runtime
            .logs(&task.to_string(), self.tools.places(task).log(), query)
            .await
            .map_err(|e| Status::internal(e.to_string()))?;
        let (name, node) = (request.name, self.hostname.clone());
        let records = ReceiverStream::new(lines.into_receiver()).map(move |line| {
            let line = line.map_err(|e| Status::internal(e.to_string()))?;
            Ok(LogRecord {
                task: name.clone(),
                node: node.clone(),
                at_ns: i64::try_from(line.at.as_nanosecond()).unwrap_or(i64::MAX),
                stderr: line.stream == Stream::Stderr,
                line: line.bytes.into(),
                partial: line.partial,
                notice: String::new(),
            })
        });
        Ok(Response::new(Box::pin(records)))
    }

    async fn exec(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut input = request.into_inner();
        let start = match input.message().await? {
            Some(ExecInput {
                input: Some(Input::Start(start)),
            }) => start,
            _ => {
                return Err(Status::invalid_argument(
                    "exec: the first message has to say what to run",
                ));
            }
        };
        let task = convert_target(&start)?;
        let spec = self.spec(task, start).await?;
        let session = self.tools.runtime.exec(&task.to_string(), spec).await;
        let (tx, rx) = mpsc::channel(QUEUE);
        match session {
            Ok(session) => drop(tokio::spawn(attend(session, input, tx))),
            // Shells say the same of a command they can't run.
            Err(runtime::Error::Start { code, message, .. }) => {
                let told = format!("{message}\n");
                for output in [
                    Output::Stderr(told.into_bytes().into()),
                    Output::ExitCode(code),
                ] {
                    let _ = tx
                        .send(Ok(ExecOutput {
                            output: Some(output),
                        }))
                        .await;
                }
            }
            // The managers hear of it in a moment.
            Err(runtime::Error::NotFound(_) | runtime::Error::NotRunning(_)) => {
                return Err(Status::failed_precondition("its container has just ended"));
            }
            Err(error) => return Err(Status::failed_precondition(error.to_string())),
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }
}

/// The manager has turned the user's words into a task's id.
fn convert_target(start: &ExecStart) -> Result<api::model::TaskId, Status> {
    start
        .target
        .parse()
        .map_err(|e: api::model::IdError| Status::invalid_argument(e.to_string()))
}

impl AgentService {
    async fn spec(&self, task: api::model::TaskId, start: ExecStart) -> Result<ExecSpec, Status> {
        let user = match start.user.as_str() {
            "" => None,
            name => {
                let (rootfs, name) = (
                    self.tools.places(task).root().join("rootfs"),
                    name.to_owned(),
                );
                let found =
                    tokio::task::spawn_blocking(move || images::resolve_user(&rootfs, &name))
                        .await
                        .map_err(|e| Status::internal(e.to_string()))?
                        .map_err(|e| Status::invalid_argument(e.full()))?;
                Some(runtime::User {
                    uid: found.uid,
                    gid: found.gid,
                    additional_gids: found.additional_gids,
                })
            }
        };
        let cwd = Some(start.working_dir)
            .filter(|dir| !dir.is_empty())
            .map(Into::into);
        Ok(ExecSpec {
            args: start.args,
            env: start.env,
            cwd,
            user,
        })
    }
}

/// Passes input and output until the process has ended or the caller is gone; then it is killed.
async fn attend(
    mut session: ExecSession,
    mut input: Streaming<ExecInput>,
    tx: mpsc::Sender<Result<ExecOutput, Status>>,
) {
    let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
    let mut stdin = session.stdin.take();
    let signaller = session.signaller();
    let served = async {
        let out = pass(stdout, &tx, Output::Stdout);
        let err = pass(stderr, &tx, Output::Stderr);
        // Together: what has closed its output may read its input on.
        tokio::join!(out, err, session.wait()).2
    };
    let feed = async {
        loop {
            match input.message().await {
                Ok(Some(ExecInput {
                    input: Some(Input::Stdin(data)),
                })) => {
                    let written = match &mut stdin {
                        Some(pipe) => pipe.write_all(&data).await,
                        None => Ok(()),
                    };
                    if written.is_err() {
                        // The process reads no more; it may still write.
                        stdin = None;
                    }
                }
                Ok(Some(ExecInput {
                    input: Some(Input::StdinEnd(_)),
                })) => stdin = None,
                Ok(Some(ExecInput {
                    input: Some(Input::Signal(number)),
                })) => {
                    if let Err(error) = signaller.signal(number) {
                        tracing::debug!(%error, "exec: a signal could not be passed on");
                    }
                }
                Ok(Some(_)) => {}
                // The caller ended its side; a process that still runs is waited for.
                Ok(None) => {
                    stdin = None;
                    std::future::pending::<()>().await;
                }
                // The caller is gone.
                Err(_) => return,
            }
        }
    };
    let ended = tokio::select! {
        ended = served => Some(ended),
        () = feed => None,
        () = tx.closed() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            session.kill();
            session.wait().await
        }
    };
    let last = match ended {
        Ok(code) => Ok(ExecOutput {
            output: Some(Output::ExitCode(code)),
        }),
        Err(error) => Err(Status::internal(error.to_string())),
    };
    // A caller that is gone has no use for the code.
    let _ = tx.send(last).await;
}

async fn pass<R: AsyncRead + Unpin>(
    pipe: Option<R>,
    tx: &mpsc::Sender<Result<ExecOutput, Status>>,
    wrap: fn(bytes::Bytes) -> Output,
) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(count) = pipe.read(&mut buffer).await {
        let data = buffer.get(..count).unwrap_or_default();
        if data.is_empty() {
            return;
        }
        let output = wrap(bytes::Bytes::copy_from_slice(data));
        if tx
            .send(Ok(ExecOutput {
                output: Some(output),
            }))
            .await
            .is_err()
        {
            return;
        }
    }
}
