//! Image names as Docker's users write them: `redis` is `docker.io/library/redis:latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;

/// A normalised image name: registry, repository, and a tag or a digest or both.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference(oci_client::Reference);

impl Reference {
    /// The registry's host, with its port if one is written: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// The repository inside the registry: `library/redis`.
    pub fn repository(&self) -> &str {
        self.0.repository()
    }

    /// The tag; always there when there is no digest.
    pub fn tag(&self) -> Option<&str> {
        self.0.tag()
    }

    /// The manifest's digest, when the name pins one.
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest().and_then(|digest| digest.parse().ok())
    }

    /// As people write it: without what Docker leaves out (`docker.io/library/`).
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        match whole.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => whole,
        }
    }

    pub(crate) fn oci(&self) -> &oci_client::Reference {
        &self.0
    }

    /// The same name without its digest; none if it has no tag.
    pub(crate) fn without_digest(&self) -> Option<Self> {
        let tag = self.0.tag()?;
        Some(Self(oci_client::Reference::with_tag(
            self.0.registry().to_owned(),
            self.0.repository().to_owned(),
            tag.to_owned(),
        )))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadReference {
            name: text.chars().take(300).collect(),
            reason,
        };
        let reference: oci_client::Reference =
            text.parse().map_err(|error: oci_client::ParseError| {
                match text.chars().any(char::is_uppercase) {
                    true => bad(format!("{error} (names are lower case)")),
                    false => bad(error.to_string()),
                }
            })?;
        if let Some(digest) = reference.digest() {
            digest
                .parse::<Digest>()
                .map_err(|error| bad(error.to_string()))?;
        }
        Ok(Self(reference))
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reference {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_shown_short() {
        let digest = Digest::of(b"x");
        for (written, whole, familiar) in [
            ("redis", "docker.io/library/redis:latest", "redis:latest"),
            ("redis:7", "docker.io/library/redis:7", "redis:7"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            (
                "index.docker.io/library/redis",
                "docker.io/library/redis:latest",
                "redis:latest",
            ),
            ("localhost/app:1", "localhost/app:1", "localhost/app:1"),
            (
                "localhost:5000/a/b",
                "localhost:5000/a/b:latest",
                "localhost:5000/a/b:latest",
            ),
            (
                "reg.example.com/x",
                "reg.example.com/x:latest",
                "reg.example.com/x:latest",
            ),
            (
                &format!("redis@{digest}"),
                &format!("docker.io/library/redis@{digest}"),
                &format!("redis@{digest}"),
            ),
        ] {
            let reference: Reference = written.parse().unwrap();
            assert_eq!(reference.to_string(), whole);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(reference, reference.to_string().parse().unwrap());
        }
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            "Redis",
            "a b",
            ":7",
            "redis:",
            "redis@sha256:12",
            "../x",
            "redis:7:8",
        ] {
            let error = bad.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains("is no image name"), "{bad}: {error}");
        }
    }
}
