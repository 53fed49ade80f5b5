//! Folders that outlast a power cut, and errors that name their file.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The error with what was tried, and on what.
pub(crate) fn named(error: io::Error, action: &str, path: &Path) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("can't {action} {}: {error}", path.display()),
    )
}

/// Makes what is listed in a folder last.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| named(e, "sync", path))
}

/// Makes a folder and those above it that are missing. They last.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path
        .parent()
        .filter(|above| !above.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    make_dir(above)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(named(error, "make", path))
        }
        _ => sync_dir(above),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_those_above_and_an_error_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_dir(&deep).unwrap();
        make_dir(&deep).unwrap();
        assert!(deep.is_dir());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = make_dir(&file.join("under")).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}
