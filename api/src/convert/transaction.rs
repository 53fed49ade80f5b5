//! One entry of the log, as bytes.

use super::{ConvertError, all, each};
use crate::model::Timestamp;
use crate::proto;
use crate::state::Transaction;
use bytes::Bytes;
use prost::Message;

impl From<&Transaction> for proto::Transaction {
    fn from(transaction: &Transaction) -> Self {
        Self {
            at: transaction.at.0,
            ops: each(&transaction.ops),
        }
    }
}

impl TryFrom<proto::Transaction> for Transaction {
    type Error = ConvertError;

    fn try_from(transaction: proto::Transaction) -> Result<Self, ConvertError> {
        Ok(Self {
            at: Timestamp(transaction.at),
            ops: all(transaction.ops)?,
        })
    }
}

/// A transaction as it is kept in the log.
#[must_use]
pub fn encode_transaction(transaction: &Transaction) -> Bytes {
    proto::Transaction::from(transaction).encode_to_vec().into()
}

/// A transaction from the log.
///
/// # Errors
/// The bytes are no transaction that this version knows.
pub fn decode_transaction(bytes: &[u8]) -> Result<Transaction, ConvertError> {
    // The ids inside then share this one copy.
    proto::Transaction::decode(Bytes::copy_from_slice(bytes))
        .map_err(|e| ConvertError::new("Transaction", "", e.into()))?
        .try_into()
}
