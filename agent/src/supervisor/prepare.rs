//! Everything a container needs before it can start: image, volumes, network, files in /etc.

use super::{Assigned, Tools};
use crate::container::{ContainerError, Parts, Places, ReadyMount, assemble};
use crate::contents::Held;
use crate::disk::DiskError;
use crate::memory;
use crate::netview::{self, ViewError};
use crate::volume::{self, VolumeError};
use api::model::{BlobId, BlobRef, Mount, MountSource, TaskState, TaskStatus};
use images::{Image, Reference};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio_util::sync::CancellationToken;

/// Why a task can't run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("{}", .0.full())]
    Image(#[from] images::Error),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("bind mount: {path} is not there on this node; make it, or use a named volume")]
    NoSource { path: String },
    #[error("network: {0}")]
    Network(#[from] overlay::Error),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("can't {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("preparing was cut short")]
    Cancelled,
    #[error("image {name} is not on this node ({here}), and could not be pulled: {pull}")]
    NoImage {
        name: String,
        here: &'static str,
        pull: String,
    },
}

/// One pull at a time of each image: a hundred tasks of one image make one.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    locks: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Pulls {
    fn of(&self, image: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(image).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(image.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// A container ready to be started, and the descriptors its shim is to hold.
pub(crate) struct Prepared {
    pub container: runtime::ContainerSpec,
    pub held: Vec<OwnedFd>,
}

/// Makes everything. What it has made when it fails is removed by the cleaning that follows. Only a pull is
/// cut short when it is cancelled: what the disk and the network are doing is finished, so that the cleaning
/// comes after it.
pub(crate) async fn prepare(
    tools: &Arc<Tools>,
    assigned: &Assigned,
    cancel: &CancellationToken,
) -> Result<Prepared, PrepareError> {
    let places = tools.places(assigned.task.id);
    let image = tokio::select! {
        image = image(tools, &assigned.template.container.image) => image?,
        () = cancel.cancelled() => return Err(PrepareError::Cancelled),
    };
    let contents = tokio::select! {
        contents = contents(tools, assigned) => contents,
        () = cancel.cancelled() => return Err(PrepareError::Cancelled),
    };
    let net = netview::task_net(&assigned.task)?;
    // The network is made while the disk works.
    let (attached, made) = tokio::join!(
        tools.overlay.attach(net),
        files(tools, assigned, image.clone(), places.clone(), contents)
    );
    let (attached, files) = (attached?, made?);
    let parts = Parts {
        image: &image.config,
        rootfs: &files.rootfs,
        user: &files.user,
        mounts: &files.mounts,
        netns: &attached.netns,
        places: &places,
    };
    let mut container = assemble(&assigned.task, &assigned.template.container, &parts)?;
    let lease_ms = assigned.template.disconnect.lease_ms();
    container.lease = lease_ms.map(|lease_ms| runtime::lease::Terms {
        lease_ms,
        grace_ms: tools.stop_grace_ms,
    });
    Ok(Prepared {
        container,
        held: attached.dns_fds,
    })
}

/// What its secrets and configs hold; waits for what no manager has sent yet.
async fn contents(tools: &Arc<Tools>, assigned: &Assigned) -> Held {
    let blobs = &assigned.template.blobs;
    let wanted: Vec<BlobId> = blobs.iter().map(|on| on.blob).collect();
    if let Some(contents) = tools.contents.get(&wanted) {
        return contents;
    }
    let missing = blobs
        .iter()
        .filter(|on| tools.contents.get(&[on.blob]).is_none());
    let missing: Vec<String> = missing.map(|on| on.file.source.to_string()).collect();
    let message = format!(
        "waiting for {}: their content is not kept on this node, and a manager has yet to send it",
        missing.join(", ")
    );
    tracing::warn!(task = %assigned.task.name(), id = %assigned.task.id, "{message}");
    let status = TaskStatus {
        state: TaskState::Preparing,
        at: crate::clock::now(),
        message,
        ..TaskStatus::default()
    };
    tools.book.report(assigned.task.id, status);
    tools.contents.wait(&wanted).await
}

/// Makes the files of its secrets and configs.
fn secrets(
    blobs: &[BlobRef],
    contents: &Held,
    places: &Places,
) -> Result<Vec<ReadyMount>, PrepareError> {
    // What was found has all of them.
    let found = blobs
        .iter()
        .filter_map(|on| Some((on, contents.get(&on.blob)?)));
    let (files, targets): (Vec<_>, Vec<_>) = found
        .map(|(on, data)| {
            let file = memory::File {
                content: data.as_bytes(),
                uid: on.file.uid,
                gid: on.file.gid,
                mode: on.file.mode,
            };
            (file, on.file.target.clone())
        })
        .unzip();
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let dir = places.secrets();
    let paths = memory::make(&dir, &files).map_err(|source| PrepareError::Io {
        action: "make the files of secrets and configs in",
        path: dir,
        source,
    })?;
    let mounts = paths.into_iter().zip(targets);
    Ok(mounts
        .map(|(source, target)| ReadyMount {
            source,
            target,
            read_only: true,
            options: &["nosuid", "nodev", "noexec"],
        })
        .collect())
}

/// The image: this node's, or else its registry's.
async fn image(tools: &Arc<Tools>, name: &str) -> Result<Image, PrepareError> {
    if let Some(image) = resolve(tools, name).await? {
        return Ok(image);
    }
    let lock = tools.pulls.of(name);
    let _one_at_a_time = lock.lock().await;
    if let Some(image) = resolve(tools, name).await? {
        return Ok(image);
    }
    let refused = |pull: String| PrepareError::NoImage {
        name: name.to_owned(),
        here: "load it there with `clusterctl image load -i FILE`",
        pull,
    };
    tracing::info!(image = name, "pulling");
    let reference: Reference = name
        .parse()
        .map_err(|error: images::Error| refused(error.full()))?;
    let options = images::PullOptions::default();
    tools
        .images
        .pull(
            &reference,
            &images::Auth::Anonymous,
            &options,
            &images::quiet(),
        )
        .await
        .map_err(|error| refused(error.full()))?;
    resolve(tools, name)
        .await?
        .ok_or_else(|| refused("it was pulled, and is gone again".into()))
}

async fn resolve(tools: &Arc<Tools>, name: &str) -> Result<Option<Image>, PrepareError> {
    let (images, name) = (tools.images.clone(), name.to_owned());
    blocking(move || Ok(images.resolve(&name)?)).await
}

/// Runs what waits for the disk where waiting does no harm.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(PrepareError::Cancelled))
}

struct Files {
    rootfs: PathBuf,
    user: images::User,
    mounts: Vec<ReadyMount>,
}

async fn files(
    tools: &Arc<Tools>,
    assigned: &Assigned,
    image: Image,
    places: Places,
    contents: Held,
) -> Result<Files, PrepareError> {
    let (volumes, assigned) = (tools.volumes.clone(), assigned.clone());
    blocking(move || {
        make_dir(&places.dir)?;
        make_dir(&places.root())?;
        make_dir(&places.dir.join("log"))?;
        // First of all: from here on the image is in use. And whose it was, for whoever reads or reaps its log.
        write(&places.image(), &image.id.to_string())?;
        write(
            &places.dir.join("service"),
            &assigned.task.service.to_string(),
        )?;
        let rootfs = images::mount_rootfs(&image, &places.root())?;
        let dir = &image.config.working_dir;
        if !dir.is_empty() {
            images::create_dir_in(&rootfs, &Path::new("/").join(dir))?;
        }
        let user = images::resolve_user(&rootfs, &image.config.user)?;
        let spec = &assigned.template.container;
        let mut mounts = Vec::new();
        for (number, mount) in with_image_volumes(&spec.mounts, &image).iter().enumerate() {
            let seed = volume::seed_in(&rootfs, &mount.target);
            let source = match &mount.source {
                MountSource::Volume(name) => volumes.get(name, seed.as_deref())?,
                MountSource::Anonymous => {
                    volume::anonymous(&places.anonymous(number), seed.as_deref())?
                }
                MountSource::Bind(path) if Path::new(path).exists() => PathBuf::from(path),
                MountSource::Bind(path) => {
                    return Err(PrepareError::NoSource { path: path.clone() });
                }
            };
            mounts.push(ReadyMount {
                source,
                target: mount.target.clone(),
                read_only: mount.read_only,
                options: &[],
            });
        }
        // After the volumes, in which they may lie.
        mounts.extend(secrets(&assigned.template.blobs, &contents, &places)?);
        etc(&assigned, &places)?;
        Ok(Files {
            rootfs,
            user,
            mounts,
        })
    })
    .await
}

/// The service's mounts, and a nameless volume for each place where the image wants one and the service
/// has none.
fn with_image_volumes(mounts: &[Mount], image: &Image) -> Vec<Mount> {
    let own = image
        .config
        .volumes
        .iter()
        .filter(|target| {
            !mounts
                .iter()
                .any(|m| m.target.trim_end_matches('/') == target.trim_end_matches('/'))
        })
        .map(|target| Mount {
            source: MountSource::Anonymous,
            target: target.clone(),
            read_only: false,
        });
    mounts.iter().cloned().chain(own).collect()
}

/// The files that name the container and its resolver.
fn etc(assigned: &Assigned, places: &Places) -> Result<(), PrepareError> {
    let hostname = netview::hostname(&assigned.task);
    let mut hosts =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for held in &assigned.task.addresses {
        hosts.push_str(&format!("{}\t{hostname}\n", held.addr));
    }
    make_dir(&places.dir.join("etc"))?;
    write(&places.etc("hosts"), &hosts)?;
    write(&places.etc("hostname"), &format!("{hostname}\n"))?;
    // The host's search list is the container's, too; its servers are asked by ours.
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    write(
        &places.etc("resolv.conf"),
        &overlay::dns::resolv_conf::for_container(&host),
    )
}

fn make_dir(path: &Path) -> Result<(), PrepareError> {
    std::fs::create_dir_all(path).map_err(|source| PrepareError::Io {
        action: "make",
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), PrepareError> {
    std::fs::write(path, text).map_err(|source| PrepareError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}
