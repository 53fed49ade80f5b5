//! Builds images and archives in memory for the tests.
#![allow(dead_code)]

pub mod registry;

use std::collections::BTreeMap;
use std::path::Path;

use images::{Digest, LoadOptions, Reference, Store, quiet};
use tar::{Builder, EntryType, Header};

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A layer's tar under construction.
pub struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Any entry. Names are written as they are, hostile ones too.
    pub fn raw(
        mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        owner: (u64, u64),
        link: &str,
        data: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        set_name(&mut header, path, link);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn file(self, path: &str, data: &str) -> Self {
        self.raw(path, EntryType::Regular, 0o644, (0, 0), "", data.as_bytes())
    }

    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.raw(path, EntryType::Directory, mode, (0, 0), "", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(path, EntryType::Symlink, 0o777, (0, 0), target, b"")
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        self.raw(path, EntryType::Link, 0o644, (0, 0), target, b"")
    }

    pub fn device(mut self, path: &str, kind: EntryType, major: u32, minor: u32) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_size(0);
        set_name(&mut header, path, "");
        header.set_cksum();
        self.0.append(&header, &[][..]).unwrap();
        self
    }

    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    pub fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn set_name(header: &mut Header, path: &str, link: &str) {
    let old = header.as_old_mut();
    assert!(path.len() <= 100 && link.len() <= 100);
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An image: media type and bytes of each layer's blob, and its unpacked digest.
#[derive(Clone)]
pub struct TestImage {
    pub layers: Vec<(String, Vec<u8>)>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl TestImage {
    /// Compresses the layers as their types say.
    pub fn new(tars: Vec<(&str, Vec<u8>)>) -> Self {
        Self::with_config(
            tars,
            serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["/bin/run"], "User": "app" }),
        )
    }

    pub fn with_config(tars: Vec<(&str, Vec<u8>)>, config: serde_json::Value) -> Self {
        let diff_ids: Vec<Digest> = tars.iter().map(|(_, tar)| Digest::of(tar)).collect();
        let config = serde_json::json!({
            "architecture": host_arch(), "os": "linux", "created": "2024-05-06T07:08:09Z",
            "config": config, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let layers = tars
            .into_iter()
            .map(|(kind, tar)| {
                let blob = match kind {
                    GZIP => gzip(&tar),
                    ZSTD => zstd(&tar),
                    _ => tar,
                };
                (kind.to_owned(), blob)
            })
            .collect();
        let mut image = Self {
            layers,
            config: serde_json::to_vec(&config).unwrap(),
            manifest: Vec::new(),
        };
        image.describe();
        image
    }

    /// Writes the manifest anew, after a change.
    pub fn describe(&mut self) {
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|(kind, blob)| descriptor(kind, blob))
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &self.config), "layers": layers,
        });
        self.manifest = serde_json::to_vec(&manifest).unwrap();
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// The files of an OCI layout.
    pub fn layout(&self, name: Option<&str>) -> BTreeMap<String, Vec<u8>> {
        let mut entry = descriptor(MANIFEST, &self.manifest);
        if let Some(name) = name {
            entry["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": name });
        }
        let mut files = self.blobs();
        files.insert(
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        );
        let index =
            serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        files.insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
        files
    }

    pub fn blobs(&self) -> BTreeMap<String, Vec<u8>> {
        let blobs = self
            .layers
            .iter()
            .map(|(_, blob)| blob)
            .chain([&self.config, &self.manifest]);
        blobs.map(|blob| (blob_name(blob), blob.clone())).collect()
    }

    /// The files of an old `docker save`. Layers must be plain.
    pub fn saved(&self, tags: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut names = Vec::new();
        for (at, (_, blob)) in self.layers.iter().enumerate() {
            names.push(format!("{at}abc/layer.tar"));
            files.insert(names[at].clone(), blob.clone());
        }
        let config = format!("{}.json", self.id().hex());
        let manifest = serde_json::json!([{ "Config": config, "RepoTags": tags, "Layers": names }]);
        files.insert(config, self.config.clone());
        files.insert(
            "manifest.json".to_owned(),
            serde_json::to_vec(&manifest).unwrap(),
        );
        files
    }
}

pub fn descriptor(kind: &str, blob: &[u8]) -> serde_json::Value {
    serde_json::json!({ "mediaType": kind, "digest": Digest::of(blob), "size": blob.len() })
}

pub fn blob_name(blob: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::of(blob).hex())
}

pub fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Packs files as an archive.
pub fn pack(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, &data[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Loads an archive with the defaults.
pub fn load(store: &Store, archive: &[u8]) -> images::Result<Vec<images::ImageInfo>> {
    store.load("test.tar", archive, &LoadOptions::default(), &quiet())
}

/// What the store's folders hold: blobs, layers, temporaries.
pub fn holds(dir: &Path) -> (usize, usize, usize) {
    let count = |name: &str| std::fs::read_dir(dir.join(name)).unwrap().count();
    (count("blobs/sha256"), count("layers"), count("tmp"))
}

/// Loads an archive that must be refused with all of `texts`, and looks for damage.
pub fn refused_with(
    store: &Store,
    dir: &Path,
    what: &str,
    archive: &[u8],
    options: &LoadOptions,
    texts: &[&str],
) {
    let error = match store.load("bad.tar", archive, options, &quiet()) {
        Ok(infos) => panic!("{what}: taken as {infos:?}"),
        Err(error) => error.full(),
    };
    for text in ["bad.tar"].iter().chain(texts) {
        assert!(error.contains(text), "{what}: `{text}` is not in `{error}`");
    }
    assert_eq!(holds(dir), (0, 0, 0), "{what}: left behind");
    assert!(store.list().is_empty(), "{what}");
}

/// An image of three layers: one that all have, one of its own, one more.
pub fn image(text: &str) -> TestImage {
    let base = Layer::new()
        .dir("etc", 0o755)
        .file("etc/base", &"shared ".repeat(50_000))
        .tar();
    let own = Layer::new()
        .file("own", text)
        .file("etc/.wh.base", "")
        .tar();
    TestImage::new(vec![
        (GZIP, base),
        (ZSTD, own),
        (PLAIN, Layer::new().file("top", "t").tar()),
    ])
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}
