//! A Compose file, read into a [`StackSpec`].
//!
//! Every key is honoured or refused by name: one that Compose knows and this version doesn't is "not
//! supported yet", any other is unknown and gets the nearest known one suggested. Nothing is dropped
//! silently; what is done otherwise than the file's author may expect is a [`Warning`]. All errors are
//! reported at once, each with its file, line and keys.
//!
//! ```text
//! text ─ yaml ─→ tree with positions ─ interpolate ─→ tree ─ stack, service, … ─→ StackSpec
//! ```
//!
//! Reads no file and no environment but by what it is given.

mod blobs;
mod command;
mod deploy;
mod duration;
mod environment;
mod error;
mod field;
mod files;
mod image;
mod interpolate;
mod keys;
mod labels;
mod mounts;
mod names;
mod network;
mod ports;
mod service;
mod stack;
mod volume;
mod yaml;

#[cfg(test)]
mod tests;

pub use blobs::too_much;
pub use error::{ManifestError, Position, Warning};

use crate::model::StackSpec;
use field::Report;
use std::io;
use std::path::{Path, PathBuf};

/// A larger file is no Compose file, bytes.
pub const FILE_LIMIT: usize = 1 << 20;

/// What is read.
pub struct Input<'a> {
    /// The stack's name, which goes before the names of its services, networks, volumes, secrets and configs.
    pub stack: &'a str,
    /// The file's name, for errors, and its text. Exactly one in this version.
    pub files: Vec<(PathBuf, String)>,
    /// The caller's environment, for `${VAR}` and for variables passed on by name.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file that a secret or a config is made from; one larger than that many bytes need not be read whole.
    pub read_file: &'a dyn Fn(&Path, usize) -> io::Result<Vec<u8>>,
    /// The absolute folder that relative paths start from: the file's own.
    pub base_dir: &'a Path,
}

/// Reads a Compose file.
///
/// # Errors
/// All of them, in the file's order.
pub fn read(input: Input<'_>) -> Result<(StackSpec, Vec<Warning>), Vec<ManifestError>> {
    let [(file, text)] = input.files.as_slice() else {
        let file = input
            .files
            .get(1)
            .map_or_else(PathBuf::new, |(file, _)| file.clone());
        let problem = format!("{} Compose files were given", input.files.len());
        let cure = Some("give exactly one: merging several is not supported yet".into());
        return Err(vec![ManifestError {
            file,
            at: None,
            path: String::new(),
            problem,
            cure,
        }]);
    };
    let mut report = Report::new(file);
    let spec = read_one(&input, text, &mut report);
    report.finish().map(|warnings| (spec, warnings))
}

/// What is returned after an error was reported is never seen.
fn read_one(input: &Input<'_>, text: &str, report: &mut Report<'_>) -> StackSpec {
    if let Err(problem) = names::check_stack(input.stack) {
        report.error(None, "", problem, None);
    }
    if text.len() > FILE_LIMIT {
        report.error(
            None,
            "",
            format!(
                "the file has {} bytes, at most {FILE_LIMIT} are read",
                text.len()
            ),
            None,
        );
        return StackSpec::default();
    }
    let mut root = match yaml::parse(text) {
        Ok(root) => root,
        Err(faults) => {
            for fault in faults {
                report.error(fault.at, &fault.path, fault.problem, fault.cure);
            }
            return StackSpec::default();
        }
    };
    interpolate::tree(&mut root, input.env, report);
    stack::read(input, &root, report)
}
