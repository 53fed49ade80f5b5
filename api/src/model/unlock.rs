//! Unlock keys: `CLSTKEY-1-<256 random bits>-<check>`, in lower-case hex.
//!
//! The check tells a typing error from another key, before anything is tried.

use sha2::{Digest, Sha256};
use std::fmt::{self, Write};
use std::str::FromStr;
use zeroize::Zeroizing;

const PREFIX: &str = "CLSTKEY";
const VERSION: &str = "1";
const KEY: usize = 32;
/// Characters of the check.
const CHECK_LEN: usize = 8;

/// What opens a locked manager. It is in the replicated state and with whoever keeps it, and on no manager's disk.
#[derive(Clone, PartialEq, Eq)]
pub struct UnlockKey(Zeroizing<[u8; KEY]>);

/// The cluster's setting: whether managers are locked when they start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    /// Counts its changes, so that a manager which reads its log again knows what is over.
    pub version: u64,
    /// What opens them, where they are.
    pub key: Option<UnlockKey>,
}

impl Lock {
    /// The setting after this one: with another key, or with none.
    #[must_use]
    pub fn next(&self, locks: bool) -> Self {
        Self {
            version: self.version + 1,
            key: locks.then(UnlockKey::random),
        }
    }
}

/// Why a text is no unlock key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockKeyError {
    /// It does not begin as one.
    #[error(
        "this is not an unlock key (they begin with {PREFIX}-{VERSION}-); `clusterctl unlock-key` shows it on a manager that runs"
    )]
    NotAKey,
    /// A version that this build doesn't know.
    #[error("the unlock key has version {0:?}, this version knows {VERSION}; upgrade it")]
    Version(String),
    /// Too short or too long.
    #[error("the unlock key is cut short, or something was added: copy all of it")]
    Length,
    /// A typing error.
    #[error(
        "the unlock key has a typing error: its check at the end does not match; compare it, or copy it again"
    )]
    Typo,
}

impl UnlockKey {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// Its bits.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    /// From its bits.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// As people keep it.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(format!("{PREFIX}-{VERSION}-"));
        text.reserve(KEY * 2 + 1 + CHECK_LEN);
        hex(&mut text, &*self.0);
        text.push('-');
        hex(&mut text, &check(&self.0));
        text
    }
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
    }
}

fn check(key: &[u8; KEY]) -> [u8; CHECK_LEN / 2] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(b"clusterd unlock key, check")
        .chain_update(key)
        .finalize()
        .into();
    let mut check = [0; CHECK_LEN / 2];
    check.copy_from_slice(&digest[..CHECK_LEN / 2]);
    check
}

fn unhex<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(..)")
    }
}

impl FromStr for UnlockKey {
    type Err = UnlockKeyError;

    fn from_str(text: &str) -> Result<Self, UnlockKeyError> {
        let mut parts = text.trim().split('-');
        if parts.next() != Some(PREFIX) {
            return Err(UnlockKeyError::NotAKey);
        }
        match parts.next() {
            Some(VERSION) => {}
            Some(other) => return Err(UnlockKeyError::Version(other.chars().take(20).collect())),
            None => return Err(UnlockKeyError::NotAKey),
        }
        let (Some(key), Some(sum), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(UnlockKeyError::Length);
        };
        if key.len() != KEY * 2 || sum.len() != CHECK_LEN {
            return Err(UnlockKeyError::Length);
        }
        let key = unhex::<KEY>(key).ok_or(UnlockKeyError::Typo)?;
        let sum = unhex::<{ CHECK_LEN / 2 }>(sum).ok_or(UnlockKeyError::Typo)?;
        match *sum == check(&key) {
            true => Ok(Self(key)),
            false => Err(UnlockKeyError::Typo),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_survives_being_written_and_is_not_shown_by_chance() {
        let key = UnlockKey::random();
        let text = key.text();
        assert!(text.starts_with("CLSTKEY-1-"));
        assert_eq!(text.parse(), Ok(key.clone()));
        assert_eq!(format!(" {}\n", *text).parse(), Ok(key.clone()));
        assert_eq!(
            text.to_uppercase().replace("CLSTKEY", PREFIX).parse(),
            Ok(key.clone())
        );
        assert_eq!(format!("{key:?}"), "UnlockKey(..)");
        assert_eq!(UnlockKey::from_bytes(key.bytes()), Some(key));
        assert!(UnlockKey::from_bytes(&[1; 31]).is_none());
    }

    #[test]
    fn every_typing_error_is_one() {
        let text = UnlockKey::random().text();
        for at in 10..text.len() {
            let mut wrong = text.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'7' { b'8' } else { b'7' };
            let wrong = String::from_utf8(wrong).unwrap();
            let error = wrong.parse::<UnlockKey>().unwrap_err();
            let is_dash = text.as_bytes()[at] == b'-';
            let expected = if is_dash {
                UnlockKeyError::Length
            } else {
                UnlockKeyError::Typo
            };
            assert_eq!(error, expected, "character {at}");
        }
        for at in 0..text.len() {
            assert!(text[..at].parse::<UnlockKey>().is_err(), "{at}");
        }
        let later = text.replacen("-1-", "-2-", 1);
        assert_eq!(
            later.parse::<UnlockKey>(),
            Err(UnlockKeyError::Version("2".into()))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,120}") {
            let _ = text.parse::<UnlockKey>();
        }
    }
}
