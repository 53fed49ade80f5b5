//! A backup's file: encrypted in chunks that know their place, so that none can be changed, dropped, moved or
//! taken from another file.

use super::key::{Key, derive};
use api::backup::{Envelope, EnvelopeError, head};
use api::proto::{BackupContent, BackupHeader};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use prost::Message;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of the content in one chunk.
const CHUNK: usize = 64 * 1024;
/// The random part of a nonce.
const NONCE: usize = 19;

/// Why a file is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As can be seen from outside.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The first chunk doesn't open.
    #[error("the passphrase is not the one it was made with")]
    Passphrase,
    /// A later one doesn't, or what it says of itself is not what is in it.
    #[error("it was changed by somebody who could not decrypt it ({0}); take another backup")]
    Forged(String),
    /// Its settings for the key are none that any version writes.
    #[error("what it says of its key makes no sense; take another backup")]
    Kdf,
    /// Written by a later version.
    #[error(
        "what is in it can't be read: {0}; clusterd {1} made it: use that version, or a later one"
    )]
    Unreadable(String, String),
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn nonce(prefix: &[u8; NONCE], number: u32, is_last: bool) -> [u8; 24] {
    let mut nonce = [0; 24];
    let (head, rest) = nonce.split_at_mut(NONCE);
    let (middle, end) = rest.split_at_mut(4);
    head.copy_from_slice(prefix);
    middle.copy_from_slice(&number.to_be_bytes());
    end.fill(u8::from(is_last));
    nonce
}

/// Makes the file. The header's sizes and nonce are filled in.
pub fn seal(mut header: BackupHeader, content: &[u8], key: &Key) -> Result<Vec<u8>, String> {
    let prefix: [u8; NONCE] = rand::random();
    header.nonce = prefix.to_vec().into();
    header.chunk_bytes = CHUNK as u32;
    header.content_bytes = content.len() as u64;
    let mut file = head(&header);
    let aad = digest(&file);
    let cipher = XChaCha20Poly1305::new(&(**key).into());
    let mut chunks = content.chunks(CHUNK).peekable();
    let mut number = 0u32;
    loop {
        let msg = chunks.next().unwrap_or_default();
        let is_last = chunks.peek().is_none();
        let nonce = nonce(&prefix, number, is_last);
        let sealed = cipher.encrypt(&nonce.into(), Payload { msg, aad: &aad });
        file.extend_from_slice(&sealed.map_err(|_| "a chunk can't be encrypted")?);
        if is_last {
            break;
        }
        number = number.checked_add(1).ok_or("the state is too large")?;
    }
    let sum = digest(&file);
    file.extend_from_slice(&sum);
    Ok(file)
}

/// Opens a file: what it says of itself, proven, and what is in it. Takes as long as making its key does.
///
/// # Errors
/// See [`OpenError`].
pub fn open(file: &[u8], passphrase: &str) -> Result<(BackupHeader, BackupContent), OpenError> {
    let kdf = Envelope::read(file)?.header.kdf.ok_or(OpenError::Kdf)?;
    open_with(file, &derive(passphrase, &kdf).ok_or(OpenError::Kdf)?)
}

/// [`open`], by who has the key.
pub fn open_with(file: &[u8], key: &Key) -> Result<(BackupHeader, BackupContent), OpenError> {
    let Envelope {
        header,
        head,
        chunks,
    } = Envelope::read(file)?;
    let prefix: &[u8; NONCE] = (*header.nonce).try_into().map_err(|_| OpenError::Kdf)?;
    let aad = digest(head);
    let cipher = XChaCha20Poly1305::new(&(**key).into());
    let sealed_chunk = header.chunk_bytes as usize + api::backup::TAG;
    let mut content = Zeroizing::new(Vec::with_capacity(chunks.len()));
    let mut rest = chunks.chunks(sealed_chunk).peekable();
    let mut number = 0u32;
    while let Some(msg) = rest.next() {
        let nonce = nonce(prefix, number, rest.peek().is_none());
        let opened = cipher.decrypt(&nonce.into(), Payload { msg, aad: &aad });
        let opened = Zeroizing::new(opened.map_err(|_| match number {
            0 => OpenError::Passphrase,
            _ => OpenError::Forged(format!("part {number}")),
        })?);
        content.extend_from_slice(&opened);
        number = number.saturating_add(1);
    }
    let unreadable = |error: String| OpenError::Unreadable(error, header.version.clone());
    let content = BackupContent::decode(&content[..]).map_err(|e| unreadable(e.to_string()))?;
    Ok((header, content))
}

