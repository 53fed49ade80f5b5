//! A container's root file system: the image's layers, and a writable one on top, by overlayfs.
//!
//! The layers are given to the kernel as `/proc/self/fd/N`: short, so that the option string's 4096 bytes
//! hold hundreds, and free of the characters that would need escaping.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};
use crate::root::{proc_path, remove_tree};
use crate::store::Image;

/// Layers of one mount: what the option string holds.
const LAYERS_MAX: usize = 200;
const ROOTFS: &str = "rootfs";
const UPPER: &str = "upper";
const WORK: &str = "work";
/// Stands in for the layers of an image that has none.
const EMPTY: &str = "empty";

/// Mounts the image at `dir/rootfs`, what the container writes going to `dir/upper`. `dir` is made if need
/// be. Mounted already, it stays as it is; after a reboot the container's writes are still there.
pub fn mount_rootfs(image: &Image, dir: &Path) -> Result<PathBuf> {
    let rootfs = dir.join(ROOTFS);
    if is_mount_point(&rootfs)? {
        return Ok(rootfs);
    }
    if image.layers.len() > LAYERS_MAX {
        return Err(Error::TooManyLayers {
            image: image.id.short(),
            layers: image.layers.len(),
            limit: LAYERS_MAX,
        });
    }
    let existed = dir.exists();
    let mounted = prepare(image, dir).and_then(|stack| overlay(&stack, &rootfs));
    if let Err(error) = mounted {
        // Nothing of a first attempt stays; what a container wrote before does.
        if !existed && let Err(error) = remove_tree(dir) {
            tracing::warn!(error = error.full(), "folder of a failed mount left behind");
        }
        return Err(error);
    }
    Ok(rootfs)
}

/// Unmounts what [`mount_rootfs`] mounted and removes what the container wrote. `dir` itself and its other
/// contents stay. What is gone already is no failure.
pub fn unmount_rootfs(dir: &Path) -> Result<()> {
    let rootfs = dir.join(ROOTFS);
    // Also what was mounted over it.
    loop {
        match umount2(&rootfs, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Someone's working directory is still in it: out of sight now, gone when they are.
            Err(Errno::EBUSY) => umount2(&rootfs, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
                .map_err(Error::os("unmount", &rootfs))?,
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(Error::os("unmount", &rootfs)(errno)),
        }
    }
    let mut failures = Vec::new();
    match fs::remove_dir(&rootfs) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            failures.push(Error::io("remove", &rootfs)(error));
        }
        _ => {}
    }
    for folder in [UPPER, WORK, EMPTY] {
        failures.extend(remove_tree(&dir.join(folder)).err());
    }
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => Err(Error::Several(
            failures
                .iter()
                .map(Error::full)
                .collect::<Vec<_>>()
                .join("; "),
        )),
    }
}

/// The folders of a mount, held open.
struct Stack {
    /// Lowest first.
    lowers: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

fn prepare(image: &Image, dir: &Path) -> Result<Stack> {
    let make = |path: &Path, mode: u32| {
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(Error::io("create", path))
    };
    make(dir, 0o700)?;
    let (rootfs, upper, work) = (dir.join(ROOTFS), dir.join(UPPER), dir.join(WORK));
    make(&rootfs, 0o755)?;
    make(&work, 0o700)?;
    let new = !upper.exists();
    make(&upper, 0o755)?;
    let mut lowers = Vec::new();
    for layer in &image.layers {
        lowers.push(open_dir(layer)?);
    }
    if new {
        // The root folder shows the upper one's looks, so it takes after the top layer's.
        if let Some(top) = image.layers.last() {
            let looks = fs::metadata(top).map_err(Error::io("read", top))?;
            std::os::unix::fs::chown(&upper, Some(looks.uid()), Some(looks.gid()))
                .map_err(Error::io("set the owner of", &upper))?;
            fs::set_permissions(&upper, looks.permissions())
                .map_err(Error::io("set the mode of", &upper))?;
        } else {
            fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
                .map_err(Error::io("set the mode of", &upper))?;
        }
    }
    if lowers.is_empty() {
        // An image without layers: overlayfs still wants one.
        let empty = dir.join(EMPTY);
        make(&empty, 0o755)?;
        lowers.push(open_dir(&empty)?);
    }
    Ok(Stack {
        lowers,
        upper: open_dir(&upper)?,
        work: open_dir(&work)?,
    })
}

fn overlay(stack: &Stack, rootfs: &Path) -> Result<()> {
    let lowers: Vec<String> = stack
        .lowers
        .iter()
        .rev()
        .map(|fd| proc_path(fd).display().to_string())
        .collect();
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lowers.join(":"),
        proc_path(&stack.upper).display(),
        proc_path(&stack.work).display()
    );
    // Where the host turns these on, layers could not be shared between mounts, or links in them redirect.
    for (feature, off) in [
        ("index", "off"),
        ("redirect_dir", "nofollow"),
        ("metacopy", "off"),
    ] {
        if Path::new("/sys/module/overlay/parameters")
            .join(feature)
            .exists()
        {
            options.push_str(&format!(",{feature}={off}"));
        }
    }
    mount(Some("overlay"), rootfs, Some("overlay"), MsFlags::empty(), Some(options.as_str())).map_err(|errno| {
        let hint = match errno {
            Errno::ENODEV => "the kernel has no overlayfs; load it with `modprobe overlay`",
            Errno::EPERM => "it takes root; run clusterd as root",
            Errno::EINVAL => "the state folder's file system cannot carry overlayfs; put --state-dir on ext4 or xfs",
            _ => return Error::os("mount", rootfs)(errno),
        };
        Error::io("mount", rootfs)(io::Error::other(format!("{} ({hint})", errno.desc())))
    })
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(Error::os("open", path))
}

/// Whether something is mounted on the folder.
fn is_mount_point(path: &Path) -> Result<bool> {
    let failed = || Error::io("read", path);
    let here = match File::open(path) {
        Ok(dir) => dir.metadata().map_err(failed())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed()(error)),
    };
    let above = fs::metadata(path.join("..")).map_err(failed())?;
    Ok(here.dev() != above.dev())
}
