//! The store: the folder, its index, and who may change them.
//!
//! ```text
//! images/lock               held by the process that has the store open
//!        index.json         which images there are (index.rs)
//!        blobs/sha256/HEX   their manifests and configs, bit for bit
//!        layers/HEX         their layers unpacked, by chain id
//!        tmp/N              work under way
//! ```
//!
//! - Whatever an index names was synced before the index was written: one `syncfs` per load or pull. What
//!   no index names is removed, at once after a failure, or at the next start after a crash.
//! - While anything is loaded or pulled nothing is collected, since fresh layers have no name yet; the last
//!   one to finish collects.
//! - A layer's blob is dropped once unpacked: a node is no registry, and its disk would hold all twice.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::digest::{Digest, ImageId};
use crate::document::{ImageConfig, ImageDoc, image_doc, parse_manifest};
use crate::error::{Error, Result};
use crate::index::{Index, PrunePolicy, Record, Removed};
use crate::keyed::KeyedLock;
use crate::reference::Reference;
use crate::root::remove_tree;
use crate::temp::TempDir;

/// A node's images. Cheap to clone; all methods but `pull` block and belong on a blocking thread.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    /// Keeps other processes out for as long as the store is open.
    _lock: Flock<File>,
    state: Mutex<State>,
    /// By chain id: one download and unpacking at a time.
    pub(crate) layer_locks: KeyedLock,
    temps: AtomicU64,
}

struct State {
    index: Index,
    /// Unpacked sizes in bytes by chain id, of layers that no image names yet too.
    layer_bytes: HashMap<Digest, u64>,
    /// Loads and pulls under way.
    ingests: usize,
    /// Something may have become rubbish.
    collect: bool,
}

/// What is known of a stored image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// The digest of its config.
    pub id: ImageId,
    /// Its names; none if they all went to newer images.
    pub references: Vec<Reference>,
    /// The digest of its manifest, by which a registry knows it.
    pub manifest_digest: Digest,
    /// Bytes of its files; layers shared with other images count in each.
    pub size_bytes: u64,
    /// When it was built (RFC 3339), if it says.
    pub created: Option<String>,
    /// How many layers it has.
    pub layers: usize,
    /// Whether it came from a registry.
    pub pulled: bool,
}

/// A stored image, ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its config.
    pub id: ImageId,
    /// How to run it.
    pub config: ImageConfig,
    /// Its layers' folders, lowest first. Not to be written to.
    pub layers: Vec<PathBuf>,
}

