//! A folder that is replaced whole, through any crash.
//!
//! ```text
//! DIR.half   being written: worth nothing, removed
//! DIR.new    whole: it takes DIR's place, at once or at the next start
//! DIR.old    what was there: removed once DIR.new is in place
//! ```

use crate::disk::{named, sync_dir};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    dir.with_file_name(name)
}

fn sync_parent(dir: &Path) -> io::Result<()> {
    match dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => sync_dir(above),
        None => sync_dir(Path::new(".")),
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(error, "remove", dir)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).map_err(|e| named(e, "rename", from))?;
    sync_parent(to)
}

/// Where the new folder is written; what was left there before goes.
pub(crate) fn begin(dir: &Path) -> io::Result<PathBuf> {
    discard(dir)?;
    Ok(beside(dir, "half"))
}

/// What was written is whole and durable.
pub(crate) fn complete(dir: &Path) -> io::Result<()> {
    rename(&beside(dir, "half"), &beside(dir, "new"))
}

/// Removes what was written and not put in place.
///
/// # Errors
/// When the disk refuses.
pub fn discard(dir: &Path) -> io::Result<()> {
    // The whole one first loses its name, so that no crash leaves half of it under that.
    let (half, new) = (beside(dir, "half"), beside(dir, "new"));
    remove(&half)?;
    if new.exists() {
        rename(&new, &half)?;
        remove(&half)?;
    }
    Ok(())
}

/// Finishes what was decided: a new folder that is whole takes its place, one that is half written goes.
/// Whether one took its place.
///
/// # Errors
/// When the disk refuses; the next call goes on.
pub fn settle(dir: &Path) -> io::Result<bool> {
    let (new, old) = (beside(dir, "new"), beside(dir, "old"));
    remove(&beside(dir, "half"))?;
    let is_decided = new.exists();
    if is_decided {
        if dir.exists() {
            remove(&old)?;
            rename(dir, &old)?;
        }
        rename(&new, dir)?;
    }
    remove(&old)?;
    Ok(is_decided)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, text: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("f"), text).unwrap();
    }

    fn holds(dir: &Path) -> Option<String> {
        fs::read_to_string(dir.join("f")).ok()
    }

    /// What is there before, what of it after, and whether a new one took its place.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, bool);

    /// Every state that a crash can leave, and what the next start makes of it.
    #[test]
    fn whatever_a_crash_leaves_is_the_old_or_the_new() {
        let cases: [Case<'_>; 7] = [
            (&[], None, false),
            (&[("s", "old")], Some("old"), false),
            (&[("s", "old"), ("s.half", "new")], Some("old"), false),
            (&[("s", "old"), ("s.new", "new")], Some("new"), true),
            (&[("s.old", "old"), ("s.new", "new")], Some("new"), true),
            (&[("s", "new"), ("s.old", "old")], Some("new"), false),
            (&[("s.new", "new")], Some("new"), true),
        ];
        for (before, after, is_decided) in cases {
            let root = tempfile::tempdir().unwrap();
            for (name, text) in before {
                put(&root.path().join(name), text);
            }
            let dir = root.path().join("s");
            assert_eq!(settle(&dir).unwrap(), is_decided, "{before:?}");
            assert_eq!(holds(&dir).as_deref(), after, "{before:?}");
            let left = fs::read_dir(root.path()).unwrap().count();
            assert_eq!(left, usize::from(after.is_some()), "{before:?}");
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("s");
        put(&dir, "old");
        put(&begin(&dir).unwrap(), "new");
        complete(&dir).unwrap();
        discard(&dir).unwrap();
        assert!(!settle(&dir).unwrap());
        assert_eq!(holds(&dir).as_deref(), Some("old"));
    }
}
