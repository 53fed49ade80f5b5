//! Pulls an image from its registry.
//!
//! Layers are downloaded a few at a time and unpacked in order while the later ones still come. A layer's
//! lock is held from its download to the end of its unpacking, so a second pull of it waits and then finds it
//! there. Locks are taken in the order of the layers and waited for only by later ones: no cycle.
//!
//! Cancel safety: dropping the future stops the downloads. An unpacking under way runs to its end on its
//! blocking thread and holds the ingest; what it made has no name, so it is collected.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::digest::{Digest, Hasher};
use crate::document::{
    ImageDoc, Index, LayerDoc, Platform, image_doc, parse, parse_manifest, select,
};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::index::{LayerRecord, Record, seconds};
use crate::keyed::KeyedGuard;
use crate::layer::LayerJob;
use crate::limits::{Budget, Limits, within};
use crate::progress::{Counter, Phase, ProgressFn};
use crate::reference::Reference;
use crate::registry::{Auth, Registry};
use crate::store::{ImageInfo, Ingest, Store};
use crate::temp::TempDir;

/// Downloads at a time; as many as Docker's.
const DOWNLOADS_MAX: usize = 3;
/// Chunks of a download between network and disk.
const CHUNKS_MAX: usize = 32;
/// Indexes in indexes are followed no further than this.
const INDEX_DEPTH_MAX: usize = 4;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Bounds on what the image may take.
    pub limits: Limits,
    /// Registries (`host[:port]`, as in image names) that may be asked over plain HTTP, besides those on this
    /// machine's loopback. HTTPS is tried first.
    pub insecure_registries: Vec<String>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// A downloaded layer and the lock on it.
struct Fetched {
    guard: KeyedGuard,
    /// None if the layer was there.
    blob: Option<PathBuf>,
}

/// What the blocking parts of a pull share, and what ends with the last of them.
struct Shared {
    // Before the ingest: its end collects, and then the files should be gone.
    temp: TempDir,
    ingest: Ingest,
    doc: ImageDoc,
    budget: Budget,
    progress: ProgressFn,
    name: String,
    /// Closed after all of the above is gone.
    _done: oneshot::Sender<()>,
}

impl Store {
    /// Pulls the image for this machine's platform, verifying every digest. On failure nothing of it stays.
    /// A name with a digest that the store has is answered without asking.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: &Auth,
        options: &PullOptions,
        progress: &ProgressFn,
    ) -> Result<ImageInfo> {
        if reference.digest().is_some()
            && let Some(info) = self.info(reference)
        {
            return Ok(info);
        }
        let ingest = self.inner.ingest();
        let registry = Registry::connect(reference, auth, options).await?;
        let (manifest, manifest_digest, list_digests) =
            manifest_for_host(&registry, reference).await?;
        let object = format!("{}: manifest {manifest_digest}", registry.name());
        let parsed = parse_manifest(&object, &manifest)?;
        let config = registry.config(&parsed.config).await?;
        let doc = image_doc(&object, manifest_digest, &parsed, &config)?;
        let transported = doc
            .layers
            .iter()
            .fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        within(
            "size of all layers in bytes",
            transported,
            options.limits.unpacked_bytes_max,
        )
        .map_err(|fault| Error::invalid(&object, fault))?;
        let (done, all_done) = oneshot::channel();
        let shared = Arc::new(Shared {
            temp: ingest.inner.temp()?,
            ingest,
            doc,
            budget: Budget::new(options.limits),
            progress: progress.clone(),
            name: registry.name().to_owned(),
            _done: done,
        });
        let result = match layers(&registry, &shared).await {
            Ok(layers) => {
                let record = Record {
                    manifest: manifest_digest,
                    list_digests,
                    // A name with a digest pins an image and moves no tag.
                    references: reference
                        .digest()
                        .is_none()
                        .then(|| reference.clone())
                        .into_iter()
                        .collect(),
                    created: shared.doc.created.clone(),
                    layers,
                    pulled: true,
                    last_used_s: seconds(SystemTime::now()),
                };
                let shared = shared.clone();
                blocking(move || {
                    let inner = &shared.ingest.inner;
                    inner.put_blob(&manifest_digest, &manifest)?;
                    inner.put_blob(&shared.doc.id, &config)?;
                    inner.commit(vec![(shared.doc.id, record)])
                })
                .await
            }
            Err(error) => Err(error),
        };
        // Removes what is left, which may take a while, and waits for threads that still held it.
        blocking(move || {
            drop(shared);
            Ok(())
        })
        .await?;
        let _ = all_done.await;
        result?.pop().ok_or_else(|| Error::NotFound {
            name: reference.familiar(),
            looked_for: reference.to_string(),
        })
    }
}

/// The manifest that a name leads to on this machine, and the digests of the indexes on the way.
async fn manifest_for_host(
    registry: &Registry,
    reference: &Reference,
) -> Result<(Vec<u8>, Digest, BTreeSet<Digest>)> {
    #[derive(Deserialize)]
    struct Shape {
        manifests: Option<serde::de::IgnoredAny>,
    }
    let mut lists = BTreeSet::new();
    let (mut bytes, mut digest) = registry.manifest(reference.digest()).await?;
    loop {
        let object = format!("{}: manifest {digest}", registry.name());
        if parse::<Shape>(&object, &bytes)?.manifests.is_none() {
            return Ok((bytes, digest, lists));
        }
        lists.insert(digest);
        if lists.len() > INDEX_DEPTH_MAX {
            return Err(Error::invalid(
                object,
                Fault::Malformed("indexes nest too deep".to_owned()),
            ));
        }
        let index: Index = parse(&object, &bytes)?;
        let entry = select(&object, &index, &Platform::host())?;
        (bytes, digest) = registry.manifest(Some(entry.digest(&object)?)).await?;
    }
}

