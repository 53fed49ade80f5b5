//! A backup's file, as far as it can be read without its passphrase. Its layout: `backup.proto`.

use crate::proto::BackupHeader;
use prost::Message;
use sha2::{Digest, Sha256};

/// How it begins.
pub const MAGIC: &[u8; 8] = b"CLSTBKUP";
/// The format that this version writes, and the newest it reads.
pub const FORMAT: u8 = 1;
/// What encryption adds to a chunk, bytes.
pub const TAG: usize = 16;
/// The checksum at the end, bytes.
pub const SUM: usize = 32;
/// Before the header: magic, format, length.
const HEAD: usize = MAGIC.len() + 1 + 4;

/// Why a file is not taken for a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Something else.
    #[error("it is no backup of a cluster: it doesn't begin as one")]
    Other,
    /// Of a later version.
    #[error(
        "it has format {0}, this version reads up to {FORMAT}; upgrade clusterd and clusterctl"
    )]
    Newer(u8),
    /// Not all of it is there.
    #[error(
        "it is cut short: {has} bytes of {whole} are there; copy it again, or take another backup"
    )]
    CutShort {
        /// Its length.
        has: u64,
        /// What it should be.
        whole: u64,
    },
    /// Not as it was written.
    #[error(
        "it is damaged: its checksum is another, so at least one byte has changed; copy it again, or take another backup"
    )]
    Damaged,
}

/// A file that is whole, as far as can be seen without its passphrase.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// What it says of itself; proven only by decrypting it.
    pub header: BackupHeader,
    /// All before the chunks.
    pub head: &'a [u8],
    /// The chunks.
    pub chunks: &'a [u8],
}

/// The first bytes of a file, up to its chunks.
#[must_use]
pub fn head(header: &BackupHeader) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.push(FORMAT);
    let length = u32::try_from(header.encoded_len()).unwrap_or(u32::MAX);
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&header.encode_to_vec());
    head
}

/// How long the chunks of this header are.
fn chunks_length(header: &BackupHeader) -> Option<u64> {
    let chunk = u64::from(header.chunk_bytes);
    // Even nothing is one chunk: the last.
    let count = header.content_bytes.div_ceil(chunk.max(1)).max(1);
    header
        .content_bytes
        .checked_add(count.checked_mul(TAG as u64)?)
}

impl<'a> Envelope<'a> {
    /// Takes a file apart.
    ///
    /// # Errors
    /// What is wrong with it: see [`EnvelopeError`].
    pub fn read(file: &'a [u8]) -> Result<Self, EnvelopeError> {
        let start = file.get(..MAGIC.len()).unwrap_or(file);
        if start.is_empty() || !MAGIC.starts_with(start) {
            return Err(EnvelopeError::Other);
        }
        let has = file.len() as u64;
        let short = |whole: usize| EnvelopeError::CutShort {
            has,
            whole: whole as u64,
        };
        let (beginning, rest) = file.split_at_checked(HEAD).ok_or_else(|| short(HEAD))?;
        let (_, beginning) = beginning.split_at(MAGIC.len());
        match beginning.first() {
            Some(&FORMAT) => {}
            Some(&newer) if newer > FORMAT => return Err(EnvelopeError::Newer(newer)),
            _ => return Err(EnvelopeError::Damaged),
        }
        let length = beginning.last_chunk().map_or(0, |b| u32::from_be_bytes(*b)) as usize;
        let whole_sum = file
            .split_last_chunk::<SUM>()
            .is_some_and(|(before, sum)| Sha256::digest(before).as_slice() == sum);
        let Some(header) = rest.get(..length) else {
            return Err(short(HEAD.saturating_add(length).saturating_add(SUM)));
        };
        let header = BackupHeader::decode(header).map_err(|_| EnvelopeError::Damaged)?;
        let head_length = HEAD + length;
        let chunks = chunks_length(&header).ok_or(EnvelopeError::Damaged)?;
        let whole = chunks.saturating_add((head_length + SUM) as u64);
        if !whole_sum {
            return Err(match whole > has {
                true => EnvelopeError::CutShort { has, whole },
                false => EnvelopeError::Damaged,
            });
        }
        if whole != has {
            return Err(EnvelopeError::Damaged);
        }
        let (head, rest) = file.split_at(head_length);
        let chunks = rest.get(..rest.len() - SUM).ok_or(EnvelopeError::Damaged)?;
        Ok(Self {
            header,
            head,
            chunks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let header = BackupHeader {
            revision: 7,
            chunk_bytes: 10,
            content_bytes: 25,
            ..BackupHeader::default()
        };
        let mut file = head(&header);
        file.extend_from_slice(&[9; 25 + 3 * TAG]);
        let sum = Sha256::digest(&file);
        file.extend_from_slice(&sum);
        file
    }

    #[test]
    fn a_whole_file_is_read_and_every_cut_and_every_flip_is_seen() {
        let whole = file();
        let read = Envelope::read(&whole).unwrap();
        assert_eq!((read.header.revision, read.chunks.len()), (7, 25 + 3 * TAG));
        for cut in 0..whole.len() {
            let error = Envelope::read(&whole[..cut]).unwrap_err();
            match cut {
                0 => assert_eq!(error, EnvelopeError::Other),
                _ => assert!(
                    matches!(error, EnvelopeError::CutShort { .. }),
                    "{cut}: {error}"
                ),
            }
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            let error = Envelope::read(&bad).unwrap_err();
            match at {
                0..8 => assert_eq!(error, EnvelopeError::Other),
                8 => assert_eq!(error, EnvelopeError::Newer(0x41)),
                _ => assert!(
                    matches!(
                        error,
                        EnvelopeError::Damaged | EnvelopeError::CutShort { .. }
                    ),
                    "{at}: {error}"
                ),
            }
        }
        let longer = [&whole[..], b"x"].concat();
        assert_eq!(Envelope::read(&longer).unwrap_err(), EnvelopeError::Damaged);
        assert_eq!(
            Envelope::read(b"#!/bin/sh").unwrap_err(),
            EnvelopeError::Other
        );
    }
}