impl Store {
    /// Opens the store in `dir`, making it if need be, and clears what a crash left behind. Fails if another
    /// process has it open.
    pub fn open(dir: &Path) -> Result<Self> {
        // Nobody but root looks in: layers hold setuid programs.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        for folder in ["", "blobs/sha256", "layers", "tmp"] {
            let folder = dir.join(folder);
            private
                .create(&folder)
                .map_err(Error::io("create", &folder))?;
        }
        let dir = &fs::canonicalize(dir).map_err(Error::io("open", dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(Error::io("create", &lock_path))?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    Errno::EAGAIN => Error::Locked { path: dir.clone() },
                    errno => Error::os("lock", &lock_path)(errno),
                },
            )?;
        for name in names_in(&dir.join("tmp"))? {
            remove_tree(&dir.join("tmp").join(name))?;
        }
        let mut index = Index::read(dir)?;
        drop_incomplete(dir, &mut index)?;
        let layer_bytes = index
            .images
            .values()
            .flat_map(|r| &r.layers)
            .map(|l| (l.chain_id, l.bytes))
            .collect();
        let state = State {
            index,
            layer_bytes,
            ingests: 0,
            collect: true,
        };
        let store = Self {
            inner: Arc::new(Inner {
                dir: dir.clone(),
                _lock: lock,
                state: Mutex::new(state),
                layer_locks: KeyedLock::default(),
                temps: AtomicU64::new(0),
            }),
        };
        store.inner.collect()?;
        Ok(store)
    }

    /// The image of that name, digest, id or beginning of an id; none if the node has none. Text that can
    /// name no image, and a beginning shared by several, are errors.
    pub fn resolve(&self, name: &str) -> Result<Option<Image>> {
        let (id, manifest, chain) = {
            let state = self.inner.state();
            let Some(id) = state.index.find(name)? else {
                return Ok(None);
            };
            let Some(record) = state.index.images.get(&id) else {
                return Ok(None);
            };
            (
                id,
                record.manifest,
                record
                    .layers
                    .iter()
                    .map(|layer| layer.chain_id)
                    .collect::<Vec<_>>(),
            )
        };
        let doc = read_doc(&self.inner.dir, id, manifest)?;
        let layers = chain
            .iter()
            .map(|chain_id| self.inner.layer_path(chain_id))
            .collect();
        Ok(Some(Image {
            id,
            config: doc.config,
            layers,
        }))
    }

    /// Like [`resolve`](Self::resolve), but that there is none is an error which says how to get it.
    pub fn get(&self, name: &str) -> Result<Image> {
        self.resolve(name)?.ok_or_else(|| not_found(name))
    }

    /// The image that a normalised name leads to, if the node has it.
    pub fn info(&self, reference: &Reference) -> Option<ImageInfo> {
        let state = self.inner.state();
        let id = state.index.find_reference(reference)?;
        state.index.images.get(&id).map(|record| info(id, record))
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<ImageInfo> {
        self.inner
            .state()
            .index
            .images
            .iter()
            .map(|(id, record)| info(*id, record))
            .collect()
    }

    /// Drops the name, and with its last name the image and what no other image shares. Named by id it loses
    /// all its names, if there is one or if forced. An image in use is refused; forced, it loses its names
    /// and goes with [`prune`](Self::prune) once it is free.
    pub fn remove(&self, name: &str, in_use: &[ImageId], force: bool) -> Result<Removed> {
        let in_use = in_use.iter().copied().collect();
        let removed = self
            .inner
            .change(|index| index.remove(name, &in_use, force))?;
        let removed = removed.ok_or_else(|| not_found(name))?;
        self.inner.collect()?;
        Ok(removed)
    }

    /// The reaper: takes images by `policy`, never one of `in_use`. Those must hold the images of containers
    /// that are only about to start, too. Returns what went.
    pub fn prune(&self, in_use: &[ImageId], policy: &PrunePolicy) -> Result<Vec<ImageId>> {
        let in_use: BTreeSet<ImageId> = in_use.iter().copied().collect();
        let gone = self
            .inner
            .change(|index| Ok(index.prune(&in_use, policy)))?;
        self.inner.collect()?;
        Ok(gone)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced whole, so a panic elsewhere cannot leave half a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index, on disk first.
    fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        let mut index = state.index.clone();
        let result = change(&mut index)?;
        index.write(&self.dir)?;
        state.index = index;
        state.collect = true;
        Ok(result)
    }

    pub(crate) fn layer_path(&self, chain_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(chain_id.hex())
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.dir, digest)
    }

    /// The unpacked size of a layer that is there.
    pub(crate) fn layer_bytes(&self, chain_id: &Digest) -> Option<u64> {
        self.state().layer_bytes.get(chain_id).copied()
    }

    pub(crate) fn layer_added(&self, chain_id: Digest, bytes: u64) {
        self.state().layer_bytes.insert(chain_id, bytes);
    }

    /// A fresh folder for work under way.
    pub(crate) fn temp(&self) -> Result<TempDir> {
        let path = self
            .dir
            .join("tmp")
            .join(self.temps.fetch_add(1, Ordering::Relaxed).to_string());
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(Error::io("create", &path))?;
        Ok(TempDir::adopt(path))
    }

    /// Begins a load or pull: nothing is collected until it ends.
    pub(crate) fn ingest(self: &Arc<Self>) -> Ingest {
        self.state().ingests += 1;
        Ingest {
            inner: self.clone(),
        }
    }

    /// Enters images into the index. Their blobs and layers are in place, if not yet synced.
    pub(crate) fn commit(&self, images: Vec<(ImageId, Record)>) -> Result<Vec<ImageInfo>> {
        let dir = File::open(&self.dir).map_err(Error::io("open", &self.dir))?;
        nix::unistd::syncfs(&dir).map_err(Error::os("sync", &self.dir))?;
        let ids: Vec<ImageId> = images.iter().map(|(id, _)| *id).collect();
        self.change(|index| {
            for (id, record) in images {
                index.add(id, record);
            }
            Ok(ids
                .iter()
                .filter_map(|id| index.images.get(id).map(|record| info(*id, record)))
                .collect())
        })
    }

    /// Removes blobs and layers that no image names. Put off while anything is loaded or pulled.
    fn collect(&self) -> Result<()> {
        let rubbish = {
            let mut state = self.state();
            if !state.collect || state.ingests > 0 {
                return Ok(());
            }
            state.collect = false;
            let rubbish = self.temp()?;
            for (folder, keep) in [
                ("blobs/sha256", state.index.blobs()),
                ("layers", state.index.layers()),
            ] {
                let folder = self.dir.join(folder);
                for name in names_in(&folder)? {
                    if !keep.contains(&name) {
                        // Moved away under the lock, removed without it.
                        let from = folder.join(&name);
                        fs::rename(&from, rubbish.path().join(&name))
                            .map_err(Error::io("remove", &from))?;
                    }
                }
            }
            let kept = state.index.layers();
            state
                .layer_bytes
                .retain(|chain_id, _| kept.contains(&chain_id.hex()));
            rubbish
        };
        drop(rubbish);
        Ok(())
    }
}

