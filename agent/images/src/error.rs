//! What can go wrong with images, each with its object, cause and cure.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::fault::Fault;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything the image store refuses or fails at. `Display` leaves out the `#[source]`: print the whole
/// chain, or use [`Error::full`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image of that name or id.
    #[error(
        "no image `{name}` on this node (looked for {looked_for}); load it with `clusterctl image load -i FILE` \
         or pull it with `clusterctl image pull {name}`"
    )]
    NotFound {
        /// As the user wrote it.
        name: String,
        /// What it was taken to mean.
        looked_for: String,
    },
    /// Text that cannot name an image.
    #[error(
        "`{name}` is no image name: {reason}; write NAME[:TAG], REGISTRY/NAME[:TAG] or NAME@sha256:DIGEST"
    )]
    BadReference {
        /// As the user wrote it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An id prefix that several images share.
    #[error("image id `{prefix}` is ambiguous: {candidates} start with it; give more digits")]
    AmbiguousId {
        /// As the user wrote it.
        prefix: String,
        /// Ids that match.
        candidates: String,
    },
    /// A removal that would take an image from under its containers.
    #[error(
        "image `{name}` ({id}) is in use by a container; remove the container first, or force to drop only the name"
    )]
    InUse {
        /// As the user wrote it.
        name: String,
        /// Its id, short.
        id: String,
    },
    /// Removal by id of an image with several names.
    #[error("image {id} has several names ({names}); remove them one by one, or force")]
    SeveralNames {
        /// Its id, short.
        id: String,
        /// Its names.
        names: String,
    },
    /// An archive, layout, manifest, config or layer that cannot be taken.
    #[error("{object}: {fault}")]
    Invalid {
        /// Which file, blob or entry.
        object: String,
        /// What is wrong, and the cure.
        fault: Fault,
    },
    /// A full disk.
    #[error(
        "no space left for {path} ({free_bytes} bytes free); free some, or remove images with `clusterctl image rm`"
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// What an unprivileged writer has left there.
        free_bytes: u64,
    },
    /// Any other failure of the system.
    #[error("cannot {action} {path}")]
    Io {
        /// A verb: `read`, `create`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The store's folder is held by another process.
    #[error(
        "image store {path} is in use by another process; stop it first, or choose another --state-dir"
    )]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// The index file cannot be read.
    #[error(
        "image index {path} is damaged ({reason}); move the folder away and load or pull the images again"
    )]
    DamagedIndex {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry could not be reached, or broke off.
    #[error(
        "cannot reach registry {registry} for image `{name}`; check the name, the network and {hint}"
    )]
    Registry {
        /// The image as written.
        name: String,
        /// Host and port.
        registry: String,
        /// What else to check.
        hint: &'static str,
        /// The transport's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry wants other credentials.
    #[error(
        "registry {registry} refused image `{name}`: {reason}; the image does not exist there, or give the \
         credentials of an account that may pull it"
    )]
    Unauthorized {
        /// The image as written.
        name: String,
        /// Host and port.
        registry: String,
        /// The registry's word.
        reason: String,
    },
    /// The registry does not have it.
    #[error(
        "registry {registry} has no image `{name}` (asked for {asked}); check its name and tag, or load it with \
         `clusterctl image load -i FILE`"
    )]
    NotInRegistry {
        /// The image as written.
        name: String,
        /// Host and port.
        registry: String,
        /// Repository and tag or digest asked for.
        asked: String,
    },
    /// The registry answered with an error.
    #[error(
        "registry {registry} failed on image `{name}`: {reason}; try again later or ask its operator"
    )]
    RegistryAnswer {
        /// The image as written.
        name: String,
        /// Host and port.
        registry: String,
        /// The registry's word.
        reason: String,
    },
    /// A user or group the image does not define.
    #[error("no {kind} `{name}` in the image's {file}; add it to the image, or set a numeric one")]
    NoSuchAccount {
        /// `user` or `group`.
        kind: &'static str,
        /// As written.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// More layers than one overlay mount takes.
    #[error("image {image} has {layers} layers, and a mount takes {limit}; squash it")]
    TooManyLayers {
        /// Its id, short.
        image: String,
        /// How many it has.
        layers: usize,
        /// How many can be mounted.
        limit: usize,
    },
    /// A teardown that met several failures; everything else was torn down.
    #[error("{0}")]
    Several(String),
}

impl Error {
    /// The message with all its causes, in one line.
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// For `map_err`: the failed `action` on `path`; a full disk gets its own error.
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::DiskFull {
                path: path.to_owned(),
                free_bytes: free_bytes(path),
            },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }

    /// The same, owning its path.
    pub(crate) fn io_of(action: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::io(action, &path)(source)
    }

    /// The same for a bare errno.
    pub(crate) fn os<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(nix::Error) -> Self + use<'a> {
        move |errno| Self::io(action, path)(errno.into())
    }

    /// Something wrong with an object of an image.
    pub(crate) fn invalid(object: impl Into<String>, fault: Fault) -> Self {
        Self::Invalid {
            object: object.into(),
            fault,
        }
    }

    /// A digest that is not what was promised.
    pub(crate) fn wrong_digest(
        object: impl Into<String>,
        expected: Digest,
        actual: Digest,
    ) -> Self {
        Self::invalid(object, Fault::WrongDigest { expected, actual })
    }
}

/// Free bytes of the file system of `path`, or of its nearest parent that exists; 0 when unknown.
fn free_bytes(path: &Path) -> u64 {
    path.ancestors()
        .find_map(|path| nix::sys::statvfs::statvfs(path).ok())
        .map_or(0, |stat| {
            stat.blocks_available().saturating_mul(stat.fragment_size())
        })
}
