//! Model to proto and back.
//!
//! `From<&model>` for the proto never fails. `TryFrom<proto>` for the model takes nothing on trust: an
//! absent message, an unknown enum number, an id of the wrong length, a port above 65535 or a subnet that
//! is none is a [`ConvertError`] naming the message and the field; never a panic, never a silent default.
//! Whatever the model holds survives the way there and back.

mod blob;
mod cluster;
mod enums;
mod error;
mod ids;
mod network;
mod node;
mod op;
mod recovery;
mod service;
mod snapshot;
mod stack;
mod task;
mod template;
mod transaction;

#[cfg(test)]
mod corpus;
#[cfg(test)]
pub(crate) mod generators;
#[cfg(test)]
mod tests;

pub use error::{ConvertError, Problem};
pub use ids::{blob_id, cluster_id, id_bytes, network_id, node_id, service_id, task_id};
pub use snapshot::{decode_tables, encode_tables};
pub use transaction::{decode_transaction, encode_transaction};

use crate::model::{Meta, Timestamp};
use crate::proto;
use ipnet::Ipv4Net;

/// A proto enum from its number on the wire.
///
/// # Errors
/// Names the enum and the number that this version doesn't know.
pub fn enumeration<P: TryFrom<i32>>(value: i32) -> Result<P, ConvertError> {
    let unknown = |_| ConvertError::of_enum(std::any::type_name::<P>(), value);
    P::try_from(value).map_err(unknown)
}

/// The model's enum in `message.field`, from its number on the wire.
fn enum_field<P, M>(
    message: &'static str,
    field: &'static str,
    value: i32,
) -> Result<M, ConvertError>
where
    P: TryFrom<i32>,
    M: TryFrom<P>,
{
    let unknown = || ConvertError::new(message, field, Problem::Enum(value));
    let wire = P::try_from(value).map_err(|_| unknown())?;
    M::try_from(wire).map_err(|_| unknown())
}

fn need<T>(
    message: &'static str,
    field: &'static str,
    value: Option<T>,
) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(message, field, Problem::Absent))
}

fn subnet(message: &'static str, field: &'static str, text: &str) -> Result<Ipv4Net, ConvertError> {
    text.parse().map_err(|_| {
        ConvertError::new(
            message,
            field,
            Problem::Subnet(text.chars().take(40).collect()),
        )
    })
}

/// A port where 0 means something.
fn any_port(message: &'static str, field: &'static str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value).map_err(|_| ConvertError::new(message, field, Problem::Port(value)))
}

fn port(message: &'static str, field: &'static str, value: u32) -> Result<u16, ConvertError> {
    match any_port(message, field, value)? {
        0 => Err(ConvertError::new(message, field, Problem::Port(value))),
        port => Ok(port),
    }
}

/// All of them, or the first error.
fn all<P, M: TryFrom<P, Error = ConvertError>>(values: Vec<P>) -> Result<Vec<M>, ConvertError> {
    values.into_iter().map(M::try_from).collect()
}

fn each<'a, M: 'a, P: From<&'a M>>(values: &'a [M]) -> Vec<P> {
    values.iter().map(P::from).collect()
}

impl From<&Meta> for proto::Meta {
    fn from(meta: &Meta) -> Self {
        Self {
            created_at: meta.created_at.0,
            updated_at: meta.updated_at.0,
            revision: meta.revision,
        }
    }
}

impl From<proto::Meta> for Meta {
    fn from(meta: proto::Meta) -> Self {
        Self {
            created_at: Timestamp(meta.created_at),
            updated_at: Timestamp(meta.updated_at),
            revision: meta.revision,
        }
    }
}