/// Held by a load or pull and everything it started.
pub(crate) struct Ingest {
    pub(crate) inner: Arc<Inner>,
}

impl Drop for Ingest {
    fn drop(&mut self) {
        {
            let mut state = self.inner.state();
            state.ingests -= 1;
            // Whether it failed, or replaced an image, or did neither: a look is cheap.
            state.collect = true;
        }
        if let Err(error) = self.inner.collect() {
            tracing::warn!(
                error = error.full(),
                "what no image names is left until the next start"
            );
        }
    }
}

fn info(id: ImageId, record: &Record) -> ImageInfo {
    ImageInfo {
        id,
        references: record.references.iter().cloned().collect(),
        manifest_digest: record.manifest,
        size_bytes: record.layers.iter().map(|layer| layer.bytes).sum(),
        created: record.created.clone(),
        layers: record.layers.len(),
        pulled: record.pulled,
    }
}

fn not_found(name: &str) -> Error {
    let looked_for = match name.parse::<Reference>() {
        Ok(reference) => reference.to_string(),
        Err(_) => format!("the id {name}"),
    };
    Error::NotFound {
        name: name.to_owned(),
        looked_for,
    }
}

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

/// Reads an image's manifest and config back, and checks them again: disks lie.
fn read_doc(dir: &Path, id: ImageId, manifest_digest: Digest) -> Result<ImageDoc> {
    let read = |digest: Digest| {
        let path = blob_path(dir, &digest);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        match Digest::of(&bytes) {
            actual if actual == digest => Ok(bytes),
            actual => Err(Error::wrong_digest(
                path.display().to_string(),
                digest,
                actual,
            )),
        }
    };
    let object = format!("image {}", id.short());
    let manifest = parse_manifest(&object, &read(manifest_digest)?)?;
    image_doc(&object, manifest_digest, &manifest, &read(id)?)
}

/// Forgets images of which something is missing, so that they can be had anew.
fn drop_incomplete(dir: &Path, index: &mut Index) -> Result<()> {
    let before = index.images.len();
    index.images.retain(|id, record| {
        let whole = record.layers.iter().all(|layer| dir.join("layers").join(layer.chain_id.hex()).is_dir());
        match read_doc(dir, *id, record.manifest) {
            Ok(_) if whole => true,
            result => {
                let error = result.err().map_or_else(|| "a layer is missing".to_owned(), |error| error.full());
                let names: Vec<String> = record.references.iter().map(Reference::familiar).collect();
                tracing::warn!(image = %id, ?names, error, "image is incomplete and forgotten; load or pull it again");
                false
            }
        }
    });
    if index.images.len() < before {
        index.write(dir)
    } else {
        Ok(())
    }
}

/// The names in a folder.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let failed = || Error::io("read", dir);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    Ok(names)
}
