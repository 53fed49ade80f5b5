//! Secrets and configs: bytes that the managers keep and that tasks see as files.
//!
//! One object for both, told apart by its kind: they differ in who may read them back, in their limits and in
//! where their files go. Its data never changes; a stack whose file has another gets another version of the
//! same name, so that tasks of the version before keep what they were started with.

use super::{BlobId, Labels, Meta};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A secret or a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blob {
    /// Its identity.
    pub id: BlobId,
    /// Revision and times.
    pub meta: Meta,
    /// 0 for one made by hand, the only one of its name; a stack's are numbered from 1.
    pub version: u32,
    /// What the user asked for.
    pub spec: BlobSpec,
}

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlobSpec {
    /// Secret or config.
    pub kind: BlobKind,
    /// Of one owner within its kind; `stack_name` for a stack's.
    pub name: String,
    /// The stack that owns it.
    pub stack: Option<String>,
    /// Free labels.
    pub labels: Labels,
    /// Its content.
    pub data: Data,
}

impl BlobSpec {
    /// As users name it.
    #[must_use]
    pub fn key(&self) -> BlobKey {
        BlobKey {
            kind: self.kind,
            name: self.name.clone(),
        }
    }
}

/// What a [`Blob`] is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// Read back by nobody but the tasks that use it.
    #[default]
    Secret,
    /// May be shown.
    Config,
}

impl BlobKind {
    /// As in commands and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// Most bytes of one, as Swarm's.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::Secret => 500 << 10,
            Self::Config => 1000 << 10,
        }
    }

    /// What is wrong with a content of so many bytes.
    #[must_use]
    pub fn refuse(self, bytes: usize) -> Option<String> {
        match bytes {
            0 => Some("its content is empty".into()),
            _ if bytes > self.limit() => Some(format!(
                "its content has {bytes} bytes, a {} may have {}",
                self.as_str(),
                self.limit()
            )),
            _ => None,
        }
    }

    /// Where a file of this name goes unless an absolute path is given.
    #[must_use]
    pub fn target(self, name: &str) -> String {
        match self {
            _ if name.starts_with('/') => name.into(),
            Self::Secret => format!("/run/secrets/{name}"),
            Self::Config => format!("/{name}"),
        }
    }
}

impl fmt::Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Most bytes that the secrets and configs of one stack may have together: a deploy is one transaction.
pub const STACK_DATA_MAX: usize = 6 << 20;

/// A secret or a config, as users name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlobKey {
    /// Secret or config.
    pub kind: BlobKind,
    /// Its full name.
    pub name: String,
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A file of a service's tasks whose content is a secret or a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobFile {
    /// Which.
    pub source: BlobKey,
    /// Absolute path in the container.
    pub target: String,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// Permission bits unless the user says otherwise, as Swarm's.
pub const FILE_MODE: u32 = 0o444;

/// A [`BlobFile`] with the object that its name led to when the service was last changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// The object.
    pub blob: BlobId,
    /// The file.
    pub file: BlobFile,
}

/// A content. Shared, shown by nothing, and wiped when the last copy of it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(Arc<Zeroizing<Vec<u8>>>);

impl Data {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.0.len())
    }
}

/// Only its size, under whatever name: what is printed as JSON ends up in logs and tickets.
impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("({} bytes)", self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_never_shown() {
        let data = Data::from(b"hunter2".to_vec());
        let spec = BlobSpec {
            kind: BlobKind::Secret,
            name: "password".into(),
            stack: None,
            labels: Labels::new(),
            data: data.clone(),
        };
        let shown = format!("{spec:?} {data:?}");
        let json = serde_json::to_string(&spec).unwrap();
        assert!(!shown.contains("hunter2") && shown.contains("7 bytes"));
        assert!(!json.contains("hunter2") && json.contains("7 bytes"));
    }

    #[test]
    fn limits_are_swarms() {
        assert_eq!(BlobKind::Secret.refuse(512_000), None);
        assert_eq!(BlobKind::Config.refuse(1_024_000), None);
        assert!(BlobKind::Secret.refuse(512_001).is_some());
        assert!(BlobKind::Config.refuse(1_024_001).is_some());
        assert!(BlobKind::Config.refuse(0).is_some());
    }

    #[test]
    fn files_go_where_swarm_puts_them() {
        assert_eq!(BlobKind::Secret.target("a"), "/run/secrets/a");
        assert_eq!(BlobKind::Config.target("a"), "/a");
        assert_eq!(BlobKind::Secret.target("/etc/a"), "/etc/a");
    }
}
