//! Network namespaces: made, found and entered by throw-away threads, so that no thread of the
//! runtime ever changes its own.

use crate::{Error, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::fstatfs,
};
use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

/// `NSFS_MAGIC`: the file system of namespace files.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// A network namespace, kept alive by an open file.
#[derive(Debug, Clone)]
pub struct Ns {
    file: Arc<File>,
}

impl Ns {
    /// The calling thread's own.
    ///
    /// # Errors
    /// If `/proc` isn't there.
    pub fn current() -> Result<Self> {
        let path = "/proc/thread-self/ns/net";
        let file = File::open(path).map_err(Error::io(format!("opening {path}")))?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// Makes one without a name, gone when dropped.
    ///
    /// # Errors
    /// If the kernel has no network namespaces or doesn't let us.
    pub fn anonymous() -> Result<Self> {
        scoped(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| match e {
                nix::Error::EINVAL => Error::Kernel {
                    what: "network namespaces",
                    cure: "use a kernel with CONFIG_NET_NS",
                },
                nix::Error::EPERM => Error::NotRoot,
                e => Error::errno("making a network namespace")(e),
            })?;
            Self::current()
        })
    }

    /// Makes one, mounted at `path`, and runs `inside` in it before anybody else can.
    ///
    /// # Errors
    /// If `path` exists, or the namespace can't be made; then nothing is left.
    pub fn create<T: Send>(
        path: &Path,
        inside: impl FnOnce() -> Result<T> + Send,
    ) -> Result<(Self, T)> {
        File::create_new(path).map_err(Error::io(format!("making {}", path.display())))?;
        let made = scoped(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(Error::errno("making a network namespace"))?;
            let value = inside()?;
            mount(
                Some("/proc/thread-self/ns/net"),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(Error::errno(format!("mounting at {}", path.display())))?;
            Ok(value)
        });
        let opened = made.and_then(|value| Ok((Self::open(path)?, value)));
        if opened.is_err() {
            let _ = Self::unmount(path);
        }
        opened
    }

    /// The one mounted at `path`.
    ///
    /// # Errors
    /// If there is none, with [`io::ErrorKind::NotFound`] or [`io::ErrorKind::InvalidData`].
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("opening network namespace {}", path.display());
        let file = File::open(path).map_err(Error::io(what()))?;
        let kind = fstatfs(&file).map_err(Error::errno(what()))?;
        if kind.filesystem_type().0 != NSFS_MAGIC {
            let source = io::Error::new(io::ErrorKind::InvalidData, "nothing is mounted there");
            return Err(Error::io(what())(source));
        }
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// Mounts it at `path` again, if somebody unmounted it.
    ///
    /// # Errors
    /// If the file or the mount can't be made.
    pub fn ensure_mounted(&self, path: &Path) -> Result<()> {
        if Self::open(path).is_ok() {
            return Ok(());
        }
        let what = || format!("mounting at {}", path.display());
        File::create(path).map_err(Error::io(what()))?;
        let source = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        mount(
            Some(&source),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(Error::errno(what()))
    }

    /// Removes the mount and its file. Nothing there is no error.
    ///
    /// # Errors
    /// If the file can't be removed.
    pub fn unmount(path: &Path) -> Result<()> {
        // Not mounted (EINVAL) or not there is what is wanted; the removal below tells the rest.
        while umount2(path, MntFlags::MNT_DETACH).is_ok() {}
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("removing {}", path.display()))(e))
            }
            _ => Ok(()),
        }
    }

    /// Runs `f` in it, on a thread of its own, and waits.
    ///
    /// # Errors
    /// What `f` returns, or if the namespace can't be entered.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        scoped(|| {
            self.enter()?;
            f()
        })
    }

    /// Moves the calling thread into it, for good: only for threads made for it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(Error::errno("entering a network namespace"))
    }
}

impl AsFd for Ns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn scoped<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, f)
            .map_err(Error::io("starting a thread"))?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Names of the namespaces mounted in `folder` that begin with `prefix`, without it.
///
/// # Errors
/// If the folder can't be read.
pub fn mounted_ids(folder: &Path, prefix: &str) -> Result<Vec<String>> {
    let what = || format!("reading {}", folder.display());
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(what()))? {
        let name = entry.map_err(Error::io(what()))?.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_prefix(prefix)) {
            ids.push(id.to_owned());
        }
    }
    ids.sort_unstable();
    Ok(ids)
}
