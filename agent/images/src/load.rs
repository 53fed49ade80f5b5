//! Loads images from an OCI layout or an archive of `docker save`: everything is checked before anything is
//! kept, and all images of an archive come or none.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use crate::archive::{Source, Staged};
use crate::digest::{Digest, ImageId};
use crate::document::{
    Descriptor, ImageDoc, Index, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform,
    image_doc, parse, parse_manifest, select,
};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::index::{LayerRecord, Record, seconds};
use crate::layer::LayerJob;
use crate::limits::{Budget, Limits};
use crate::progress::ProgressFn;
use crate::reference::Reference;
use crate::store::{ImageInfo, Inner, Store};

/// Indexes in indexes are followed no further than this.
const INDEX_DEPTH_MAX: usize = 4;
/// An image's full name, as containerd and Docker write it into a layout.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// A tag, or a full name, by the OCI image spec.
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Bounds on what the archive may take.
    pub limits: Limits,
    /// A name for the image, besides those the archive gives. Only for an archive of one image.
    pub name: Option<Reference>,
}

/// An image of a source, found whole.
pub(crate) struct Candidate {
    pub(crate) doc: ImageDoc,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Vec<Staged>,
    references: BTreeSet<Reference>,
}

impl Store {
    /// Loads all images of a tar archive: an OCI layout or what `docker save` writes, plain or compressed.
    /// `object` names the archive in errors. On failure nothing of it stays.
    pub fn load(
        &self,
        object: &str,
        reader: impl Read + Send,
        options: &LoadOptions,
        progress: &ProgressFn,
    ) -> Result<Vec<ImageInfo>> {
        let ingest = self.inner.ingest();
        // The archive's blobs and the unpacked layers are bounded each.
        let budget = Budget::new(options.limits);
        let source = Source::archive(object, reader, ingest.inner.temp()?, &budget, progress)?;
        load_source(&ingest.inner, &source, options, progress)
    }

    /// Loads a file as [`load`](Self::load) does, or a folder that is an OCI layout.
    pub fn load_path(
        &self,
        path: &Path,
        options: &LoadOptions,
        progress: &ProgressFn,
    ) -> Result<Vec<ImageInfo>> {
        let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
        if metadata.is_dir() {
            let ingest = self.inner.ingest();
            let source = Source::folder(path, ingest.inner.temp()?, options.limits);
            return load_source(&ingest.inner, &source, options, progress);
        }
        let file = File::open(path).map_err(Error::io("read", path))?;
        self.load(&path.display().to_string(), file, options, progress)
    }
}

fn load_source(
    inner: &Inner,
    source: &Source,
    options: &LoadOptions,
    progress: &ProgressFn,
) -> Result<Vec<ImageInfo>> {
    let mut candidates = candidates(source)?;
    if let Some(name) = &options.name {
        match candidates.as_mut_slice() {
            [only] => drop(only.references.insert(name.clone())),
            several => {
                return Err(Error::invalid(
                    &source.object,
                    Fault::NameForSeveral(several.len()),
                ));
            }
        }
    }
    let budget = Budget::new(options.limits);
    let now = seconds(SystemTime::now());
    let mut records = Vec::new();
    for candidate in candidates {
        let doc = &candidate.doc;
        let mut layers = Vec::new();
        for (at, (layer, staged)) in doc.layers.iter().zip(&candidate.layers).enumerate() {
            let _guard = inner.layer_locks.lock_blocking(layer.chain_id);
            let below = &doc.layers[..at];
            let job = LayerJob {
                image: &source.object,
                layer,
                below,
                budget: &budget,
                progress,
            };
            let bytes = inner.unpack_layer(&job, &staged.path)?;
            layers.push(LayerRecord {
                diff_id: layer.diff_id,
                chain_id: layer.chain_id,
                bytes,
            });
        }
        inner.put_blob(&doc.manifest_digest, &candidate.manifest)?;
        inner.put_blob(&doc.id, &candidate.config)?;
        let record = Record {
            manifest: doc.manifest_digest,
            list_digests: BTreeSet::new(),
            references: candidate.references,
            created: doc.created.clone(),
            layers,
            pulled: false,
            last_used_s: now,
        };
        records.push((doc.id, record));
    }
    inner.commit(records)
}

