//! Which boot of which machine this is: made at random, and kept below the run folder, which no copy of a disk holds.
//!
//! Two machines with one identity are told apart by it; a daemon that starts again on the same machine is not.

use anyhow::{Context, Result};
use bytes::Bytes;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// This boot's, made if there is none yet.
///
/// # Errors
/// When the run folder can't be written.
pub fn of(run: &Path) -> Result<Bytes> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    at(&run.join("instance"), boot.trim())
}

/// The run folder should be emptied at boot; where it is not, the boot's own number tells.
fn at(path: &Path, boot: &str) -> Result<Bytes> {
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(text) if text.ends_with(boot) && !text.is_empty() => return Ok(text.into()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("can't read {shown}")),
    }
    let made = format!("{:032x} {boot}", rand::random::<u128>());
    fs::write(path, &made).with_context(|| format!("can't write {shown}"))?;
    Ok(made.into())
}

#[cfg(test)]
mod tests {
    use super::at;

    #[test]
    fn it_stays_for_a_boot_and_is_another_on_another_machine() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = one.path().join("instance");
        let first = at(&path, "boot-1").unwrap();
        assert_eq!(at(&path, "boot-1").unwrap(), first);
        assert_ne!(at(&other.path().join("instance"), "boot-1").unwrap(), first);
        let second = at(&path, "boot-2").unwrap();
        assert_ne!(second, first);
        assert_eq!(at(&path, "boot-2").unwrap(), second);
    }
}
