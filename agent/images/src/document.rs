//! The JSON of images: indexes, manifests and configs, both OCI's and Docker's. Read leniently (unknown
//! fields are ignored, null is absent) and checked for what the store relies on.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::{Digest, ImageId};
use crate::error::{Error, Result};
use crate::fault::Fault;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What a layer may be. The compression is told by its bytes.
const LAYER_TYPES: [&str; 10] = [
    OCI_LAYER,
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// A pointer to a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn digest(&self, object: &str) -> Result<Digest> {
        self.digest.parse().map_err(|_| {
            let shown: String = self.digest.chars().take(100).collect();
            Error::invalid(object, Fault::BadDigest(format!("bad digest `{shown}`")))
        })
    }

    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_INDEX)
    }
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// Go's name for it: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// `v7` of arm, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    fn shown(&self) -> String {
        match &self.variant {
            Some(variant) => format!("{}/{}/{variant}", self.os, self.architecture),
            None => format!("{}/{}", self.os, self.architecture),
        }
    }
}

/// A list of images: of a layout, or of one image's platforms.
#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) manifests: Vec<Descriptor>,
}

/// One image for one platform.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    config: RawConfig,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "nullable")]
    diff_ids: Vec<String>,
}

type Set = BTreeMap<String, serde::de::IgnoredAny>;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    exposed_ports: Set,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    volumes: Set,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
}

/// How a container of the image runs, unless its service says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Put before `cmd`.
    pub entrypoint: Vec<String>,
    /// The command, or the entrypoint's arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// For [`resolve_user`](crate::resolve_user): `user[:group]`, names or numbers; empty for root.
    pub user: String,
    /// Absolute; empty for `/`.
    pub working_dir: String,
    /// `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Folders the image wants on a volume.
    pub volumes: Vec<String>,
    /// Free-form.
    pub labels: BTreeMap<String, String>,
    /// `SIGQUIT`, `3`; none for SIGTERM.
    pub stop_signal: Option<String>,
    /// What it was built for. The store takes other platforms too (an emulator may run them).
    pub platform: Platform,
}

/// One layer as manifest and config describe it.
#[derive(Debug, Clone)]
pub(crate) struct LayerDoc {
    /// The blob's digest, as transported.
    pub(crate) blob: Digest,
    /// The blob's size in bytes.
    pub(crate) size: u64,
    /// The digest of its tar.
    pub(crate) diff_id: Digest,
    /// It and all below.
    pub(crate) chain_id: Digest,
}

/// A manifest and its config, found to agree.
#[derive(Debug, Clone)]
pub(crate) struct ImageDoc {
    pub(crate) id: ImageId,
    pub(crate) manifest_digest: Digest,
    pub(crate) created: Option<String>,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<LayerDoc>,
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(object: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(object, Fault::Malformed(error.to_string())))
}

/// Reads a manifest and refuses what holds no container image.
pub(crate) fn parse_manifest(object: &str, bytes: &[u8]) -> Result<Manifest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        #[serde(default)]
        schema_version: Option<u32>,
        #[serde(default)]
        media_type: Option<String>,
    }
    let kind: Kind = parse(object, bytes)?;
    let refuse = |media_type: String| Err(Error::invalid(object, Fault::MediaType(media_type)));
    match kind.media_type {
        Some(other) if !matches!(other.as_str(), "" | OCI_MANIFEST | DOCKER_MANIFEST) => {
            return refuse(other);
        }
        _ if kind.schema_version == Some(1) => {
            return refuse("application/vnd.docker.distribution.manifest.v1+json".to_owned());
        }
        _ => {}
    }
    let manifest: Manifest = parse(object, bytes)?;
    if !matches!(
        manifest.config.media_type.as_str(),
        "" | OCI_CONFIG | DOCKER_CONFIG
    ) {
        return refuse(manifest.config.media_type);
    }
    for layer in &manifest.layers {
        if !LAYER_TYPES.contains(&layer.media_type.as_str()) {
            return Err(Error::invalid(
                format!("{object}: layer {}", layer.digest(object)?),
                Fault::MediaType(layer.media_type.chars().take(100).collect()),
            ));
        }
    }
    Ok(manifest)
}

/// Puts a manifest and its config together. The config's digest was checked by the caller.
pub(crate) fn image_doc(
    object: &str,
    manifest_digest: Digest,
    manifest: &Manifest,
    config: &[u8],
) -> Result<ImageDoc> {
    let id = Digest::of(config);
    let object = &format!("{object}: config {id}");
    let file: ConfigFile = parse(object, config)?;
    let malformed = |reason: String| Error::invalid(object, Fault::Malformed(reason));
    if file.rootfs.diff_ids.len() != manifest.layers.len() {
        let (configured, listed) = (file.rootfs.diff_ids.len(), manifest.layers.len());
        return Err(malformed(format!(
            "it has {configured} diff_ids, its manifest {listed} layers"
        )));
    }
    let mut layers = Vec::new();
    let mut chain = None;
    for (layer, diff_id) in manifest.layers.iter().zip(&file.rootfs.diff_ids) {
        let diff_id: Digest = diff_id.parse().map_err(|error: crate::BadDigest| {
            Error::invalid(object, Fault::BadDigest(error.to_string()))
        })?;
        let chain_id = Digest::chain(chain.as_ref(), &diff_id);
        chain = Some(chain_id);
        layers.push(LayerDoc {
            blob: layer.digest(object)?,
            size: layer.size,
            diff_id,
            chain_id,
        });
    }
    let raw = file.config;
    Ok(ImageDoc {
        id,
        manifest_digest,
        created: file.created.filter(|created| !created.is_empty()),
        config: ImageConfig {
            entrypoint: raw.entrypoint,
            cmd: raw.cmd,
            env: raw.env,
            user: raw.user,
            working_dir: raw.working_dir,
            exposed_ports: raw.exposed_ports.into_keys().collect(),
            volumes: raw.volumes.into_keys().collect(),
            labels: raw.labels,
            stop_signal: raw.stop_signal.filter(|signal| !signal.is_empty()),
            platform: file.platform,
        },
        layers,
    })
}

