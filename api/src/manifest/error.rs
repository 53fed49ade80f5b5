//! What is wrong with a file, and what is only remarkable about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where something stands in a file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// One thing that is wrong with a Compose file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The file, as it was given.
    pub file: PathBuf,
    /// Where in it; absent when it is the whole file.
    pub at: Option<Position>,
    /// The keys that lead there, such as `services.web.ports[0]`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it, where that is known.
    pub cure: Option<String>,
}

/// Something that is done otherwise than the file says, or than its author may expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file, as it was given.
    pub file: PathBuf,
    /// Where in it.
    pub at: Option<Position>,
    /// The keys that lead there.
    pub path: String,
    /// What is done.
    pub text: String,
}

fn place(f: &mut fmt::Formatter<'_>, file: &Path, at: Option<Position>, path: &str) -> fmt::Result {
    write!(f, "{}:", file.display())?;
    if let Some(at) = at {
        write!(f, "{}:", at.line)?;
    }
    f.write_str(" ")?;
    if !path.is_empty() {
        write!(f, "{path}: ")?;
    }
    Ok(())
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.at, &self.path)?;
        f.write_str(&self.problem)?;
        if let Some(cure) = &self.cure {
            write!(f, "; {cure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.at, &self.path)?;
        f.write_str(&self.text)
    }
}