impl Inner {
    /// Keeps a manifest or config. It is synced with the commit.
    pub(crate) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let temp = self.temp()?;
        let (from, to) = (temp.path().join("blob"), self.blob_path(digest));
        fs::write(&from, bytes).map_err(Error::io("write", &from))?;
        fs::rename(&from, &to).map_err(Error::io("create", &to))
    }
}

/// All images of a source, each found whole and named. Nothing is unpacked yet.
fn candidates(source: &Source) -> Result<Vec<Candidate>> {
    let layout = source.document("index.json")?;
    let saved = source.document("manifest.json")?;
    let mut found = match (&layout, &saved) {
        (Some(bytes), _) => from_layout(source, bytes)?,
        (None, Some(bytes)) => return from_saved(source, bytes),
        (None, None) => return Err(Error::invalid(&source.object, Fault::NotAnImage)),
    };
    // Newer `docker save` writes both: the layout has the manifests, the other file the names.
    if let Some(bytes) = &saved {
        let object = format!("{}: manifest.json", source.object);
        for saved in parse::<Vec<SavedImage>>(&object, bytes)? {
            let hex = saved
                .config
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches(".json");
            let Ok(id) = Digest::from_hex(hex) else {
                continue;
            };
            for candidate in found.iter_mut().filter(|candidate| candidate.doc.id == id) {
                candidate.references.extend(names(
                    &object,
                    saved.repo_tags.as_deref().unwrap_or_default(),
                )?);
            }
        }
    }
    Ok(found)
}

/// An OCI layout's images that fit this machine.
fn from_layout(source: &Source, index: &[u8]) -> Result<Vec<Candidate>> {
    let object = format!("{}: index.json", source.object);
    let index: Index = parse(&object, index)?;
    let host = Platform::host();
    let foreign = |entry: &Descriptor| {
        entry.platform.as_ref().is_some_and(|p| {
            !p.os.is_empty() && (p.os != host.os || p.architecture != host.architecture)
        })
    };
    // A single foreign image is taken (it may run emulated); of several the fitting ones.
    let choose = index.manifests.len() > 1;
    let mut candidates: Vec<Candidate> = Vec::new();
    for entry in &index.manifests {
        if choose && foreign(entry) {
            continue;
        }
        let candidate = from_manifest(source, &object, entry, &host)?;
        match candidates
            .iter_mut()
            .find(|known| known.doc.id == candidate.doc.id)
        {
            Some(known) => known.references.extend(candidate.references),
            None => candidates.push(candidate),
        }
    }
    if candidates.is_empty() {
        select(&object, &index, &host)?;
    }
    Ok(candidates)
}

fn from_manifest(
    source: &Source,
    object: &str,
    entry: &Descriptor,
    host: &Platform,
) -> Result<Candidate> {
    let references = annotated(object, entry)?;
    let mut entry = entry.clone();
    let mut digest = entry.digest(object)?;
    let mut manifest = blob_document(source, object, &entry, "manifest")?;
    for depth in 0.. {
        if !is_index(&entry, &manifest) {
            break;
        }
        let object = format!("{}: index {digest}", source.object);
        if depth == INDEX_DEPTH_MAX {
            return Err(Error::invalid(
                object,
                Fault::Malformed("indexes nest too deep".to_owned()),
            ));
        }
        let index: Index = parse(&object, &manifest)?;
        entry = select(&object, &index, host)?.clone();
        digest = entry.digest(&object)?;
        manifest = blob_document(source, &object, &entry, "manifest")?;
    }
    let object = format!("{}: manifest {digest}", source.object);
    let parsed = parse_manifest(&object, &manifest)?;
    let config = blob_document(source, &object, &parsed.config, "config")?;
    let doc = image_doc(&object, digest, &parsed, &config)?;
    let mut layers = Vec::new();
    for layer in &parsed.layers {
        let expected = layer.digest(&object)?;
        let staged = source.staged(&blob_name(&expected))?.ok_or_else(|| {
            Error::invalid(&object, Fault::MissingBlob(format!("layer {expected}")))
        })?;
        let blob = format!("{}: layer {expected}", source.object);
        if staged.digest != expected {
            return Err(Error::wrong_digest(blob, expected, staged.digest));
        }
        if staged.bytes != layer.size {
            return Err(Error::invalid(
                blob,
                Fault::WrongSize {
                    expected: layer.size,
                    actual: staged.bytes,
                },
            ));
        }
        layers.push(staged);
    }
    Ok(Candidate {
        doc,
        manifest,
        config,
        layers,
        references,
    })
}

