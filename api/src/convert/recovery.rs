//! What a cluster remembers of having been brought back.

use super::{ConvertError, id_bytes, ids};
use crate::model::{NodeId, Recovery};
use crate::proto;

impl From<&Recovery> for proto::Recovery {
    fn from(recovery: &Recovery) -> Self {
        Self {
            fenced: recovery.fenced.iter().map(|id| id_bytes(id.0)).collect(),
        }
    }
}

impl TryFrom<proto::Recovery> for Recovery {
    type Error = ConvertError;

    fn try_from(recovery: proto::Recovery) -> Result<Self, ConvertError> {
        let id = |bytes: &bytes::Bytes| ids::read("Recovery", "fenced", bytes).map(NodeId);
        Ok(Self {
            fenced: recovery.fenced.iter().map(id).collect::<Result<_, _>>()?,
        })
    }
}