/// Downloads and unpacks all layers.
async fn layers(registry: &Registry, shared: &Arc<Shared>) -> Result<Vec<LayerRecord>> {
    let (senders, receivers): (Vec<_>, Vec<_>) = shared
        .doc
        .layers
        .iter()
        .map(|_| oneshot::channel::<Fetched>())
        .unzip();
    let fetches: Vec<_> = senders
        .into_iter()
        .enumerate()
        .map(|(at, sender)| fetch_and_tell(registry, shared, at, sender))
        .collect();
    // Begun in order: no lock waits for a later layer's.
    let downloads = stream::iter(fetches)
        .buffer_unordered(DOWNLOADS_MAX)
        .try_collect::<()>();
    let unpacking = async {
        let mut layers = Vec::new();
        for (at, receiver) in receivers.into_iter().enumerate() {
            // The download failed, and says why itself.
            let Ok(fetched) = receiver.await else {
                return Ok(Vec::new());
            };
            let shared = shared.clone();
            layers.push(blocking(move || unpack_fetched(&shared, at, fetched)).await?);
        }
        Ok(layers)
    };
    let ((), layers) = futures_util::try_join!(downloads, unpacking)?;
    Ok(layers)
}

async fn fetch_and_tell(
    registry: &Registry,
    shared: &Arc<Shared>,
    at: usize,
    sender: oneshot::Sender<Fetched>,
) -> Result<()> {
    // Nobody listens once an unpacking failed; that error is the one to tell.
    let _ = sender.send(fetch(registry, shared, at).await?);
    Ok(())
}

async fn fetch(registry: &Registry, shared: &Arc<Shared>, at: usize) -> Result<Fetched> {
    let layer = &shared.doc.layers[at];
    let inner = &shared.ingest.inner;
    let guard = inner.layer_locks.lock(layer.chain_id).await;
    if inner.layer_bytes(&layer.chain_id).is_some() {
        return Ok(Fetched { guard, blob: None });
    }
    let path = shared.temp.path().join(at.to_string());
    download(registry, shared, layer, &path).await?;
    Ok(Fetched {
        guard,
        blob: Some(path),
    })
}

fn unpack_fetched(shared: &Shared, at: usize, fetched: Fetched) -> Result<LayerRecord> {
    let layer = &shared.doc.layers[at];
    let job = LayerJob {
        image: &shared.name,
        layer,
        below: &shared.doc.layers[..at],
        budget: &shared.budget,
        progress: &shared.progress,
    };
    let blob = fetched.blob.as_deref();
    let bytes = shared
        .ingest
        .inner
        .unpack_layer(&job, blob.unwrap_or(Path::new("")))?;
    if let Some(blob) = blob {
        // Room for the next.
        let _ = std::fs::remove_file(blob);
    }
    drop(fetched.guard);
    Ok(LayerRecord {
        diff_id: layer.diff_id,
        chain_id: layer.chain_id,
        bytes,
    })
}

/// Downloads a blob to a file, counting and hashing on a thread of its own.
async fn download(
    registry: &Registry,
    shared: &Arc<Shared>,
    layer: &LayerDoc,
    path: &Path,
) -> Result<()> {
    let object = format!("{}: layer {}", registry.name(), layer.blob);
    let mut stream = registry.blob(&layer.blob).await?.stream;
    let mut counter = Counter::new(
        &shared.progress,
        layer.diff_id.short(),
        Phase::Downloading,
        Some(layer.size),
    );
    let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    let (to, held) = (path.to_owned(), shared.clone());
    let writing = blocking(move || {
        let written = write(receiver, &to);
        drop(held);
        written
    });
    let reading = async {
        // Inside, so that the writer hears of the end however reading ends.
        let sender = sender;
        let mut left = layer.size;
        while let Some(chunk) = stream
            .try_next()
            .await
            .map_err(|error| registry.broken(error, &object))?
        {
            let n = chunk.len() as u64;
            left = left.checked_sub(n).ok_or_else(|| {
                Error::invalid(
                    &object,
                    Fault::TooLarge {
                        what: "layer in bytes",
                        limit: layer.size,
                    },
                )
            })?;
            counter.add(n);
            if sender.send(chunk).await.is_err() {
                // The disk failed, and says why itself.
                break;
            }
        }
        Ok(())
    };
    let (read, written) = futures_util::join!(reading, writing);
    read?;
    let (bytes, digest) = written?;
    if bytes != layer.size {
        return Err(Error::invalid(
            object,
            Fault::WrongSize {
                expected: layer.size,
                actual: bytes,
            },
        ));
    }
    if digest != layer.blob {
        return Err(Error::wrong_digest(object, layer.blob, digest));
    }
    Ok(())
}

fn write(mut chunks: mpsc::Receiver<Bytes>, path: &Path) -> Result<(u64, Digest)> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    let mut hasher = Hasher::default();
    let mut bytes = 0;
    while let Some(chunk) = chunks.blocking_recv() {
        hasher.update(&chunk);
        file.write_all(&chunk).map_err(Error::io("write", path))?;
        bytes += chunk.len() as u64;
    }
    Ok((bytes, hasher.finish()))
}

/// Runs on a blocking thread; a panic there is one here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down.
            Err(error) => Err(Error::io("finish", Path::new("pull"))(
                std::io::Error::other(error),
            )),
        },
    }
}
