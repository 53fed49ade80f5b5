//! The calls behind `clusterctl restore` and `clusterctl init --force-new-cluster`.

use super::refused;
use crate::node::Node;
use api::proto::restore_input::Input;
use api::proto::{RecoverDone, RecoverProgress, RestoreInput, RestoreStart};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Steps on their way to the caller.
const STEPS: usize = 16;
/// The largest backup taken, bytes: it is held in memory.
const FILE_MAX: usize = 2 << 30;

type Steps = ReceiverStream<Result<RecoverProgress, Status>>;

/// Goes on when the caller goes away: half a recovery helps nobody.
fn detached<F>(work: impl FnOnce(mpsc::Sender<Result<RecoverProgress, Status>>) -> F) -> Steps
where
    F: Future<Output = Result<RecoverDone, Status>> + Send + 'static,
{
    let (tx, rx) = mpsc::channel(STEPS);
    let working = work(tx.clone());
    tokio::spawn(async move {
        let last = working.await.map(|done| RecoverProgress {
            message: String::new(),
            done: Some(done),
        });
        // A caller that is gone doesn't care.
        let _ = tx.send(last).await;
    });
    ReceiverStream::new(rx)
}

pub fn force_new_cluster(node: Arc<Node>) -> Steps {
    detached(|steps| async move {
        node.force_new_cluster(&steps)
            .await
            .map_err(|error| refused(&error))
    })
}

pub async fn restore(node: Arc<Node>, mut input: Streaming<RestoreInput>) -> Result<Steps, Status> {
    let mut start: Option<RestoreStart> = None;
    let mut file = Vec::new();
    while let Some(message) = input.message().await? {
        match message.input {
            Some(Input::Start(first)) if start.is_none() && file.is_empty() => start = Some(first),
            Some(Input::Data(data)) if file.len() + data.len() <= FILE_MAX => {
                file.extend_from_slice(&data);
            }
            Some(Input::Data(_)) => {
                return Err(Status::resource_exhausted(format!(
                    "the backup is larger than {FILE_MAX} bytes"
                )));
            }
            _ => return Err(Status::invalid_argument("a restore begins with one start")),
        }
    }
    let start = start.ok_or_else(|| Status::invalid_argument("a restore without a start"))?;
    Ok(detached(|steps| async move {
        node.restore(start, file, &steps)
            .await
            .map_err(|error| refused(&error))
    }))
}
