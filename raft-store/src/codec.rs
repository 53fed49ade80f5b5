//! Bytes on disk, each behind a format version.
//!
//! Entries are protobuf, as they are on the wire. Small records of this store alone are bincode.

use crate::types::Entry;
use crate::wire;
use api::proto;
use bincode::config::{Configuration, standard};
use bytes::Bytes;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use std::io;

/// The version that this build writes, and the newest it reads.
pub(crate) const FORMAT: u8 = 1;

const CONFIG: Configuration = standard();

/// Something on disk that can't be read. Says what it is.
fn damaged(what: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is damaged: {why}; restore this manager from a backup, or remove its state and join again"))
}

/// Takes the version off.
pub(crate) fn versioned<'a>(what: &str, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    match bytes.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((&newer, _)) if newer > FORMAT => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{what} has format {newer}, this clusterd reads up to {FORMAT}; upgrade clusterd"),
        )),
        Some((&other, _)) => Err(damaged(what, format!("format {other}"))),
        None => Err(damaged(what, "it is empty")),
    }
}

/// A small record.
pub(crate) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![FORMAT];
    bincode::serde::encode_into_std_write(value, &mut bytes, CONFIG).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Reads a small record.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> io::Result<T> {
    let body = versioned(what, bytes)?;
    match bincode::serde::decode_from_slice(body, CONFIG) {
        Ok((value, read)) if read == body.len() => Ok(value),
        Ok(_) => Err(damaged(what, "something follows it")),
        Err(error) => Err(damaged(what, error)),
    }
}

/// An entry of the log.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let message = wire::entry(entry);
    let mut bytes = Vec::with_capacity(message.encoded_len() + 1);
    bytes.push(FORMAT);
    // Encoding into a Vec cannot run out of room.
    let _ = message.encode(&mut bytes);
    bytes
}

/// Reads an entry of the log.
pub(crate) fn decode_entry(index: u64, bytes: Vec<u8>) -> io::Result<Entry> {
    let what = format!("log entry {index}");
    let body = Bytes::from(bytes);
    versioned(&what, &body)?;
    let message = proto::Entry::decode(body.slice(1..)).map_err(|e| damaged(&what, e))?;
    let entry = wire::read_entry(&message).map_err(|e| damaged(&what, e))?;
    if openraft::entry::RaftEntry::log_id(&entry).index == index {
        Ok(entry)
    } else {
        Err(damaged(&what, "it says it is another"))
    }
}
