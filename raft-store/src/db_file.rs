//! sled's file, read without sled: where a message's checksum is wrong.
//!
//! sled drops what it can't read and doesn't say where it was; and it writes over it as it opens. So this
//! looks first. A place that is found need be no damage: space that is used again holds halves of old messages.
//! It is told only when something is known to be missing.
//!
//! The file is segments of 512 KiB, each `checksum, number of its first byte, another` and messages; a message is
//! `checksum, kind, length, segment, page, body`, the numbers shortened.

use crate::codec::damaged;
use crate::disk::named;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const SEGMENT: usize = 512 * 1024;
const SEGMENT_HEAD: usize = 20;
/// A message begins nowhere nearer to a segment's end.
const MESSAGE_HEAD_MAX: usize = 32;
/// The kind that says that nothing follows in its segment.
const CAP: u8 = 2;
/// Places told of.
const TOLD: usize = 8;

/// The places, bytes from the file's beginning; none if there is no file.
pub(crate) fn suspects(path: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(named(error, "open", path)),
    };
    let mut segment = Vec::with_capacity(SEGMENT);
    for number in 0_u64.. {
        segment.clear();
        let read = (&mut file).take(SEGMENT as u64).read_to_end(&mut segment);
        let read = read.map_err(|error| {
            let at = number * SEGMENT as u64 + segment.len() as u64;
            named(error, &format!("read byte {at} of"), path)
        })?;
        if read == 0 {
            break;
        }
        let at = suspect(&segment).map(|at| number * SEGMENT as u64 + at as u64);
        found.extend(at);
    }
    Ok(found)
}

/// sled's page table, which it writes when it opens and refuses later without saying which file it means:
/// the table, its length, its checksum.
pub(crate) fn check_page_table(path: &Path) -> io::Result<()> {
    let bytes = std::fs::read(path).map_err(|e| named(e, "read", path))?;
    let what = format!("the log's page table {}", path.display());
    let (rest, sum) = bytes
        .split_last_chunk()
        .ok_or_else(|| damaged(&what, "it is cut short"))?;
    match rest.split_last_chunk::<8>() {
        Some((table, _)) if crc32fast::hash(table) == u32::from_le_bytes(*sum) => Ok(()),
        _ => Err(damaged(&what, "its checksum is another")),
    }
}

/// sled's settings, of which it reads what it can: the settings, their checksum. None is fine.
pub(crate) fn check_settings(path: &Path) -> io::Result<()> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|e| named(e, "read", path))?,
    };
    match bytes.split_last_chunk() {
        Some((body, sum)) if crc32fast::hash(body) == u32::from_le_bytes(*sum) => Ok(()),
        _ => Err(damaged(
            &format!("the log's settings {}", path.display()),
            "their checksum is another",
        )),
    }
}

/// In words.
pub(crate) fn told(path: &Path, found: &[u64]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = found.iter().take(TOLD).map(u64::to_string).collect();
    let more = if found.len() > TOLD { " and more" } else { "" };
    format!(
        "; {} can't be read at byte {}{more}",
        path.display(),
        shown.join(", ")
    )
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

/// A number as sled shortens it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let first = u64::from(*first);
    match first {
        0..=240 => Some((first, rest)),
        241..=248 => {
            let (low, rest) = rest.split_first()?;
            Some((240 + 256 * (first - 241) + u64::from(*low), rest))
        }
        249 => {
            let ([high, low], rest) = rest.split_first_chunk()?;
            Some((2288 + 256 * u64::from(*high) + u64::from(*low), rest))
        }
        _ => {
            let count = usize::try_from(first - 247).ok()?;
            let (bytes, rest) = rest.split_at_checked(count)?;
            let mut whole = [0; 8];
            whole.get_mut(..count)?.copy_from_slice(bytes);
            Some((u64::from_le_bytes(whole), rest))
        }
    }
}

/// The length of the message that begins here, and its kind, if it is one of this segment.
fn message(bytes: &[u8], of: u64) -> Option<(usize, u8)> {
    let (sum, rest) = word(bytes)?;
    let (kind, rest) = rest.split_first()?;
    let (length, rest) = number(rest)?;
    let (segment, rest) = number(rest)?;
    let (_, rest) = number(rest)?;
    let head = bytes.len() - rest.len();
    let body = rest.get(..usize::try_from(length).ok()?)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(bytes.get(4..head)?);
    let is_one = hasher.finalize() ^ u32::MAX == sum && *kind != 0 && segment == of;
    is_one.then_some((head + body.len(), *kind))
}

/// Where in a segment the first thing is that is no message, and not the unwritten rest.
fn suspect(segment: &[u8]) -> Option<usize> {
    let blank = |from: usize| {
        segment
            .get(from..)
            .is_none_or(|rest| rest.iter().all(|b| *b == 0))
    };
    if blank(0) {
        return None;
    }
    let head = segment.get(..SEGMENT_HEAD).and_then(|head| {
        let (sum, rest) = word(head)?;
        let first = i64::from_le_bytes(*rest.first_chunk()?) ^ i64::MAX;
        (crc32fast::hash(rest) ^ u32::MAX == sum).then_some(first)
    });
    let Some(first) = head.and_then(|first| u64::try_from(first).ok()) else {
        return Some(0);
    };
    let mut at = SEGMENT_HEAD;
    while at + MESSAGE_HEAD_MAX <= SEGMENT && !blank(at) {
        match segment
            .get(at..)
            .and_then(|rest| message(rest, first / SEGMENT as u64))
        {
            Some((_, CAP)) => return None,
            Some((length, _)) => at += length,
            None => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sled_writes_is_read_and_a_flipped_byte_found_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        {
            let db = sled::open(dir.path()).unwrap();
            for n in 0..900_u32 {
                db.insert(n.to_be_bytes(), vec![7; 900]).unwrap();
            }
            db.flush().unwrap();
        }
        assert_eq!(suspects(&path).unwrap(), Vec::<u64>::new());
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > 2 * SEGMENT, "more than one segment");
        for at in [5, 100_000, SEGMENT + 300_000] {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            let found = suspects(&path).unwrap();
            // The message's beginning, or the segment's.
            let [place] = found[..] else {
                panic!("{found:?}")
            };
            let place = usize::try_from(place).unwrap();
            assert!(place <= at && at - place < 32 << 10, "{place} for {at}");
        }
    }

    #[test]
    fn anything_is_read_without_a_panic() {
        for seed in 0..2_000_u64 {
            let bytes: Vec<u8> = (0..90)
                .map(|n: u64| ((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 + n) >> 40) as u8)
                .collect();
            let _ = suspect(&bytes);
            let _ = message(&bytes, 0);
        }
    }
}
