//! Ids: opaque short strings, checked because they become file names.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Longest id accepted, bytes.
const LEN_MAX: usize = 64;

fn check(kind: &'static str, id: &str) -> Result<(), Error> {
    let ok = !id.is_empty()
        && id.len() <= LEN_MAX
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if ok {
        Ok(())
    } else {
        Err(Error::BadId {
            kind,
            id: id.chars().take(LEN_MAX).collect(),
        })
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts 1 to 64 letters, digits, `-` and `_`.
            ///
            /// # Errors
            /// [`Error::BadId`] for anything else.
            pub fn new(id: impl AsRef<str>) -> Result<Self, Error> {
                check($kind, id.as_ref())?;
                Ok(Self(id.as_ref().into()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(id: String) -> Result<Self, Error> {
                Self::new(id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

id!(
    /// A task, one run of one container.
    TaskId,
    "task"
);
id!(
    /// An overlay network.
    NetworkId,
    "network"
);
id!(
    /// A service, the owner of a VIP.
    ServiceId,
    "service"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_the_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(TaskId::new(bad).is_err(), "{bad:?}");
        }
        assert!(TaskId::new("0123456789abcdefghijklmno").is_ok());
    }
}
