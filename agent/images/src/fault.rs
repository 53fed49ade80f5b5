//! What can be wrong with an archive, a manifest or a layer: the cause, and the cure.

use crate::digest::Digest;

/// A reason to refuse an object of an image. Nothing of the refused image stays in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Neither a layout nor an archive of `docker save`.
    #[error(
        "neither an OCI layout (no index.json) nor an archive of `docker save` (no manifest.json); make one with `docker save -o FILE IMAGE` or `skopeo copy … oci-archive:FILE`"
    )]
    NotAnImage,
    /// Bytes that are no tar.
    #[error("no tar archive ({0}); if it was downloaded, get it again")]
    NotATar(String),
    /// The data ends early.
    #[error("truncated; copy or download it again")]
    Truncated,
    /// Damaged compression.
    #[error("damaged ({0}); copy or download it again")]
    Corrupt(String),
    /// `..` in a name.
    #[error(
        "entry `{0}` points outside of its archive; it is hostile or damaged, get it from a source you trust"
    )]
    Traversal(String),
    /// A hard link to outside.
    #[error(
        "hard link `{path}` to `{target}` points outside of its layer; it is hostile or damaged, get it from a source you trust"
    )]
    LinkOutside {
        /// The entry.
        path: String,
        /// Where it points.
        target: String,
    },
    /// A hard link to nothing.
    #[error(
        "hard link `{path}` to `{target}`, which the layer does not hold; build the image again"
    )]
    LinkMissing {
        /// The entry.
        path: String,
        /// Where it points.
        target: String,
    },
    /// An entry of a kind a layer cannot hold.
    #[error("entry `{path}` is {kind}, which a layer cannot hold; pack it again with plain tar")]
    EntryKind {
        /// The entry.
        path: String,
        /// What it is.
        kind: String,
    },
    /// An entry whose fields make no sense.
    #[error("entry `{path}`: {reason}; build the image again")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A digest that is not what was promised.
    #[error(
        "wrong digest: {expected} was promised, {actual} is what came; get it again from a source you trust"
    )]
    WrongDigest {
        /// Promised.
        expected: Digest,
        /// Found.
        actual: Digest,
    },
    /// A layer that, unpacked, is not what the config promises.
    #[error(
        "unpacks to {actual}, but the image's config promises diff_id {expected}; build the image again"
    )]
    WrongDiffId {
        /// Promised.
        expected: Digest,
        /// Found.
        actual: Digest,
    },
    /// A size that is not what was promised.
    #[error("wrong size: {expected} bytes were promised, {actual} came; get it again")]
    WrongSize {
        /// Promised, in bytes.
        expected: u64,
        /// Found, in bytes.
        actual: u64,
    },
    /// A limit passed.
    #[error(
        "too large: {what} passes the limit of {limit}; raise the limit if you trust the image"
    )]
    TooLarge {
        /// What grew.
        what: &'static str,
        /// Where it had to stop.
        limit: u64,
    },
    /// A blob that is named and not there.
    #[error("names {0}, which is missing; save or push the image again")]
    MissingBlob(String),
    /// JSON that does not parse, or lacks a field.
    #[error("cannot be understood ({0}); build or save the image again")]
    Malformed(String),
    /// A media type this store does not know.
    #[error(
        "media type `{0}` is not supported; build the image with tar layers, plain or compressed by gzip or zstd"
    )]
    MediaType(String),
    /// A digest of another algorithm, or none at all.
    #[error("{0}; only sha256 is supported, build the image again")]
    BadDigest(String),
    /// No variant for this machine.
    #[error("no variant for {wanted} (there are: {found}); build it for {wanted}")]
    Platform {
        /// This machine.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// A name in an archive that can name no image.
    #[error(
        "gives the image the name `{name}`: {reason}; save the image again under a proper name"
    )]
    BadName {
        /// As written.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name given for an archive of several images.
    #[error("holds {0} images, so one name cannot be given to it; load it without a name")]
    NameForSeveral(usize),
}
