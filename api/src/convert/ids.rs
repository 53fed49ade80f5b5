//! Ids on the wire: 16 bytes, big-endian.

use super::{ConvertError, Problem};
use crate::model::{BlobId, ClusterId, NetworkId, NodeId, ServiceId, TaskId};
use bytes::Bytes;

/// An id as it goes over the wire.
#[must_use]
pub fn id_bytes(id: u128) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// The id in `message.field`.
pub(super) fn read(
    message: &'static str,
    field: &'static str,
    bytes: &[u8],
) -> Result<u128, ConvertError> {
    let array = bytes
        .try_into()
        .map_err(|_| ConvertError::new(message, field, Problem::Id(bytes.len())))?;
    Ok(u128::from_be_bytes(array))
}

macro_rules! reader {
    ($($(#[$doc:meta])* $function:ident => $id:ident),+ $(,)?) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// When it is not 16 bytes long.
        pub fn $function(bytes: &Bytes) -> Result<$id, ConvertError> {
            read(stringify!($id), "", bytes).map($id)
        }
    )+};
}

reader! {
    /// A cluster's id from the wire.
    cluster_id => ClusterId,
    /// A node's id from the wire.
    node_id => NodeId,
    /// A service's id from the wire.
    service_id => ServiceId,
    /// A task's id from the wire.
    task_id => TaskId,
    /// A network's id from the wire.
    network_id => NetworkId,
    /// A secret's or a config's id from the wire.
    blob_id => BlobId,
}
