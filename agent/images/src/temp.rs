//! Temporary folders of the store: gone when dropped, reaped at the next start after a crash.

use std::path::{Path, PathBuf};

use crate::root::remove_tree;

/// A folder removed with all below it when dropped.
pub(crate) struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Takes over a folder that exists.
    pub(crate) fn adopt(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(
                error = error.full(),
                "temporary folder left behind until the next start"
            );
        }
    }
}
