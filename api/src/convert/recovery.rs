//! What a cluster remembers of having been brought back, and its backups.

use super::{ConvertError, id_bytes, ids};
use crate::model::{BackupFailure, BackupNote, BackupSchedule, NodeId, Recovery, Timestamp};
use crate::proto;

impl From<&Recovery> for proto::Recovery {
    fn from(recovery: &Recovery) -> Self {
        Self {
            fenced: recovery.fenced.iter().map(|id| id_bytes(id.0)).collect(),
            schedule: recovery.schedule.as_ref().map(Into::into),
            made: recovery.made.iter().map(Into::into).collect(),
            failure: recovery.failure.as_ref().map(Into::into),
            by_hand: recovery.by_hand.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::Recovery> for Recovery {
    type Error = ConvertError;

    fn try_from(recovery: proto::Recovery) -> Result<Self, ConvertError> {
        let id = |bytes: &bytes::Bytes| ids::read("Recovery", "fenced", bytes).map(NodeId);
        let made = recovery.made.into_iter().map(TryInto::try_into);
        Ok(Self {
            fenced: recovery.fenced.iter().map(id).collect::<Result<_, _>>()?,
            schedule: recovery.schedule.map(Into::into),
            made: made.collect::<Result<_, _>>()?,
            failure: recovery.failure.map(TryInto::try_into).transpose()?,
            by_hand: recovery.by_hand.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&BackupSchedule> for proto::BackupSchedule {
    fn from(schedule: &BackupSchedule) -> Self {
        Self {
            every_ms: schedule.every_ms,
            keep: schedule.keep,
            dir: schedule.dir.clone(),
            salt: schedule.salt.clone().into(),
            memory_kib: schedule.memory_kib,
            passes: schedule.passes,
            lanes: schedule.lanes,
            key: schedule.key.clone().into(),
        }
    }
}

impl From<proto::BackupSchedule> for BackupSchedule {
    fn from(schedule: proto::BackupSchedule) -> Self {
        Self {
            every_ms: schedule.every_ms,
            keep: schedule.keep,
            dir: schedule.dir,
            salt: schedule.salt.to_vec(),
            memory_kib: schedule.memory_kib,
            passes: schedule.passes,
            lanes: schedule.lanes,
            key: schedule.key.to_vec(),
        }
    }
}

impl From<&BackupNote> for proto::BackupNote {
    fn from(note: &BackupNote) -> Self {
        Self {
            at: note.at.0,
            node: id_bytes(note.node.0),
            path: note.path.clone(),
            bytes: note.bytes,
            revision: note.revision,
        }
    }
}

impl TryFrom<proto::BackupNote> for BackupNote {
    type Error = ConvertError;

    fn try_from(note: proto::BackupNote) -> Result<Self, ConvertError> {
        Ok(Self {
            at: Timestamp(note.at),
            node: NodeId(ids::read("BackupNote", "node", &note.node)?),
            path: note.path,
            bytes: note.bytes,
            revision: note.revision,
        })
    }
}

impl From<&BackupFailure> for proto::BackupFailure {
    fn from(failure: &BackupFailure) -> Self {
        Self {
            at: failure.at.0,
            node: id_bytes(failure.node.0),
            why: failure.why.clone(),
        }
    }
}

impl TryFrom<proto::BackupFailure> for BackupFailure {
    type Error = ConvertError;

    fn try_from(failure: proto::BackupFailure) -> Result<Self, ConvertError> {
        Ok(Self {
            at: Timestamp(failure.at),
            node: NodeId(ids::read("BackupFailure", "node", &failure.node)?),
            why: failure.why,
        })
    }
}