#[cfg(test)]
mod tests {
    use super::super::key::fresh;
    use super::*;
    use api::proto::{BackupKdf, RaftPeer};

    /// Cheap: what is tested is not the cost of guessing.
    fn kdf() -> BackupKdf {
        BackupKdf {
            memory_kib: 64,
            passes: 1,
            ..fresh()
        }
    }

    fn content(bytes: usize) -> BackupContent {
        let peer = RaftPeer {
            addr: "x".repeat(bytes),
            ..RaftPeer::default()
        };
        BackupContent {
            term: 3,
            managers: vec![peer],
            state: None,
        }
    }

    fn file(bytes: usize) -> Vec<u8> {
        let header = BackupHeader {
            revision: 7,
            kdf: Some(kdf()),
            ..BackupHeader::default()
        };
        let key = derive("correct horse", header.kdf.as_ref().unwrap()).unwrap();
        seal(header, &content(bytes).encode_to_vec(), &key).unwrap()
    }

    /// The file with its checksum made anew, as who wants to deceive would.
    fn resummed(mut file: Vec<u8>) -> Vec<u8> {
        file.truncate(file.len() - api::backup::SUM);
        let sum = digest(&file);
        file.extend_from_slice(&sum);
        file
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_passphrase_alone() {
        for bytes in [0, 1, CHUNK - 20, CHUNK, 3 * CHUNK + 7] {
            let file = file(bytes);
            let (header, read) = open(&file, "correct horse").unwrap();
            assert_eq!((header.revision, read), (7, content(bytes)), "{bytes}");
            assert_eq!(open(&file, "wrong").unwrap_err(), OpenError::Passphrase);
        }
    }

    #[test]
    fn a_changed_header_and_chunks_moved_or_dropped_are_seen_even_with_a_good_checksum() {
        let file = file(4 * CHUNK);
        let Envelope { head, chunks, .. } = Envelope::read(&file).unwrap();
        let (head, chunks) = (head.to_vec(), chunks.to_vec());
        let sealed = CHUNK + api::backup::TAG;
        let parts: Vec<&[u8]> = chunks.chunks(sealed).collect();
        let build = |head: &[u8], parts: &[&[u8]]| {
            let mut file = head.to_vec();
            parts.iter().for_each(|part| file.extend_from_slice(part));
            file.extend_from_slice(&[0; api::backup::SUM]);
            resummed(file)
        };
        let moved = build(&head, &[parts[0], parts[2], parts[1], parts[3], parts[4]]);
        let error = open(&moved, "correct horse").unwrap_err();
        assert_eq!(error, OpenError::Forged("part 1".into()));
        // The revision, raised.
        let mut header = Envelope::read(&file).unwrap().header;
        header.revision = 9;
        let forged = build(&api::backup::head(&header), &parts);
        assert_eq!(
            open(&forged, "correct horse").unwrap_err(),
            OpenError::Passphrase
        );
        // One chunk less, and a header that says so; and the same with the old header.
        let mut header = Envelope::read(&file).unwrap().header;
        header.content_bytes = 3 * CHUNK as u64;
        let shorter = build(&api::backup::head(&header), &parts[..3]);
        assert!(open(&shorter, "correct horse").is_err());
        let shorter = build(&head, &parts[..4]);
        let error = open(&shorter, "correct horse").unwrap_err();
        assert_eq!(error, OpenError::Envelope(EnvelopeError::Damaged));
    }

    #[test]
    fn settings_that_would_exhaust_the_machine_are_refused() {
        let greedy = BackupKdf {
            memory_kib: u32::MAX,
            ..kdf()
        };
        assert!(derive("correct horse", &greedy).is_none());
    }
}