/// The entry of an index for this machine. One without a platform fits if it is the only one.
pub(crate) fn select<'a>(
    object: &str,
    index: &'a Index,
    host: &Platform,
) -> Result<&'a Descriptor> {
    let fits = |entry: &&Descriptor| {
        entry
            .platform
            .as_ref()
            .is_some_and(|p| p.os == host.os && p.architecture == host.architecture)
    };
    if let Some(entry) = index.manifests.iter().find(fits) {
        return Ok(entry);
    }
    if let [only] = index.manifests.as_slice()
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let found: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .map(Platform::shown)
        .take(20)
        .collect();
    let found = if found.is_empty() {
        "none".to_owned()
    } else {
        found.join(", ")
    };
    Err(Error::invalid(
        object,
        Fault::Platform {
            wanted: host.shown(),
            found,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(diff_ids: &[Digest]) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({
            "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": { "Env": ["A=b"], "Cmd": null, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
                        "User": "redis", "Labels": null, "Entrypoint": ["/e"], "StopSignal": "SIGQUIT" },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }))
        .unwrap()
    }

    fn manifest(media_type: &str, layers: usize) -> Vec<u8> {
        let layer =
            serde_json::json!({ "mediaType": media_type, "digest": Digest::of(b"l"), "size": 1 });
        serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "config": { "mediaType": OCI_CONFIG, "digest": Digest::of(b"c"), "size": 1 },
            "layers": vec![layer; layers],
        }))
        .unwrap()
    }

    #[test]
    fn config_is_read_with_nulls() {
        let m = parse_manifest("m", &manifest(OCI_LAYER, 2)).unwrap();
        let (a, b) = (Digest::of(b"1"), Digest::of(b"2"));
        let doc = image_doc("m", Digest::of(b"m"), &m, &config(&[a, b])).unwrap();
        assert_eq!(doc.config.env, ["A=b"]);
        assert_eq!(doc.config.exposed_ports, ["80/tcp"]);
        assert_eq!(doc.config.volumes, ["/data"]);
        assert_eq!(doc.config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(doc.config.platform.architecture, "amd64");
        assert!(doc.config.cmd.is_empty());
        assert_eq!(doc.layers[0].chain_id, a);
        assert_eq!(doc.layers[1].chain_id, Digest::chain(Some(&a), &b));
    }

    #[test]
    fn disagreement_and_foreign_types_are_refused() {
        let m = parse_manifest("m", &manifest(OCI_LAYER, 2)).unwrap();
        let error = image_doc("m", Digest::of(b"m"), &m, &config(&[Digest::of(b"1")])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("1 diff_ids, its manifest 2 layers"),
            "{error}"
        );
        for bad in [
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "text/plain",
            "",
        ] {
            let error = parse_manifest("m", &manifest(bad, 1)).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Invalid {
                        fault: Fault::MediaType(_),
                        ..
                    }
                ),
                "{error}"
            );
        }
        let error = parse_manifest("m", br#"{"schemaVersion":1,"fsLayers":[]}"#).unwrap_err();
        assert!(error.to_string().contains("manifest.v1"), "{error}");
        assert!(parse_manifest("m", b"{").is_err());
    }

    #[test]
    fn the_host_platform_is_chosen() {
        let entry = |os: &str, arch: &str, name: &[u8]| Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: Digest::of(name).to_string(),
            size: 1,
            platform: Some(Platform {
                os: os.to_owned(),
                architecture: arch.to_owned(),
                variant: None,
            }),
            annotations: BTreeMap::new(),
        };
        let host = Platform {
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            variant: None,
        };
        let mut index = Index {
            manifests: vec![
                entry("linux", "amd64", b"a"),
                entry("unknown", "unknown", b"u"),
                entry("linux", "arm64", b"b"),
            ],
        };
        assert_eq!(
            select("x", &index, &host).unwrap().digest,
            Digest::of(b"b").to_string()
        );
        index.manifests.pop();
        let error = select("x", &index, &host).unwrap_err().to_string();
        assert!(
            error.contains("linux/arm64") && error.contains("linux/amd64, unknown/unknown"),
            "{error}"
        );
        index.manifests = vec![Descriptor {
            platform: None,
            ..entry("", "", b"c")
        }];
        assert!(select("x", &index, &host).is_ok());
    }
}
