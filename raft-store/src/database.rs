//! Opens sled's database, and says what it doesn't: where its file is damaged, and that a write has failed.

use crate::codec;
use crate::cover;
use crate::db_file;
use crate::disk;
use seal::DataKey;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// sled's cache, bytes: the log is written, and read only at start and by followers that are behind.
const CACHE: u64 = 8 << 20;
/// The file that says how far the log is durable.
pub(crate) const MARK: &str = "mark";
/// What a failed write is called.
pub(crate) const NOT_WRITTEN: &str = "the log can't be written to disk";
/// How long a closed log may still be in use.
const FREE_BOUND: Duration = Duration::from_secs(5);

/// How long one may wait for a write that has failed.
const WAKE: Duration = Duration::from_millis(200);

/// Opens it, making it. What is returned with it keeps a thread awake until it is dropped; and where the file
/// could not be read.
pub(crate) fn open(dir: &Path) -> io::Result<(sled::Db, mpsc::Sender<()>, Vec<u64>)> {
    let suspects = prepare(dir)?;
    let failed = |error: sled::Error| said_where(open_failed(dir, error), dir, &suspects);
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE)
        .flush_every_ms(None);
    // For damage that it doesn't look for it has panics.
    let open = std::panic::AssertUnwindSafe(|| config.open());
    let db = match std::panic::catch_unwind(open) {
        Ok(opened) => opened.map_err(failed)?,
        Err(panic) => {
            let what = format!("the log in {}", dir.display());
            let error = codec::damaged(&what, panic_text(&*panic));
            return Err(said_where(error, dir, &suspects));
        }
    };
    let awake = wake(config, db.clone())?;
    Ok((db, awake, suspects))
}

/// After the flusher was closed: waits, not for ever, until the folder is free again. sled lets go of its
/// file only when nothing that was going on then still is, and looks for that only now and then. Blocks.
pub(crate) fn wait_until_free(dir: &Path) {
    let Ok(file) = File::open(dir.join("db")) else {
        return;
    };
    let end = Instant::now() + FREE_BOUND;
    while file.try_lock().is_err() {
        if Instant::now() > end {
            tracing::warn!(dir = %dir.display(), "the log is closed, and still in use");
            return;
        }
        sled::crossbeam_pin().flush();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Before sled opens the folder: what it would misread goes, what it will read lasts. Where its file can't be
/// read, which it wouldn't say.
fn prepare(dir: &Path) -> io::Result<Vec<u64>> {
    let settings = dir.join("conf");
    if let Err(error) = db_file::check_settings(&settings) {
        // The mark is written when a database was first opened whole.
        let was_opened = std::fs::metadata(dir.join(MARK)).is_ok_and(|mark| mark.len() > 0);
        if was_opened || error.kind() != io::ErrorKind::InvalidData {
            return Err(error);
        }
        for name in ["db", "conf", MARK] {
            let path = dir.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(disk::named(error, "remove", &path));
                }
                _ => {}
            }
        }
    }
    for entry in std::fs::read_dir(dir).map_err(|e| disk::named(e, "list", dir))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // A page table cut off as it was written; sled would take it for the newest.
        if name.is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            std::fs::remove_file(&path).map_err(|e| disk::named(e, "remove", &path))?;
        } else if name.is_some_and(|name| name.starts_with("snap.")) {
            db_file::check_page_table(&path)?;
        }
    }
    let db = dir.join("db");
    match File::open(&db).and_then(|file| file.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(disk::named(error, "sync", &db));
        }
        _ => {}
    }
    // All of it, and so from now on from memory: an error in reading is an end of the file to sled, which then
    // writes over what comes after.
    db_file::suspects(&db)
}

/// What a panic says, its first line.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "it can't be read",
    };
    text.lines().next().unwrap_or_default().to_owned()
}

/// A thread that wakes who waits in sled for a write that has failed, which sled doesn't always do: with its
/// first failure known, another flush tells all. Ends with what is returned.
fn wake(config: sled::Config, db: sled::Db) -> io::Result<mpsc::Sender<()>> {
    let (until, ends) = mpsc::channel();
    let work = move || {
        while ends.recv_timeout(WAKE) == Err(mpsc::RecvTimeoutError::Timeout) {
            if let Err(error) = config.global_error() {
                tracing::debug!(%error, "the log's database has failed");
                drop(db.flush());
            }
        }
    };
    std::thread::Builder::new()
        .name("raft-log-wake".into())
        .spawn(work)?;
    Ok(until)
}