/// Some layouts leave media types out; then what it holds tells.
fn is_index(entry: &Descriptor, bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        manifests: Option<serde::de::IgnoredAny>,
    }
    entry.is_index()
        || serde_json::from_slice::<Shape>(bytes).is_ok_and(|shape| shape.manifests.is_some())
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A manifest or config blob, its digest checked.
fn blob_document(source: &Source, object: &str, entry: &Descriptor, what: &str) -> Result<Vec<u8>> {
    let expected = entry.digest(object)?;
    let bytes = source
        .document(&blob_name(&expected))?
        .ok_or_else(|| Error::invalid(object, Fault::MissingBlob(format!("{what} {expected}"))))?;
    match Digest::of(&bytes) {
        actual if actual == expected => Ok(bytes),
        actual => Err(Error::wrong_digest(
            format!("{}: {what} {expected}", source.object),
            expected,
            actual,
        )),
    }
}

/// Names a layout's entry carries. A bare tag (`latest`) names no repository, so it is none.
fn annotated(object: &str, entry: &Descriptor) -> Result<BTreeSet<Reference>> {
    let mut texts: Vec<String> = entry
        .annotations
        .get(NAME_ANNOTATION)
        .cloned()
        .into_iter()
        .collect();
    if let Some(name) = entry.annotations.get(REF_ANNOTATION)
        && name.contains([':', '/', '@'])
    {
        texts.push(name.clone());
    }
    names(object, &texts)
}

/// Parses names; tags only, since a digest needs no entry.
fn names(object: &str, texts: &[String]) -> Result<BTreeSet<Reference>> {
    let mut names = BTreeSet::new();
    for text in texts {
        match text.parse::<Reference>() {
            Ok(reference) => names.extend(reference.without_digest()),
            Err(Error::BadReference { name, reason }) => {
                return Err(Error::invalid(object, Fault::BadName { name, reason }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// An entry of `docker save`'s manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of a `docker save` archive without a layout. It has no manifests, so they get one.
fn from_saved(source: &Source, bytes: &[u8]) -> Result<Vec<Candidate>> {
    let object = format!("{}: manifest.json", source.object);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut seen: HashSet<ImageId> = HashSet::new();
    let saved: Vec<SavedImage> = parse(&object, bytes)?;
    if saved.is_empty() {
        return Err(Error::invalid(object, Fault::NotAnImage));
    }
    for image in saved {
        let missing = |name: &str| {
            let shown: String = name.chars().take(200).collect();
            Error::invalid(&object, Fault::MissingBlob(format!("file `{shown}`")))
        };
        let config = source
            .document(&image.config)?
            .ok_or_else(|| missing(&image.config))?;
        let id = Digest::of(&config);
        // Its name is its digest, so a changed config shows.
        let hex = image
            .config
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".json");
        if let Ok(expected) = Digest::from_hex(hex)
            && expected != id
        {
            return Err(Error::wrong_digest(
                format!("{object}: config {hex}"),
                expected,
                id,
            ));
        }
        let references = names(&object, image.repo_tags.as_deref().unwrap_or_default())?;
        if !seen.insert(id) {
            for known in candidates.iter_mut().filter(|known| known.doc.id == id) {
                known.references.extend(references.clone());
            }
            continue;
        }
        let mut layers = Vec::new();
        for name in image.layers.unwrap_or_default() {
            layers.push(source.staged(&name)?.ok_or_else(|| missing(&name))?);
        }
        let descriptor = |media_type: &str, digest: Digest, size: u64| Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size,
            platform: None,
            annotations: Default::default(),
        };
        let parsed = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: descriptor(OCI_CONFIG, id, config.len() as u64),
            layers: layers
                .iter()
                .map(|layer| descriptor(OCI_LAYER, layer.digest, layer.bytes))
                .collect(),
        };
        let manifest = serde_json::to_vec(&parsed)
            .map_err(|error| Error::invalid(&object, Fault::Malformed(error.to_string())))?;
        let doc = image_doc(&object, Digest::of(&manifest), &parsed, &config)?;
        candidates.push(Candidate {
            doc,
            manifest,
            config,
            layers,
            references,
        });
    }
    Ok(candidates)
}
