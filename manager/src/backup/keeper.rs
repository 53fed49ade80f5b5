//! Scheduled backups: made by the manager that leads, into a folder of its own. What was made, and what went
//! wrong, is noted in the state, so that the next leader goes on where this one ended.

use super::key::Key;
use super::{Maker, schedule, seal};
use crate::clock::now;
use api::model::{BackupFailure, BackupNote, BackupSchedule, Cluster, NodeId, Recovery, Timestamp};
use api::proto::BackupKdf;
use api::state::{Op, State, Transaction};
use raft_store::{Handle, ProposeError};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How often the schedule is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a note is made anew because the cluster's settings have moved on.
const ATTEMPTS: usize = 16;

/// What it works with.
#[derive(Clone)]
pub struct Keeper {
    /// The state.
    pub handle: Handle,
    /// This manager.
    pub me: NodeId,
    /// Where backups are restored to see that they are good.
    pub scratch: PathBuf,
    /// One backup at a time.
    pub backups: Arc<Mutex<()>>,
}

/// What is to be noted.
enum News {
    Made(BackupNote),
    Failed(String),
}

impl Keeper {
    /// Goes on until it is stopped; while this manager leads.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.keep() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn keep(&self) {
        loop {
            let due = self.handle.read(|state| {
                let cluster = state.cluster()?;
                let schedule = cluster.recovery.schedule.clone()?;
                (schedule::due_in(&cluster.recovery, now()) == Some(0)).then_some(schedule)
            });
            if let Some(schedule) = due {
                let news = match self.make(&schedule).await {
                    Ok(note) => News::Made(note),
                    Err(why) => {
                        tracing::error!(%why, "the scheduled backup was not made");
                        News::Failed(why)
                    }
                };
                self.note(news).await;
            }
            sleep(LOOK).await;
        }
    }

    async fn make(&self, schedule: &BackupSchedule) -> Result<BackupNote, String> {
        let _one_at_a_time = self.backups.lock().await;
        let maker = Maker::read(&self.handle, self.me).await;
        let maker = Arc::new(maker.map_err(|e| e.to_string())?);
        let mut key = Key::default();
        let given = schedule.key.get(..key.len());
        key.copy_from_slice(given.ok_or("its key is cut short; set the schedule again")?);
        let kdf = BackupKdf {
            salt: schedule.salt.clone().into(),
            memory_kib: schedule.memory_kib,
            passes: schedule.passes,
            lanes: schedule.lanes,
        };
        let (sealing, with) = (maker.clone(), key.clone());
        let sealed = tokio::task::spawn_blocking(move || sealing.seal_with(kdf, &with)).await;
        let file = sealed
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        let opened = seal::open_with(&file, &key).map_err(|e| e.to_string())?;
        let verified = maker.verify(opened, &self.scratch).await;
        let header = verified.map_err(|e| e.to_string())?;
        let cluster = maker.tables.cluster.as_ref();
        let cluster = cluster.map(|c| c.id.to_string()).unwrap_or_default();
        let name = schedule::file_name(&cluster, maker.at);
        let path = Path::new(&schedule.dir).join(name);
        let bytes = file.len() as u64;
        let target = path.clone();
        tokio::task::spawn_blocking(move || write(&target, &file))
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| format!("can't write {}: {e}", path.display()))?;
        tracing::info!(path = %path.display(), revision = header.revision, "backup made");
        Ok(BackupNote {
            at: maker.at,
            node: self.me,
            path: path.display().to_string(),
            bytes,
            revision: header.revision,
        })
    }

    /// Notes it in the state, and removes the files that are not kept any more.
    async fn note(&self, news: News) {
        for _ in 0..ATTEMPTS {
            let Some((change, gone)) = self.handle.read(|state| self.change(state, &news)) else {
                return;
            };
            match self.handle.propose(change).await {
                Ok(_) => {
                    remove(gone).await;
                    return;
                }
                // The settings have moved on.
                Err(ProposeError::Refused(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, "the backup could not be noted");
                    return;
                }
            }
        }
    }

    fn change(&self, state: &State, news: &News) -> Option<(Transaction, Vec<String>)> {
        let cluster = state.cluster()?;
        let mut changed: Cluster = (**cluster).clone();
        let mut gone = Vec::new();
        match news {
            News::Made(note) => {
                let is_node = |id| state.nodes().contains_key(&id);
                let (made, spare) = schedule::keep(&changed.recovery, note.clone(), is_node);
                (changed.recovery.made, changed.recovery.failure) = (made, None);
                gone = spare;
            }
            News::Failed(why) => changed.recovery.failure = Some(self.failure(why)),
        }
        let ops = vec![Op::UpdateCluster {
            at_revision: cluster.meta.revision,
            cluster: Box::new(changed),
        }];
        Some((Transaction { at: now(), ops }, gone))
    }

    fn failure(&self, why: &str) -> BackupFailure {
        BackupFailure {
            at: now(),
            node: self.me,
            why: why.to_owned(),
        }
    }
}

async fn remove(paths: Vec<String>) {
    for path in paths {
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path, %error, "an old backup can't be removed");
            }
            _ => tracing::info!(path, "an old backup was removed"),
        }
    }
}

/// Whole under its name or not there; read again before it is.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let half = path.with_extension("part");
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&half)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if std::fs::read(&half)? != bytes {
            return Err(io::Error::other("what was written is read otherwise"));
        }
        std::fs::rename(&half, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // A full disk wants its room back.
        let _ = std::fs::remove_file(&half);
    }
    written
}

/// A schedule for this passphrase. Blocks, for as long as a key takes.
pub fn schedule_for(
    passphrase: &Zeroizing<String>,
    every_ms: u64,
    keep: u32,
    dir: String,
) -> Option<BackupSchedule> {
    let kdf = super::key::fresh();
    let key = super::key::derive(passphrase, &kdf)?;
    Some(BackupSchedule {
        every_ms,
        keep,
        dir,
        salt: kdf.salt.to_vec(),
        memory_kib: kdf.memory_kib,
        passes: kdf.passes,
        lanes: kdf.lanes,
        key: key.to_vec(),
    })
}

/// When the next is due.
pub fn next(recovery: &Recovery, now: Timestamp) -> Option<Timestamp> {
    let wait = schedule::due_in(recovery, now)?;
    Some(Timestamp(now.0.saturating_add_unsigned(wait)))
}
