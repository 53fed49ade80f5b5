//! What is on the disk around the bytes of `codec.rs`: format 2 is a format 1 that is sealed for its place, so that
//! nothing is read by whoever has only the disk, and no value stands where another did.
//!
//! A store says which key it is sealed with, so that a key that doesn't fit is not called damage.

use crate::codec::{self, damaged};
use seal::{DataKey, OVERHEAD};
use std::io;

/// The format that this build writes, and the newest it reads.
pub(crate) const SEALED: u8 = 2;
/// What sealing adds to a value, bytes.
pub(crate) const ADDED: usize = 1 + OVERHEAD;

/// How a store's values are kept.
#[derive(Debug, Clone)]
pub(crate) enum Cover {
    /// As they are: a store of an earlier version, which is only read.
    Plain,
    /// Sealed.
    Sealed(DataKey),
}

/// A place for a value: its tree, its key.
pub(crate) fn place(tree: &str, key: &[u8]) -> Vec<u8> {
    [tree.as_bytes(), &[0], key].concat()
}

/// Takes the version off what is sealed.
pub(crate) fn sealed<'a>(what: &str, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    match bytes.split_first() {
        Some((&SEALED, body)) => Ok(body),
        Some((&newer, _)) if newer > SEALED => Err(codec::newer(what, newer)),
        Some((&codec::FORMAT, _)) => Err(damaged(what, "it is not encrypted")),
        Some((&other, _)) => Err(damaged(what, format!("format {other}"))),
        None => Err(damaged(what, "it is empty")),
    }
}

/// Of a key that doesn't fit.
pub(crate) fn other_key(what: &str) -> io::Error {
    let text = format!(
        "{what} is encrypted with another key than this manager's, so the key doesn't fit; put back the key file that \
         belongs to it, or remove this manager's state and join the cluster again, or restore a backup"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

impl Cover {
    /// A value as it is written.
    pub fn over(&self, place: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(body.to_vec()),
            Self::Sealed(key) => {
                let mut bytes = Vec::with_capacity(body.len() + ADDED);
                bytes.push(SEALED);
                key.seal_onto(&mut bytes, place, body)?;
                Ok(bytes)
            }
        }
    }

    /// Appends a value to `out`.
    pub fn take_off(
        &self,
        out: &mut Vec<u8>,
        what: impl Fn() -> String,
        place: &[u8],
        bytes: &[u8],
    ) -> io::Result<()> {
        match self {
            Self::Plain => out.extend_from_slice(bytes),
            Self::Sealed(key) => {
                // Nothing is said of what is whole.
                let is_open = bytes.first() == Some(&SEALED)
                    && key.open_onto(out, place, bytes.get(1..).unwrap_or_default());
                if !is_open {
                    let what = what();
                    sealed(&what, bytes)?;
                    return Err(damaged(&what, "it was changed, or is not in its place"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(cover: &Cover, place: &[u8], bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        cover.take_off(&mut out, || "the value".into(), place, bytes)?;
        Ok(out)
    }

    #[test]
    fn what_stands_in_anothers_place_or_was_changed_is_damaged() {
        let cover = Cover::Sealed(DataKey::random());
        let (here, there) = (place("records", b"vote"), place("records", b"purged"));
        assert_ne!(place("log", b"1"), place("lo", b"g1"));
        let bytes = cover.over(&here, b"body").unwrap();
        assert_eq!(bytes.len(), 4 + ADDED);
        assert_eq!(off(&cover, &here, &bytes).unwrap(), b"body");
        let error = off(&cover, &there, &bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        for at in 1..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let error = off(&cover, &here, &bad).unwrap_err().to_string();
            assert!(error.contains("the value is damaged"), "{error}");
        }
        // One of before, or by somebody who has no key.
        let error = off(&cover, &here, b"\x01body").unwrap_err().to_string();
        assert!(error.contains("not encrypted"), "{error}");
        let error = off(&cover, &here, b"\x03body").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
