//! A node's images: pulled, loaded, verified, unpacked and stacked.
//!
//! An image comes from an archive ([`Store::load`]) or a registry ([`Store::pull`]). Everything that comes is
//! taken for hostile until its digests match: sizes are bounded, names stay inside their folder, and what is
//! refused leaves nothing behind. A container's root is its image's layers under a writable one
//! ([`mount_rootfs`]).
//!
//! ```text
//! archive ── archive.rs ─ load.rs ──┐
//!                                   ├─ document.rs ─ layer.rs ─ unpack.rs ─ store.rs (commit) ─ index.rs
//! registry ─ registry.rs ─ pull.rs ─┘
//! ```
//!
//! The store blocks and wants a blocking thread; only `pull` is async. Linux 5.6 or newer, as root.

mod archive;
mod decompress;
mod digest;
mod document;
mod error;
mod fault;
mod index;
mod keyed;
mod layer;
mod limits;
mod load;
mod mount;
mod progress;
mod pull;
mod reference;
mod registry;
mod root;
mod store;
mod tarball;
mod temp;
mod unpack;
mod user;

pub use digest::{BadDigest, Digest, ImageId};
pub use document::{ImageConfig, Platform};
pub use error::{Error, Result};
pub use fault::Fault;
pub use index::{PrunePolicy, Removed};
pub use limits::Limits;
pub use load::LoadOptions;
pub use mount::{mount_rootfs, unmount_rootfs};
pub use progress::{Phase, Progress, ProgressFn, quiet};
pub use pull::PullOptions;
pub use reference::Reference;
pub use registry::Auth;
pub use root::create_dir_in;
pub use store::{Image, ImageInfo, Store};
pub use user::{User, resolve_user};
