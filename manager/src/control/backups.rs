//! What backups there are, and when the next is made.

use super::{Change, Control, Refusal};
use crate::backup::{check, check_passphrase, next, schedule_for};
use crate::clock::now;
use api::model::{BackupNote, NodeId};
use api::proto::{
    BackupPlan, BackupRow, Backups, ListBackupsRequest, NoteBackupReply, NoteBackupRequest,
    SetBackupScheduleRequest,
};
use api::state::{Op, State};
use tonic::Status;
use zeroize::Zeroizing;

/// Longest name of a file that is noted, bytes.
const PATH_MAX: usize = 4096;

/// As the state has it.
pub fn show(state: &State) -> Backups {
    let Some(cluster) = state.cluster() else {
        return Backups::default();
    };
    let recovery = &cluster.recovery;
    let hostname = |id: NodeId| {
        let node = state.nodes().get(&id);
        node.map(|node| node.description.hostname.clone())
            .unwrap_or_else(|| id.to_string())
    };
    let row = |note: &BackupNote, by_hand| BackupRow {
        note: Some(note.into()),
        hostname: hostname(note.node),
        by_hand,
    };
    let mut rows: Vec<BackupRow> = recovery.made.iter().map(|note| row(note, false)).collect();
    rows.extend(recovery.by_hand.iter().map(|note| row(note, true)));
    rows.sort_by_key(|row| std::cmp::Reverse(row.note.as_ref().map(|note| note.at)));
    let failure = recovery.failure.as_ref();
    Backups {
        plan: recovery.schedule.as_ref().map(|schedule| BackupPlan {
            every_ms: schedule.every_ms,
            keep: schedule.keep,
            dir: schedule.dir.clone(),
            next_at: next(recovery, now()).map_or(0, |at| at.0),
        }),
        rows,
        failure: failure.map(Into::into),
        failed_on: failure
            .map(|failure| hostname(failure.node))
            .unwrap_or_default(),
    }
}

pub async fn list(control: &Control, _: ListBackupsRequest) -> Result<Backups, Status> {
    control.read(show).await
}

pub async fn note(
    control: &Control,
    request: NoteBackupRequest,
) -> Result<NoteBackupReply, Status> {
    let note = request
        .note
        .ok_or_else(|| Status::invalid_argument("no backup to note"))?;
    let note = BackupNote::try_from(note).map_err(|e| Status::from(Refusal::from(e)))?;
    if note.path.len() > PATH_MAX {
        return Err(Status::invalid_argument(
            "the name of the backup is too long",
        ));
    }
    change(control, NoteBackupReply {}, |recovery| {
        recovery.by_hand = Some(note.clone())
    })
    .await
}

pub async fn set_schedule(
    control: &Control,
    request: SetBackupScheduleRequest,
) -> Result<Backups, Status> {
    let schedule = match request.plan {
        None => None,
        Some(plan) => {
            let passphrase = Zeroizing::new(request.passphrase);
            check_passphrase(&passphrase)?;
            let made = tokio::task::spawn_blocking(move || {
                schedule_for(&passphrase, plan.every_ms, plan.keep, plan.dir)
            });
            let made = made.await.map_err(|e| Status::internal(e.to_string()))?;
            let schedule = made.ok_or_else(|| Status::internal("no key can be made"))?;
            check(&schedule).map_err(|e| Status::from(Refusal::invalid(e)))?;
            Some(schedule)
        }
    };
    change(control, (), |recovery| {
        recovery.schedule.clone_from(&schedule);
        recovery.failure = None;
    })
    .await?;
    Ok(control.handle.read(show))
}

async fn change<T: Clone>(
    control: &Control,
    answer: T,
    mut what: impl FnMut(&mut api::model::Recovery),
) -> Result<T, Status> {
    control
        .change(|state, _| {
            let cluster = state
                .cluster()
                .ok_or_else(|| Refusal::not_found("there is no cluster yet"))?;
            let mut changed = (**cluster).clone();
            what(&mut changed.recovery);
            let ops = vec![Op::UpdateCluster {
                at_revision: cluster.meta.revision,
                cluster: Box::new(changed),
            }];
            Ok(Change {
                ops,
                answer: answer.clone(),
            })
        })
        .await
}
