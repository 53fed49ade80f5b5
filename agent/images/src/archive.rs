//! Where an image is loaded from: a tar archive, spread out in a temporary folder, or a layout's folder.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::decompress::{decompress, fault_of};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::limits::{Budget, Limits, within};
use crate::progress::{Counter, CountingReader, Phase, ProgressFn};
use crate::tarball::{Kind, TarError, TarReader, shown};
use crate::temp::TempDir;
use crate::unpack::normalise;

/// Links from link to link are followed no further than this.
const LINKS_MAX: usize = 8;

/// A file of the source, copied to the store's temporary folder, and what it hashed to on the way.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
}

/// An archive's or layout's files by name.
pub(crate) struct Source {
    /// What the user gave, for messages.
    pub(crate) object: String,
    limits: Limits,
    temp: TempDir,
    from: From,
}

enum From {
    Archive {
        files: HashMap<Vec<u8>, Staged>,
        links: HashMap<Vec<u8>, Vec<u8>>,
    },
    Folder(PathBuf),
}

impl Source {
    /// Spreads out a tar archive, compressed or not.
    pub(crate) fn archive(
        object: &str,
        reader: impl Read + Send,
        temp: TempDir,
        budget: &Budget,
        progress: &ProgressFn,
    ) -> Result<Self> {
        let fault = |fault| Error::invalid(object, fault);
        let read_error = |error: std::io::Error| match fault_of(&error) {
            Some(fault) => Error::invalid(object, fault),
            None => Error::io("read", Path::new(object))(error),
        };
        let tar_error = |error| match error {
            TarError::Fault(fault) => Error::invalid(object, fault),
            TarError::Read(error) => read_error(error),
        };
        let counter = Counter::new(progress, "archive".to_owned(), Phase::Reading, None);
        let mut reader = TarReader::new(
            decompress(CountingReader {
                inner: reader,
                counter,
            })
            .map_err(read_error)?,
            budget.limits,
        );
        let (mut files, mut links) = (HashMap::new(), HashMap::new());
        while let Some(entry) = reader.next_entry().map_err(tar_error)? {
            budget.take_entry().map_err(fault)?;
            let Some(name) = normalise(&entry.path) else {
                return Err(fault(Fault::Traversal(entry.shown())));
            };
            match entry.kind {
                Kind::File => {
                    budget.take_bytes(entry.size).map_err(fault)?;
                    let path = temp.path().join(files.len().to_string());
                    let staged = stage(&mut reader, path, read_error)?;
                    if staged.bytes != entry.size {
                        return Err(fault(Fault::Truncated));
                    }
                    // A name written twice: the later one counts, as everywhere in tar.
                    files.insert(name, staged);
                }
                Kind::Symlink | Kind::HardLink => {
                    let target = match entry.kind {
                        // `docker save` links layers it has written already.
                        Kind::Symlink => join(&name, &entry.target),
                        _ => normalise(&entry.target),
                    };
                    let outside = || Fault::LinkOutside {
                        path: entry.shown(),
                        target: shown(&entry.target),
                    };
                    links.insert(name, target.ok_or_else(|| fault(outside()))?);
                }
                Kind::Directory => {}
                Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                    let kind = "a device or FIFO".to_owned();
                    return Err(fault(Fault::EntryKind {
                        path: entry.shown(),
                        kind,
                    }));
                }
            }
        }
        // To the end, so that a sender is not cut off.
        std::io::copy(&mut reader.into_inner(), &mut std::io::sink()).map_err(read_error)?;
        let from = From::Archive { files, links };
        Ok(Self {
            object: object.to_owned(),
            limits: budget.limits,
            temp,
            from,
        })
    }

    /// A layout's folder on this machine.
    pub(crate) fn folder(path: &Path, temp: TempDir, limits: Limits) -> Self {
        Self {
            object: path.display().to_string(),
            limits,
            temp,
            from: From::Folder(path.to_owned()),
        }
    }

    /// A file that is JSON or ought to be; none if it is not there.
    pub(crate) fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = match &self.from {
            From::Archive { .. } => match self.staged(name)? {
                Some(staged) => staged.path,
                None => return Ok(None),
            },
            From::Folder(folder) => match regular(&folder.join(name))? {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        let limit = self.limits.metadata_bytes_max;
        let file = File::open(&path).map_err(Error::io("read", &path))?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &path))?;
        within("manifest or config in bytes", bytes.len() as u64, limit)
            .map_err(|fault| Error::invalid(format!("{}: {name}", self.object), fault))?;
        Ok(Some(bytes))
    }

    /// A file of any size, in the temporary folder; none if it is not there.
    pub(crate) fn staged(&self, name: &str) -> Result<Option<Staged>> {
        match &self.from {
            From::Archive { files, links } => {
                let mut name = normalise(name.as_bytes()).unwrap_or_default();
                for _ in 0..LINKS_MAX {
                    match (files.get(&name), links.get(&name)) {
                        (Some(staged), _) => return Ok(Some(staged.clone())),
                        (None, Some(target)) => name.clone_from(target),
                        (None, None) => break,
                    }
                }
                Ok(None)
            }
            From::Folder(folder) => {
                let Some(path) = regular(&folder.join(name))? else {
                    return Ok(None);
                };
                let file = File::open(&path).map_err(Error::io("read", &path))?;
                let to = self.temp.path().join(Digest::of(name.as_bytes()).hex());
                stage(file, to, Error::io_of("read", path)).map(Some)
            }
        }
    }
}

/// The path if it is a regular file: a FIFO or device in a layout is not waited for.
fn regular(path: &Path) -> Result<Option<PathBuf>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(path.to_owned())),
        Ok(_) => Err(Error::io("read", path)(std::io::Error::other(
            "it is no regular file",
        ))),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Copies to a file, hashing.
fn stage(
    mut from: impl Read,
    to: PathBuf,
    read_error: impl FnOnce(std::io::Error) -> Error,
) -> Result<Staged> {
    let mut file = File::create(&to).map_err(Error::io("create", &to))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0_u64;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(error)),
        };
        hasher.update(&buffer[..n]);
        file.write_all(&buffer[..n])
            .map_err(Error::io("write", &to))?;
        bytes += n as u64;
    }
    Ok(Staged {
        path: to,
        bytes,
        digest: hasher.finish(),
    })
}

/// Where a symlink at `name` points, as a name of the archive; none if outside.
fn join(name: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = if target.starts_with(b"/") {
        Vec::new()
    } else {
        name.split(|b| *b == b'/').collect()
    };
    parts.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_archive() {
        for (name, target, expected) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/layer.tar", "x", Some("a/x")),
            ("a/layer.tar", "/b/x", Some("b/x")),
            ("a/layer.tar", "../../b", None),
        ] {
            assert_eq!(
                join(name.as_bytes(), target.as_bytes()),
                expected.map(|e| e.as_bytes().to_vec()),
                "{target}"
            );
        }
    }
}
