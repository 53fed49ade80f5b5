//! Where things are: labs, built binaries, test images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

/// The environment variable that moves the folder of all labs.
pub const LABS_VARIABLE: &str = "CLUSTER_LAB_DIR";

/// The folder of all labs: `CLUSTER_LAB_DIR`, else `/var/tmp/cluster-lab`.
///
/// Not `/tmp`, which is often a tmpfs: containers' writable layers live in it.
pub fn labs() -> Result<PathBuf> {
    let dir = match std::env::var_os(LABS_VARIABLE) {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from("/var/tmp/cluster-lab"),
    };
    if !dir.is_absolute() {
        bail!(
            "{LABS_VARIABLE} is {}, which is not an absolute path",
            dir.display()
        );
    }
    Ok(dir)
}

/// The folder of the binaries that were built together with the running one.
///
/// For a test that is the parent of cargo's `deps`, for `lab` and `bench` their own folder.
pub fn bin_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot tell where this program is")?;
    let dir = exe
        .parent()
        .ok_or_else(|| anyhow!("{} has no folder", exe.display()))?;
    if dir.file_name().is_some_and(|n| n == "deps")
        && let Some(parent) = dir.parent()
    {
        return Ok(parent.to_owned());
    }
    Ok(dir.to_owned())
}

/// A binary in `dir`, or an error that says how to build it.
pub fn binary(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "there is no {name} in {}: build it with `make build` (or `cargo build --bins`), or name its folder",
        dir.display()
    )
}

/// A test image (`redis`, `flask-redis`, `busybox`) as an archive, built by `tests/images/build`.
pub fn image(name: &str) -> Result<PathBuf> {
    let target = bin_dir()?.parent().map(Path::to_owned).unwrap_or_default();
    let path = target.join("images").join(format!("{name}.tar"));
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "there is no test image {}: build it with `make images`",
        path.display()
    )
}
