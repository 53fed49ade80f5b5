//! Join tokens: `CLSTR-1-<digest of the CA>-<secret>`.
//!
//! The digest lets a joiner know the cluster's CA before it has ever seen it, so that nobody in between
//! can pose as the cluster. The secret says which role the joiner gets.

use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "CLSTR";
const VERSION: &str = "1";
const DIGEST_LEN: usize = 64;
/// Characters of the secret part: 128 random bits as an id is written.
const SECRET_LEN: usize = super::ID_LEN;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the CA certificate (DER), lower-case hex.
    pub ca_digest: String,
    /// What the manager compares.
    pub secret: String,
}

/// Why a text is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as one.
    #[error(
        "this is not a join token (they begin with {PREFIX}-{VERSION}-); get one with `clusterctl join-token worker` on a manager"
    )]
    NotAToken,
    /// A version that this build doesn't know.
    #[error("the join token has version {0:?}, this clusterd knows version {VERSION}; upgrade it")]
    Version(String),
    /// A part is too short or too long.
    #[error(
        "the join token is cut short or damaged: its {part} has {len} characters instead of {want}; copy it whole from `clusterctl join-token worker` on a manager"
    )]
    Truncated {
        /// Which part.
        part: &'static str,
        /// Its length.
        len: usize,
        /// The right length.
        want: usize,
    },
    /// A character that no token has.
    #[error("the join token is damaged: its {0} holds characters that no token has; copy it again")]
    Characters(&'static str),
}

/// SHA-256 of a DER certificate, lower-case hex.
#[must_use]
pub fn ca_digest(der: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(der)
        .iter()
        .fold(String::with_capacity(DIGEST_LEN), |mut out, byte| {
            let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
            out
        })
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}-{VERSION}-{}-{}", self.ca_digest, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, ..)", self.ca_digest)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('-');
        if parts.next() != Some(PREFIX) {
            return Err(TokenError::NotAToken);
        }
        match parts.next() {
            Some(VERSION) => {}
            Some(other) => return Err(TokenError::Version(other.chars().take(20).collect())),
            None => return Err(TokenError::NotAToken),
        }
        let digest = part(parts.next().unwrap_or(""), "digest", DIGEST_LEN, |b| {
            b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
        })?;
        let secret = part(parts.next().unwrap_or(""), "secret", SECRET_LEN, |b| {
            b.is_ascii_digit() || b.is_ascii_lowercase()
        })?;
        match parts.next() {
            Some(_) => Err(TokenError::Characters("secret")),
            None => Ok(Self {
                ca_digest: digest,
                secret,
            }),
        }
    }
}

fn part(
    text: &str,
    part: &'static str,
    want: usize,
    ok: impl Fn(u8) -> bool,
) -> Result<String, TokenError> {
    if !text.bytes().all(ok) {
        return Err(TokenError::Characters(part));
    }
    if text.len() != want {
        return Err(TokenError::Truncated {
            part,
            len: text.len(),
            want,
        });
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken {
            ca_digest: ca_digest(b"a certificate"),
            secret: super::super::TaskId(7).to_string(),
        }
    }

    #[test]
    fn a_token_survives_being_written() {
        assert_eq!(token().to_string().parse(), Ok(token()));
    }

    #[test]
    fn every_shorter_token_is_refused_with_its_reason() {
        let text = token().to_string();
        for len in 0..text.len() {
            assert!(
                text[..len].parse::<JoinToken>().is_err(),
                "{len} characters were taken"
            );
        }
        let error = text[..text.len() - 1].parse::<JoinToken>().unwrap_err();
        assert!(error.to_string().contains("cut short"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,120}") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
