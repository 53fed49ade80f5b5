//! Packs root file systems into image archives, without Docker.
//!
//! The same input gives the same bytes. With `--shared-with`, what is alike in both root file systems
//! becomes a layer of its own, which comes out the same for either: two images then share it.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, Metadata},
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// Pack a root file system into an image archive
#[derive(Parser)]
#[command(
    after_help = "Example:\n  mkimage --rootfs build/redis --shared-with build/flask --name redis:7 \\\n    \
    --config '{\"Entrypoint\":[\"redis-server\"],\"User\":\"redis\"}' -o redis.tar"
)]
struct Cli {
    /// The folder to pack
    #[arg(long)]
    rootfs: PathBuf,
    /// Another one: what is alike in both goes into the first layer
    #[arg(long)]
    shared_with: Option<PathBuf>,
    /// The image's name and tag
    #[arg(long)]
    name: String,
    /// The image's config, as JSON with Docker's keys: Env, Entrypoint, Cmd, User, WorkingDir, ...
    #[arg(long, default_value = "{}")]
    config: String,
    /// The kind of archive
    #[arg(long, value_enum, default_value = "docker")]
    format: Format,
    /// Where to write it
    #[arg(short)]
    output: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As `docker save` writes it
    Docker,
    /// An OCI image layout, with gzip layers
    Oci,
}

/// A blob that is ready to go into the archive.
struct Blob {
    digest: String,
    size: u64,
    data: File,
}

struct Layer {
    /// Digest of the uncompressed tar.
    diff_id: String,
    blob: Blob,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if !cli.name.contains(':') {
        bail!("--name {} has no tag: say {}:1", cli.name, cli.name);
    }
    let config: Value = serde_json::from_str(&cli.config).context("--config is not JSON")?;
    let tree = tree(&cli.rootfs)?;
    let mut sets = vec![tree];
    if let Some(other) = &cli.shared_with {
        let all = sets.remove(0);
        let (shared, own) = split(&cli.rootfs, all, other)?;
        sets = vec![shared, own];
    }
    let mut layers = Vec::new();
    for set in sets.iter().filter(|s| !s.is_empty()) {
        layers.push(layer(&cli.rootfs, set, cli.format)?);
    }
    let image = image_config(&config, &layers);
    // Whole or not at all.
    let part = cli.output.with_extension("part");
    let write = || -> Result<()> {
        let mut archive = tar::Builder::new(BufWriter::new(File::create(&part)?));
        match cli.format {
            Format::Docker => write_docker(&mut archive, &cli.name, &image, layers)?,
            Format::Oci => write_oci(&mut archive, &cli.name, &image, layers)?,
        }
        archive
            .into_inner()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_data()?;
        fs::rename(&part, &cli.output)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", cli.output.display()))
}

/// All that is to be packed below `root`, by relative path. Devices and sockets are left out.
fn tree(root: &Path) -> Result<BTreeMap<PathBuf, Metadata>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        for entry in
            fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?
        {
            let entry = entry?;
            let meta = entry.metadata()?;
            let name = folder.join(entry.file_name());
            if meta.is_dir() {
                folders.push(name.clone());
            } else if !meta.is_file() && !meta.is_symlink() {
                continue;
            }
            found.insert(name, meta);
        }
    }
    Ok(found)
}

type Tree = BTreeMap<PathBuf, Metadata>;

/// What is alike in `other`, and what isn't.
fn split(root: &Path, all: Tree, other: &Path) -> Result<(Tree, Tree)> {
    let (mut shared, mut own) = (BTreeMap::new(), BTreeMap::new());
    for (name, meta) in all {
        let alike = match fs::symlink_metadata(other.join(&name)) {
            Ok(theirs) => alike(&root.join(&name), &meta, &other.join(&name), &theirs)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("cannot read {}", other.join(&name).display()));
            }
        };
        if alike { &mut shared } else { &mut own }.insert(name, meta);
    }
    Ok((shared, own))
}

fn alike(path: &Path, meta: &Metadata, other_path: &Path, other: &Metadata) -> Result<bool> {
    if (meta.mode(), meta.uid(), meta.gid()) != (other.mode(), other.uid(), other.gid()) {
        return Ok(false);
    }
    if meta.is_dir() {
        return Ok(true);
    }
    if meta.is_symlink() {
        return Ok(fs::read_link(path)? == fs::read_link(other_path)?);
    }
    // A link within one layer has to find its target there.
    let plain = meta.nlink() == 1 && other.nlink() == 1;
    Ok(plain
        && meta.len() == other.len()
        && meta.mtime() == other.mtime()
        && fs::read(path)? == fs::read(other_path)?)
}

