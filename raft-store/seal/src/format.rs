//! The key file's bytes: `magic, format, version, whether the wrapping key is there, that key or zeros, its check
//! value, the data key wrapped, SHA-256 of all before`.

use crate::{DataKey, KEY, OVERHEAD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"CLSTKEYS";
/// The version that this build writes, and the newest it reads.
pub(crate) const FORMAT: u8 = 1;
const CHECK: usize = 16;
const SUM: usize = 32;
const WRAPPED: usize = KEY + OVERHEAD;
/// Where the wrapping key stands.
const WRAPPING_AT: usize = MAGIC.len() + 1 + size_of::<u64>() + 1;
const CHECK_AT: usize = WRAPPING_AT + KEY;
const WRAPPED_AT: usize = CHECK_AT + CHECK;
const LENGTH: usize = WRAPPED_AT + WRAPPED + SUM;

/// A key that wraps the data key.
pub(crate) type Wrapping = Zeroizing<[u8; KEY]>;

/// Why a file is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    Damaged(&'static str),
    Newer(u8),
}

/// What the file says.
pub(crate) struct Written {
    /// Counts the changes of the cluster's unlock key.
    pub version: u64,
    /// The wrapping key, where no unlock key is needed.
    pub wrapping: Option<Wrapping>,
    bytes: Zeroizing<Vec<u8>>,
}

/// The key that an unlock key stands for.
pub(crate) fn from_unlock(unlock: &[u8; KEY]) -> Wrapping {
    let digest = Sha256::new()
        .chain_update(b"clusterd unlock key")
        .chain_update(unlock)
        .finalize();
    Zeroizing::new(digest.into())
}

/// Tells whether a key is the right one, and tells nothing of it: it is as random as it is long.
fn check_value(wrapping: &Wrapping) -> [u8; CHECK] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(b"clusterd wrapping key")
        .chain_update(**wrapping)
        .finalize()
        .into();
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest[..CHECK]);
    check
}

/// Compares without telling by the time it takes how far they are the same.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Makes the file. `is_kept` says whether the wrapping key stands in it.
pub(crate) fn write(
    key: &DataKey,
    version: u64,
    wrapping: &Wrapping,
    is_kept: bool,
) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
    bytes.extend_from_slice(MAGIC);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.push(u8::from(is_kept));
    match is_kept {
        true => bytes.extend_from_slice(&**wrapping),
        false => bytes.extend_from_slice(&[0; KEY]),
    }
    bytes.extend_from_slice(&check_value(wrapping));
    // All that it says of itself is proven with the key.
    let place = bytes.to_vec();
    DataKey::from(**wrapping).seal_onto(&mut bytes, &Zeroizing::new(place), key.bytes())?;
    let sum = Sha256::digest(&bytes[..]);
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

/// Reads a file.
pub(crate) fn read(bytes: Zeroizing<Vec<u8>>) -> Result<Written, Bad> {
    let head = bytes
        .get(..MAGIC.len())
        .ok_or(Bad::Damaged("it is cut short"))?;
    if head != MAGIC {
        return Err(Bad::Damaged("it doesn't begin as one"));
    }
    match bytes.get(MAGIC.len()) {
        Some(&newer) if newer > FORMAT => return Err(Bad::Newer(newer)),
        Some(&FORMAT) => {}
        _ => return Err(Bad::Damaged("its format is none")),
    }
    let (body, sum) = match bytes.split_last_chunk::<SUM>() {
        Some(parts) if bytes.len() == LENGTH => parts,
        _ => return Err(Bad::Damaged("its length is another")),
    };
    if Sha256::digest(body).as_slice() != sum {
        return Err(Bad::Damaged("its checksum is another"));
    }
    let version = body
        .get(MAGIC.len() + 1..)
        .and_then(|rest| rest.first_chunk());
    let version = version.map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let kept = body
        .get(WRAPPING_AT..)
        .and_then(|rest| rest.first_chunk::<KEY>());
    let wrapping = match body.get(WRAPPING_AT - 1) {
        Some(1) => kept.map(|key| Zeroizing::new(*key)),
        Some(0) => None,
        _ => {
            return Err(Bad::Damaged(
                "it says neither that it is locked nor that it isn't",
            ));
        }
    };
    Ok(Written {
        version,
        wrapping,
        bytes,
    })
}

impl Written {
    fn part(&self, from: usize, length: usize) -> &[u8] {
        self.bytes.get(from..from + length).unwrap_or_default()
    }

    /// Whether this is the key that it is wrapped with.
    pub fn fits(&self, wrapping: &Wrapping) -> bool {
        is_same(&check_value(wrapping), self.part(CHECK_AT, CHECK))
    }

    /// The data key. None when it doesn't open with a key that fits, which is damage.
    pub fn unwrap(&self, wrapping: &Wrapping) -> Option<DataKey> {
        let mut key = Zeroizing::new(Vec::with_capacity(KEY));
        let (place, wrapped) = (self.part(0, WRAPPED_AT), self.part(WRAPPED_AT, WRAPPED));
        if !DataKey::from(**wrapping).open_onto(&mut key, place, wrapped) {
            return None;
        }
        key.first_chunk().map(|bytes| DataKey::from(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reread(bytes: &[u8]) -> Result<Written, Bad> {
        read(Zeroizing::new(bytes.to_vec()))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (key, wrapping) = (DataKey::random(), from_unlock(&[7; KEY]));
        for is_kept in [true, false] {
            let bytes = write(&key, 3, &wrapping, is_kept).unwrap();
            assert_eq!(bytes.len(), LENGTH);
            let holds = bytes.windows(KEY).any(|part| part == &wrapping[..]);
            assert_eq!(holds, is_kept);
            assert!(!bytes.windows(KEY).any(|part| part == key.bytes()));
            let read = read(bytes).unwrap();
            assert_eq!((read.version, read.wrapping.is_some()), (3, is_kept));
            assert!(read.fits(&wrapping) && !read.fits(&from_unlock(&[8; KEY])));
            assert_eq!(read.unwrap(&wrapping).unwrap().id(), key.id());
            assert!(read.unwrap(&from_unlock(&[8; KEY])).is_none());
        }
    }

    #[test]
    fn damage_is_seen_and_a_later_format_is_not_called_damage() {
        let bytes = write(&DataKey::random(), 3, &from_unlock(&[7; KEY]), true).unwrap();
        for at in 0..bytes.len() {
            assert!(reread(&bytes[..at]).is_err());
            let mut bad = bytes.to_vec();
            bad[at] ^= 0x40;
            let is_format = at == MAGIC.len();
            match reread(&bad).map(|_| ()).unwrap_err() {
                Bad::Newer(_) => assert!(is_format, "byte {at}"),
                Bad::Damaged(_) => assert!(!is_format, "byte {at}"),
            }
        }
    }
}
