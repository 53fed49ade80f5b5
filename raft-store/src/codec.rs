//! Bytes on disk, each behind a format version.
//!
//! Entries are protobuf, as they are on the wire. Small records of this store alone are bincode. On the disk they are
//! sealed: `cover.rs`.

use crate::cover::SEALED;
use crate::types::Entry;
use crate::wire;
use api::proto;
use bincode::config::{Configuration, standard};
use bytes::Bytes;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use std::io;

/// The version inside what is sealed; what is sealed has the next, [`SEALED`].
pub(crate) const FORMAT: u8 = 1;
/// Before an entry's protobuf: the format, and the protobuf's length.
const HEAD: usize = 1 + size_of::<u32>();

const CONFIG: Configuration = standard();

/// Something on disk that can't be read. Says what it is.
pub(crate) fn damaged(what: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{what} is damaged: {why}; remove this manager's state and join the cluster again, or restore a backup"
        ),
    )
}

/// Something on disk that a later version has written.
pub(crate) fn newer(what: &str, format: u8) -> io::Error {
    let text =
        format!("{what} has format {format}, this clusterd reads up to {SEALED}; upgrade clusterd");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Takes the version off.
pub(crate) fn versioned<'a>(what: &str, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    match bytes.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((&newer, _)) if newer > FORMAT => Err(self::newer(what, newer)),
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

/// An entry of the log: the format, the length of what follows, protobuf.
pub(crate) fn encode_entry(entry: &Entry) -> io::Result<Vec<u8>> {
    let message = wire::entry(entry);
    let length = u32::try_from(message.encoded_len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(message.encoded_len() + HEAD);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&length.to_be_bytes());
    message.encode(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// How many bytes an entry has in all, by its beginning.
pub(crate) fn entry_length(what: &str, beginning: &[u8]) -> io::Result<usize> {
    let body = versioned(what, beginning)?;
    let length = body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let length = length
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| damaged(what, "it is cut short"))?;
    Ok(HEAD.saturating_add(length))
}

/// Reads an entry of the log.
pub(crate) fn decode_entry(what: &str, index: u64, bytes: Vec<u8>) -> io::Result<Entry> {
    if entry_length(what, &bytes)? != bytes.len() {
        return Err(damaged(what, "a part of it is missing"));
    }
    let message = Bytes::from(bytes).slice(HEAD..);
    let message = proto::Entry::decode(message).map_err(|e| damaged(what, e))?;
    let entry = wire::read_entry(&message).map_err(|e| damaged(what, e))?;
    if openraft::entry::RaftEntry::log_id(&entry).index == index {
        Ok(entry)
    } else {
        Err(damaged(what, "it says it is another"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Proposal, Vote};
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;

    fn entry(index: u64) -> Entry {
        let id = wire::read_log_id(&proto::LogId {
            leader: Some(proto::LeaderId { term: 3, node: 9 }),
            index,
        });
        Entry::new(
            id.unwrap(),
            EntryPayload::Normal(Proposal(vec![7; 100].into())),
        )
    }

    #[test]
    fn what_is_written_is_read_again() {
        let vote = Vote::new_committed(4, 11);
        assert_eq!(
            decode::<Vote>("vote", &encode(&vote).unwrap()).unwrap(),
            vote
        );
        let bytes = encode_entry(&entry(5)).unwrap();
        assert_eq!(entry_length("e", &bytes[..HEAD]).unwrap(), bytes.len());
        assert_eq!(decode_entry("e", 5, bytes).unwrap(), entry(5));
    }

    #[test]
    fn a_newer_format_is_refused_with_a_cure() {
        let mut record = encode(&Vote::new(1, 2)).unwrap();
        let mut bytes = encode_entry(&entry(5)).unwrap();
        (record[0], bytes[0]) = (FORMAT + 1, FORMAT + 1);
        let errors = [
            decode::<Vote>("the vote", &record).unwrap_err(),
            decode_entry("log entry 5", 5, bytes.clone()).unwrap_err(),
            entry_length("log entry 5", &bytes).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(
                text.contains("upgrade clusterd") && text.contains("format 2"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_damaged_is_named_and_never_panics() {
        let record = encode(&Vote::new(1, 2)).unwrap();
        let bytes = encode_entry(&entry(5)).unwrap();
        for cut in 0..bytes.len() {
            let error = decode_entry("log entry 5", 5, bytes[..cut].to_vec())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("log entry 5 is damaged"), "{error}");
        }
        for cut in 0..record.len() {
            let error = decode::<Vote>("the vote", &record[..cut])
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("the vote is damaged"), "{error}");
        }
        let long = [&record[..], &[0]].concat();
        assert!(
            decode::<Vote>("the vote", &long)
                .unwrap_err()
                .to_string()
                .contains("follows")
        );
        assert!(
            decode_entry("log entry 6", 6, bytes)
                .unwrap_err()
                .to_string()
                .contains("another")
        );
        assert!(
            decode::<Vote>("the vote", &[0, 1])
                .unwrap_err()
                .to_string()
                .contains("format 0")
        );
    }
}
