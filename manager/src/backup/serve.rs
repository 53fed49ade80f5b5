//! The call behind `clusterctl backup FILE`.

use super::Maker;
use super::key::PASSPHRASE_MIN;
use crate::control::{Control, Refusal, Reply, propose_status};
use api::proto::backup_output::Output;
use api::proto::{BackupDone, BackupOutput, BackupRequest};
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

/// Refuses one that is soon guessed.
pub fn check_passphrase(passphrase: &str) -> Result<(), Refusal> {
    match passphrase.chars().count() < PASSPHRASE_MIN {
        false => Ok(()),
        true => Err(Refusal::invalid(format!(
            "the passphrase is too short: at least {PASSPHRASE_MIN} characters, since whoever opens the file has the cluster"
        ))),
    }
}

pub async fn backup(
    control: &Control,
    request: BackupRequest,
) -> Result<Reply<BackupOutput>, Status> {
    let passphrase = Zeroizing::new(request.passphrase);
    check_passphrase(&passphrase)?;
    let maker = Maker::read(&control.handle, control.me).await;
    let maker = maker.map_err(|e| propose_status(e, false))?;
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
    let file = bytes::Bytes::from(file);
    send(
        to,
        Output::Progress("restoring it into a scratch store".into()),
    )
    .await;
    let opened = {
        let (file, passphrase) = (file.clone(), passphrase.clone());
        tokio::task::spawn_blocking(move || super::open(&file, &passphrase)).await
    };
    let opened = opened.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    let header = maker.verify(opened, &control.scratch).await;
    let header = header.map_err(|e| failed(&e))?;
    let sum = file
        .last_chunk::<{ api::backup::SUM }>()
        .map(|sum| sum.to_vec().into())
        .unwrap_or_default();
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
