//! The call behind `clusterctl backup FILE`.

use super::Maker;
use super::key::PASSPHRASE_MIN;
use crate::clock::now;
use crate::control::{Control, Refusal, Reply, propose_status};
use api::proto::backup_output::Output;
use api::proto::{BackupDone, BackupOutput, BackupRequest};
use api::state::State;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use zeroize::Zeroizing;

/// Bytes of the file in one message.
const CHUNK: usize = 256 * 1024;
/// Messages on their way.
const IN_FLIGHT: usize = 8;

type Sender = mpsc::Sender<Result<BackupOutput, Status>>;

fn message(output: Output) -> BackupOutput {
    BackupOutput {
        output: Some(output),
    }
}

/// Sends; whether anybody still listens.
async fn send(to: &Sender, output: Output) -> bool {
    to.send(Ok(message(output))).await.is_ok()
}

pub async fn backup(
    control: &Control,
    request: BackupRequest,
) -> Result<Reply<BackupOutput>, Status> {
    let passphrase = Zeroizing::new(request.passphrase);
    if passphrase.chars().count() < PASSPHRASE_MIN {
        return Err(Refusal::invalid(format!(
            "the passphrase is too short: at least {PASSPHRASE_MIN} characters, since whoever opens the file has the cluster"
        ))
        .into());
    }
    let maker = maker(control).await?;
    let (tx, rx) = mpsc::channel(IN_FLIGHT);
    let control = control.clone();
    control.tasks.clone().spawn(async move {
        let made = tokio::select! {
            made = make(&control, maker, passphrase, &tx) => made,
            // Nobody waits for it any more, or this manager ends.
            () = tx.closed() => return,
            () = control.stop.cancelled() => Err(Status::unavailable("this manager stops; make the backup again")),
        };
        if let Err(status) = made {
            // A caller that is gone doesn't care.
            let _ = tx.send(Err(status)).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(rx)))
}

/// The state after every write that was acknowledged before.
async fn maker(control: &Control) -> Result<Maker, Status> {
    control
        .handle
        .linearizable()
        .await
        .map_err(|e| propose_status(e, false))?;
    let me = control.me;
    let (tables, made_by) = control.handle.read(|state: &State| {
        let host = state.nodes().get(&me);
        let host = host.map(|node| node.description.hostname.clone());
        (state.tables(), host.unwrap_or_default())
    });
    let managers = control.handle.managers();
    Ok(Maker {
        tables,
        term: control.handle.leadership().borrow().term,
        managers: managers.into_iter().map(|m| m.peer).collect(),
        at: now(),
        made_by,
    })
}

async fn make(
    control: &Control,
    maker: Maker,
    passphrase: Zeroizing<String>,
    to: &Sender,
) -> Result<(), Status> {
    let failed = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let _one_at_a_time = control.backups.lock().await;
    let (maker, passphrase) = (Arc::new(maker), Arc::new(passphrase));
    send(to, Output::Progress("encrypting".into())).await;
    let sealed = {
        let (maker, passphrase) = (maker.clone(), passphrase.clone());
        tokio::task::spawn_blocking(move || maker.seal(&passphrase)).await
    };
    let file = sealed.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    send(
        to,
        Output::Progress("restoring it into a scratch store".into()),
    )
    .await;
    let header = maker
        .verify(&file, &passphrase, &control.scratch)
        .await
        .map_err(|e| failed(&e))?;
    let sum = file
        .last_chunk::<{ api::backup::SUM }>()
        .map(|sum| sum.to_vec().into())
        .unwrap_or_default();
    let file = bytes::Bytes::from(file);
    let mut at = 0;
    while at < file.len() {
        let end = file.len().min(at + CHUNK);
        if !send(to, Output::Data(file.slice(at..end))).await {
            return Ok(());
        }
        at = end;
    }
    let done = BackupDone {
        sum,
        header: Some(header),
    };
    send(to, Output::Done(done)).await;
    Ok(())
}
