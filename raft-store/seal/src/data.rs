//! The data key: XChaCha20-Poly1305 over bytes and the place that they belong to.

use crate::KEY;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroizing;

const NONCE: usize = 24;
const TAG: usize = 16;
/// The part of a nonce that is drawn once; the other part counts.
const PREFIX: usize = 16;
/// What sealing adds, bytes.
pub const OVERHEAD: usize = NONCE + TAG;

/// What a manager's store is sealed with. Cheap to clone.
#[derive(Clone)]
pub struct DataKey(Arc<Inner>);

struct Inner {
    cipher: XChaCha20Poly1305,
    bytes: Zeroizing<[u8; KEY]>,
    id: [u8; 16],
    prefix: [u8; PREFIX],
    next: AtomicU64,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.write_str("DataKey(..)")
    }
}

impl From<[u8; KEY]> for DataKey {
    fn from(bytes: [u8; KEY]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let digest: [u8; 32] = Sha256::new()
            .chain_update(b"clusterd data key")
            .chain_update(*bytes)
            .finalize()
            .into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(Arc::new(Inner {
            cipher: XChaCha20Poly1305::new(&(*bytes).into()),
            bytes,
            id,
            // Drawn anew at each start: no two of them, and so no two nonces, are ever the same.
            prefix: rand::random(),
            next: AtomicU64::new(0),
        }))
    }
}

impl DataKey {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self::from(rand::random::<[u8; KEY]>())
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY] {
        &self.0.bytes
    }

    /// What tells this key from others, and tells nothing of it.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.0.id
    }

    fn nonce(&self) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        let (prefix, count) = nonce.split_at_mut(PREFIX);
        prefix.copy_from_slice(&self.0.prefix);
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        count.copy_from_slice(&number.to_be_bytes());
        nonce
    }

    /// Appends `body`, sealed for `place`: [`OVERHEAD`] bytes more than it has.
    ///
    /// # Errors
    /// When it is larger than the cipher takes, some 256 GiB.
    pub fn seal_onto(&self, out: &mut Vec<u8>, place: &[u8], body: &[u8]) -> io::Result<()> {
        let nonce = self.nonce();
        out.reserve(body.len() + OVERHEAD);
        out.extend_from_slice(&nonce);
        let from = out.len();
        out.extend_from_slice(body);
        let inside = out.get_mut(from..).unwrap_or_default();
        let tag = self
            .0
            .cipher
            .encrypt_inout_detached(&nonce.into(), place, inside.into())
            .map_err(|_| io::Error::other("too large to be encrypted"))?;
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Appends what was sealed for `place`. False, and nothing appended, when it wasn't, or not with this key, or
    /// when it was changed.
    #[must_use]
    pub fn open_onto(&self, out: &mut Vec<u8>, place: &[u8], sealed: &[u8]) -> bool {
        let Some((nonce, rest)) = sealed.split_first_chunk::<NONCE>() else {
            return false;
        };
        let Some((body, tag)) = rest.split_last_chunk::<TAG>() else {
            return false;
        };
        let from = out.len();
        out.extend_from_slice(body);
        let inside = out.get_mut(from..).unwrap_or_default();
        let opened = self.0.cipher.decrypt_inout_detached(
            &(*nonce).into(),
            place,
            inside.into(),
            &Tag::from(*tag),
        );
        if opened.is_err() {
            out.truncate(from);
        }
        opened.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(key: &DataKey, place: &[u8], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        key.seal_onto(&mut out, place, body).unwrap();
        out
    }

    fn opened(key: &DataKey, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let is_open = key.open_onto(&mut out, place, sealed);
        assert!(is_open || out == b"before", "nothing of it is passed on");
        is_open.then(|| out.split_off(6))
    }

    #[test]
    fn it_opens_where_it_belongs_and_nowhere_else() {
        let key = DataKey::random();
        let one = sealed(&key, b"1", b"secret");
        assert_eq!(one.len(), 6 + OVERHEAD);
        assert_eq!(opened(&key, b"1", &one).unwrap(), b"secret");
        // As after a restart.
        let again = DataKey::from(*key.bytes());
        assert_eq!(
            (again.id(), opened(&again, b"1", &one).is_some()),
            (key.id(), true)
        );
        assert!(opened(&key, b"2", &one).is_none(), "moved");
        let other = DataKey::random();
        assert!(other.id() != key.id() && opened(&other, b"1", &one).is_none());
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_seen() {
        let key = DataKey::random();
        let whole = sealed(&key, b"1", b"secret");
        for at in 0..whole.len() {
            assert!(opened(&key, b"1", &whole[..at]).is_none());
            for bit in 0..8 {
                let mut bad = whole.clone();
                bad[at] ^= 1 << bit;
                assert!(opened(&key, b"1", &bad).is_none(), "byte {at}");
            }
        }
    }

    #[test]
    fn no_two_are_the_same() {
        let key = DataKey::random();
        let all: std::collections::BTreeSet<Vec<u8>> = (0..1_000)
            .map(|_| sealed(&key, b"1", b"secret")[..NONCE].to_vec())
            .collect();
        assert_eq!(all.len(), 1_000);
        let again = DataKey::from(*key.bytes());
        assert!(!all.contains(&sealed(&again, b"1", b"secret")[..NONCE]));
        assert_eq!(format!("{key:?}"), "DataKey(..)");
    }

    proptest! {
        #[test]
        fn anything_comes_back(place: Vec<u8>, body: Vec<u8>) {
            let key = DataKey::random();
            prop_assert_eq!(opened(&key, &place, &sealed(&key, &place, &body)), Some(body));
        }

        #[test]
        fn anything_is_read_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(opened(&DataKey::random(), b"", &bytes).is_none());
        }
    }
}
