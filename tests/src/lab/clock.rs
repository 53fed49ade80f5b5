//! Wall clocks that are wrong, one for each clusterd: the machine's stays as it is.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::record::Record;
use crate::places;

/// The library that moves a process's wall clock, built as the binaries are.
pub fn library(bin_dir: &Path) -> Result<PathBuf> {
    let name = "libfalse_clock.so";
    places::binary(bin_dir, name).with_context(|| {
        format!("false clocks need {name}: build it with `cargo build -p false-clock`")
    })
}

fn file(record: &Record, node: &str) -> Result<PathBuf> {
    Ok(record.node_dir(&record.node(node)?.name)?.join("clock"))
}

/// Gives a clusterd that is about to start its clock, where the lab has false ones.
pub fn apply(record: &Record, node: &str, command: &mut Command) -> Result<()> {
    let Some(library) = &record.false_clock else {
        return Ok(());
    };
    let file = file(record, node)?;
    if !file.exists() {
        fs::write(&file, 0i64.to_ne_bytes())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    command.env("LD_PRELOAD", library).env("FALSE_CLOCK", file);
    Ok(())
}

/// Moves a node's clock. In place, since the daemon has the file mapped.
pub fn set(record: &Record, node: &str, offset_ms: i64) -> Result<()> {
    if record.false_clock.is_none() {
        bail!("lab {} was made without false clocks", record.name);
    }
    let path = file(record, node)?;
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.write_all_at(&offset_ms.to_ne_bytes(), 0))
        .with_context(|| format!("cannot set {}", path.display()))
}
