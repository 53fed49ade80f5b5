//! The files of a task's secrets and configs: on a file system of its own that lives in memory and is never
//! swapped out, below a folder that only root may enter. The container sees each file where it wants it, read-only.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// One file.
#[derive(Debug)]
pub struct File<'a> {
    /// What it holds.
    pub content: &'a [u8],
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// Makes the files, whatever was there before. Their paths, in the same order.
///
/// # Errors
/// Says what the system refused; [`remove`] removes what was made.
pub fn make(dir: &Path, files: &[File<'_>]) -> io::Result<Vec<PathBuf>> {
    remove(dir)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // Whole pages, and some for the folder.
    let pages: usize = files.iter().map(|f| f.content.len() / 4096 + 1).sum();
    mount_memory(dir, (pages + 16) * 4096)?;
    let paths: Vec<PathBuf> = (0..files.len())
        .map(|number| dir.join(number.to_string()))
        .collect();
    for (path, wanted) in paths.iter().zip(files) {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(wanted.content)?;
        chown(path, Some(wanted.uid), Some(wanted.gid))?;
        fs::set_permissions(path, Permissions::from_mode(wanted.mode & 0o777))?;
    }
    Ok(paths)
}

const FLAGS: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// A tmpfs that is not swapped; where the kernel (before 6.4) can't promise that, a ramfs, which never is.
fn mount_memory(dir: &Path, bytes: usize) -> io::Result<()> {
    let at = |kind: &str, options: &str| mount(Some(kind), dir, Some(kind), FLAGS, Some(options));
    match at("tmpfs", &format!("mode=0700,size={bytes},noswap")) {
        Err(Errno::EINVAL) => at("ramfs", "mode=0700")?,
        other => other?,
    }
    Ok(())
}

/// Empties the files, so that nothing is left of them wherever they are mounted still, and unmounts. What is gone
/// already is no failure.
///
/// # Errors
/// Says what the system refused.
pub fn remove(dir: &Path) -> io::Result<()> {
    loop {
        match fs::read_dir(dir) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry?.path();
                    OpenOptions::new().write(true).truncate(true).open(&path)?;
                    fs::remove_file(&path)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        match umount2(dir, MntFlags::UMOUNT_NOFOLLOW) {
            // What was below it, should there be something.
            Ok(()) => {}
            Err(Errno::EBUSY) => umount2(dir, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)?,
            // Nothing is mounted on it (any more).
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn mounts(dir: &Path) -> Vec<String> {
        let dir = dir.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let of_dir = mounts.lines().filter(|line| line.contains(&dir));
        of_dir.map(str::to_owned).collect()
    }

    #[test]
    fn files_are_in_memory_as_they_are_wanted_and_go_without_a_trace() {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test mounts: run it as root"
        );
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("task/secrets");
        let large = vec![b'x'; 500 << 10];
        let file = |content, mode| File {
            content,
            uid: 12,
            gid: 34,
            mode,
        };
        let files = [file(b"hunter2", 0o440), file(&large, 0o444)];
        // Twice: what an earlier start has left is replaced.
        for _ in 0..2 {
            let paths = make(&dir, &files).unwrap();
            let meta = fs::metadata(&paths[0]).unwrap();
            assert_eq!(
                (meta.uid(), meta.gid(), meta.mode() & 0o7777),
                (12, 34, 0o440)
            );
            assert_eq!(fs::read(&paths[0]).unwrap(), b"hunter2");
            assert_eq!(fs::read(&paths[1]).unwrap(), large);
            assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
            let mounts = mounts(&dir);
            assert_eq!(mounts.len(), 1, "{mounts:?}");
            assert!(
                mounts[0].contains("noswap") || mounts[0].contains("ramfs"),
                "{mounts:?}"
            );
        }
        let open = fs::File::open(dir.join("0")).unwrap();
        remove(&dir).unwrap();
        assert_eq!(
            open.metadata().unwrap().len(),
            0,
            "who has it open still reads it"
        );
        drop(open);
        assert_eq!(mounts(&dir), Vec::<String>::new());
        assert!(!dir.exists());
        remove(&dir).unwrap();
    }
}