fn layer(root: &Path, set: &Tree, format: Format) -> Result<Layer> {
    let mut builder = tar::Builder::new(Hashing::new(BufWriter::new(tempfile::tempfile()?)));
    let mut inodes: HashMap<u64, PathBuf> = HashMap::new();
    for (name, meta) in set {
        add(&mut builder, root, name, meta, &mut inodes)
            .with_context(|| format!("cannot pack {}", root.join(name).display()))?;
    }
    let (diff_id, size, data) = builder.into_inner()?.finish()?;
    let mut data = data.into_inner().map_err(io::IntoInnerError::into_error)?;
    data.rewind()?;
    let blob = match format {
        Format::Docker => Blob {
            digest: diff_id.clone(),
            size,
            data,
        },
        Format::Oci => gzip(data)?,
    };
    Ok(Layer { diff_id, blob })
}

fn add<W: Write>(
    builder: &mut tar::Builder<W>,
    root: &Path,
    name: &Path,
    meta: &Metadata,
    inodes: &mut HashMap<u64, PathBuf>,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_size(0);
    // A folder's time is when its entries were made here; a link's the same.
    header.set_mtime(0);
    if meta.is_dir() {
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, name, io::empty())?;
    } else if meta.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        builder.append_link(&mut header, name, fs::read_link(root.join(name))?)?;
    } else {
        // Python trusts a compiled file only if the source's time is the one it recorded.
        header.set_mtime(u64::try_from(meta.mtime())?);
        if let Some(first) = inodes.get(&meta.ino()).filter(|_| meta.nlink() > 1) {
            header.set_entry_type(EntryType::Link);
            builder.append_link(&mut header, name, first)?;
            return Ok(());
        }
        inodes.insert(meta.ino(), name.to_owned());
        header.set_entry_type(EntryType::Regular);
        header.set_size(meta.len());
        builder.append_data(
            &mut header,
            name,
            BufReader::new(File::open(root.join(name))?),
        )?;
    }
    Ok(())
}

fn gzip(mut data: File) -> Result<Blob> {
    let out = Hashing::new(BufWriter::new(tempfile::tempfile()?));
    let mut encoder = GzEncoder::new(out, Compression::fast());
    io::copy(&mut data, &mut encoder)?;
    let (digest, size, data) = encoder.finish()?.finish()?;
    let mut data = data.into_inner().map_err(io::IntoInnerError::into_error)?;
    data.rewind()?;
    Ok(Blob { digest, size, data })
}

fn image_config(config: &Value, layers: &[Layer]) -> Vec<u8> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let history: Vec<Value> = layers
        .iter()
        .map(|_| json!({"created": EPOCH, "created_by": "mkimage"}))
        .collect();
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|l| format!("sha256:{}", l.diff_id))
        .collect();
    let image = json!({
        "created": EPOCH,
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    });
    image.to_string().into_bytes()
}

const EPOCH: &str = "1970-01-01T00:00:00Z";

fn write_docker<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    image: &[u8],
    layers: Vec<Layer>,
) -> Result<()> {
    let config = format!("{}.json", digest_of(image));
    put(archive, &config, image)?;
    let mut names = Vec::new();
    for mut layer in layers {
        let path = format!("{}/layer.tar", layer.diff_id);
        put_stream(archive, &path, layer.blob.size, &mut layer.blob.data)?;
        names.push(path);
    }
    let manifest = json!([{"Config": config, "RepoTags": [name], "Layers": names}]);
    put(archive, "manifest.json", manifest.to_string().as_bytes())
}

fn write_oci<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    image: &[u8],
    layers: Vec<Layer>,
) -> Result<()> {
    let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
    put(archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut descriptors = Vec::new();
    for mut layer in layers {
        let blob = &mut layer.blob;
        put_stream(
            archive,
            &format!("blobs/sha256/{}", blob.digest),
            blob.size,
            &mut blob.data,
        )?;
        descriptors.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{}", blob.digest),
            "size": blob.size,
        }));
    }
    put(
        archive,
        &format!("blobs/sha256/{}", digest_of(image)),
        image,
    )?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{}", digest_of(image)),
            "size": image.len(),
        },
        "layers": descriptors,
    })
    .to_string();
    let digest = digest_of(manifest.as_bytes());
    put(
        archive,
        &format!("blobs/sha256/{digest}"),
        manifest.as_bytes(),
    )?;
    // As Docker's and containerd's own exports name it.
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{digest}"),
            "size": manifest.len(),
            "annotations": {
                "io.containerd.image.name": format!("docker.io/library/{name}"),
                "org.opencontainers.image.ref.name": tag,
            },
        }],
    });
    put(archive, "index.json", index.to_string().as_bytes())
}

fn put<W: Write>(archive: &mut tar::Builder<W>, name: &str, data: &[u8]) -> Result<()> {
    put_stream(
        archive,
        name,
        u64::try_from(data.len())?,
        &mut io::Cursor::new(data),
    )
}

fn put_stream<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    data: &mut impl Read,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_entry_type(EntryType::Regular);
    archive
        .append_data(&mut header, name, data)
        .with_context(|| format!("cannot add {name}"))
}

fn digest_of(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn finish(mut self) -> io::Result<(String, u64, W)> {
        self.inner.flush()?;
        Ok((hex(&self.hash.finalize()), self.size, self.inner))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.hash.update(&buf[..written]);
        self.size += u64::try_from(written).map_err(io::Error::other)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