/// A log of an earlier version, whose values are not sealed.
#[derive(Debug, thiserror::Error)]
#[error("the log is not encrypted: an earlier clusterd wrote it")]
pub(crate) struct Unsealed;

/// The record that says which key the others are sealed with.
const KEY: &str = "key";

/// Whether this is the key that a log is sealed with; one that is new is from now on.
///
/// # Errors
/// When it is another, when the log is [`Unsealed`], or damaged.
pub(crate) fn check_key(
    dir: &Path,
    entries: &sled::Tree,
    records: &sled::Tree,
    key: &DataKey,
) -> io::Result<()> {
    let what = format!("the log in {}", dir.display());
    if let Some(found) = records.get(KEY).map_err(sled_failed)? {
        return match cover::sealed(&format!("the record {KEY} of {what}"), &found)? {
            id if id == key.id() => Ok(()),
            id if id.len() == key.id().len() => Err(cover::other_key(&what)),
            _ => Err(codec::damaged(&what, "its key's record has another length")),
        };
    }
    // A part's first byte is a format's only where an entry begins.
    let begins = entries.iter().filter(|pair| match pair {
        Ok((key, _)) => key.ends_with(&[0; 4]),
        Err(_) => true,
    });
    let first = match records.iter().chain(begins).next() {
        Some(pair) => Some(pair.map_err(sled_failed)?.1),
        None => None,
    };
    match first.as_ref().and_then(|value| value.first()) {
        Some(&codec::FORMAT) => Err(io::Error::new(io::ErrorKind::Unsupported, Unsealed)),
        Some(_) => Err(codec::damaged(&what, "the record of its key is missing")),
        None => {
            let record = [&[cover::SEALED][..], &key.id()].concat();
            records.insert(KEY, record).map_err(sled_failed)?;
            Ok(())
        }
    }
}

/// Says of damage where the file can't be read.
pub(crate) fn said_of_damage(error: io::Error, dir: &Path, suspects: &[u64]) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData => said_where(error, dir, suspects),
        _ => error,
    }
}

pub(crate) fn said_where(error: io::Error, dir: &Path, suspects: &[u64]) -> io::Error {
    let places = db_file::told(&dir.join("db"), suspects);
    io::Error::new(error.kind(), format!("{error}{places}"))
}

/// As [`sled_failed`], of a write to the log.
pub(crate) fn not_written(error: sled::Error) -> io::Error {
    let error = sled_failed(error);
    let text = format!("{NOT_WRITTEN}: {error}");
    io::Error::new(error.kind(), text)
}

pub(crate) fn sled_failed(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => first_told(error),
        sled::Error::Corruption { at, .. } => {
            codec::damaged("the log's database", format!("at {at:?}"))
        }
        error => io::Error::other(error),
    }
}

/// Who comes after the first that an error met is given a text of it, in Rust's spelling.
fn first_told(error: io::Error) -> io::Error {
    let text = error.to_string();
    let code = text
        .strip_prefix("Os { code: ")
        .and_then(|rest| rest.split(',').next())
        .and_then(|code| code.parse().ok());
    code.map_or(error, io::Error::from_raw_os_error)
}

pub(crate) fn open_failed(dir: &Path, error: sled::Error) -> io::Error {
    let error = sled_failed(error);
    // sled says so in words alone.
    if error.to_string().contains("could not acquire lock") {
        let text = format!(
            "the log in {} is in use; does another clusterd run with this state folder?",
            dir.display()
        );
        return io::Error::new(io::ErrorKind::ResourceBusy, text);
    }
    disk::named(error, "open the log in", dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_told_again_is_in_the_same_words() {
        let first = || io::Error::from_raw_os_error(28);
        let told_again = io::Error::new(first().kind(), format!("{:?}", first()));
        for error in [first(), told_again] {
            let text = not_written(sled::Error::Io(error)).to_string();
            assert_eq!(text, format!("{NOT_WRITTEN}: {}", first()));
        }
    }
}
