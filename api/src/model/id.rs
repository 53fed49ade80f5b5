//! Identities: 128 random bits, written as 25 characters of lower-case base 36, as Swarm's are.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// Characters of a written id: 36^25 > 2^128.
pub const ID_LEN: usize = 25;

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: {ID_LEN} characters of a-z and 0-9 are")]
pub struct IdError(String);

fn write(value: u128) -> [u8; ID_LEN] {
    let mut out = [b'0'; ID_LEN];
    let mut rest = value;
    for slot in out.iter_mut().rev() {
        let digit = usize::try_from(rest % 36).unwrap_or(0);
        *slot = DIGITS[digit];
        rest /= 36;
    }
    out
}

fn read(text: &str) -> Option<u128> {
    if text.len() != ID_LEN {
        return None;
    }
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = DIGITS.iter().position(|d| *d == byte)?;
        value.checked_mul(36)?.checked_add(digit as u128)
    })
}

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// A new random id.
            #[must_use]
            pub fn random() -> Self {
                Self(rand::random())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = write(self.0);
                // Only ASCII digits and letters were written.
                f.pad(std::str::from_utf8(&digits).unwrap_or_default())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                read(text).map(Self).ok_or_else(|| IdError(text.chars().take(40).collect()))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

id! {
    /// A cluster.
    ClusterId,
    /// A node: the identity in its certificate, never its address.
    NodeId,
    /// A service.
    ServiceId,
    /// A task: one run of one slot.
    TaskId,
    /// A network.
    NetworkId,
    /// A secret or a config.
    BlobId,
}

impl NodeId {
    /// The id its manager goes by in Raft. Node ids are random and never used again, so neither is this.
    #[must_use]
    pub fn raft_id(self) -> u64 {
        let bytes = self.0.to_be_bytes();
        let (_, low) = bytes.split_at(8);
        u64::from_be_bytes(low.try_into().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_survives_being_written(value: u128) {
            let id = TaskId(value);
            prop_assert_eq!(id.to_string().len(), ID_LEN);
            prop_assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(id) = text.parse::<NodeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn too_large_a_number_is_refused() {
        assert!("zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<NodeId>().is_err());
    }
}
