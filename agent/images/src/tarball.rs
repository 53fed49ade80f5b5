//! Reads tar archives nobody vouches for: ustar, GNU long names, PAX.
//!
//! Every read is bounded: an extended header is at most `metadata_bytes_max`, a path at most
//! `path_bytes_max`. PAX records are cut by their length, so values may hold any byte (a file capability
//! holds newlines). Sparse files are refused: no image builder writes them.

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::fault::Fault;
use crate::limits::{Limits, within};

const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry's header. Its data is read from the [`TarReader`].
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// As written in the archive.
    pub(crate) path: Vec<u8>,
    /// Where a symlink or hard link points.
    pub(crate) target: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of data that follow.
    pub(crate) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Extended attributes: name, value.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The path for messages.
    pub(crate) fn shown(&self) -> String {
        shown(&self.path)
    }
}

/// Bytes of a path as text, cut to what fits a message.
pub(crate) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    match text.char_indices().nth(200) {
        None => text.escape_debug().to_string(),
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
    }
}

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum TarError {
    /// The archive is bad.
    Fault(Fault),
    /// The bytes could not be read.
    Read(io::Error),
}

impl From<Fault> for TarError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A stream of entries. After [`next_entry`](Self::next_entry), reading gives that entry's data.
pub(crate) struct TarReader<R> {
    inner: R,
    limits: Limits,
    /// Bytes of the current entry's data not read yet.
    data: u64,
    /// Zero bytes after them, up to a whole block.
    padding: u64,
    ended: bool,
    first: bool,
}

/// What PAX and GNU headers say about the entry after them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: bool,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R, limits: Limits) -> Self {
        Self {
            inner,
            limits,
            data: 0,
            padding: 0,
            ended: false,
            first: true,
        }
    }

    /// The reader below, wherever it stands.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, past whatever is left of the last one's data; none at the archive's end.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        let mut extensions = 0_u64;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let header_name = shown(&header.path_bytes());
            let field = |name: &str| Fault::Entry {
                path: header_name.clone(),
                reason: format!("bad {name}"),
            };
            let kind = header.entry_type();
            let size = number(&header.as_old().size).ok_or_else(|| field("size"))?;
            match kind {
                EntryType::XHeader
                | EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XGlobalHeader => {
                    extensions = extensions.saturating_add(size);
                    within(
                        "extended header in bytes",
                        extensions,
                        self.limits.metadata_bytes_max,
                    )?;
                    self.begin(size);
                    let data = self.read_data(size)?;
                    match kind {
                        EntryType::XHeader => {
                            extended.pax(&data).map_err(|reason| field(&reason))?
                        }
                        EntryType::GNULongName => extended.path = Some(until_nul(&data)),
                        EntryType::GNULongLink => extended.target = Some(until_nul(&data)),
                        // Comments of the archive as a whole, such as git's.
                        _ => {}
                    }
                }
                _ => return self.entry(&header, extended, size).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, extended: Extended, size: u64) -> Result<Entry, TarError> {
        let path = extended
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let name = shown(&path);
        let field = |reason: &str| Fault::Entry {
            path: name.clone(),
            reason: reason.to_owned(),
        };
        within(
            "path in bytes",
            path.len() as u64,
            self.limits.path_bytes_max,
        )?;
        if path.contains(&0) {
            return Err(field("its name holds a zero byte").into());
        }
        let refuse = |kind: &str| Fault::EntryKind {
            path: name.clone(),
            kind: kind.to_owned(),
        };
        if extended.sparse {
            return Err(refuse("a sparse file").into());
        }
        let kind = match header.entry_type() {
            // An old archive's folder is a file whose name ends in a slash.
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Char => Kind::CharDevice,
            EntryType::Block => Kind::BlockDevice,
            EntryType::Fifo => Kind::Fifo,
            EntryType::GNUSparse => return Err(refuse("a sparse file").into()),
            other => {
                return Err(refuse(&format!("of type {:?}", char::from(other.as_byte()))).into());
            }
        };
        let target = match kind {
            Kind::Symlink | Kind::HardLink => extended
                .target
                .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
                .filter(|target| !target.is_empty())
                .ok_or_else(|| field("it is a link to nowhere"))?,
            _ => Vec::new(),
        };
        within(
            "link target in bytes",
            target.len() as u64,
            self.limits.path_bytes_max,
        )?;
        if target.contains(&0) {
            return Err(field("its target holds a zero byte").into());
        }
        let old = header.as_old();
        let id = |value: Option<u64>, header: &[u8], what: &str| {
            let value = value
                .or_else(|| number(header))
                .ok_or_else(|| field(&format!("bad {what}")))?;
            // The last value means "unchanged" to chown.
            u32::try_from(value)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| field(&format!("{what} {value} is out of range")))
        };
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                // At the same place in both formats that have devices.
                let bytes = header.as_bytes();
                let part = |range: std::ops::Range<usize>| {
                    let value = number(&bytes[range]).and_then(|value| u32::try_from(value).ok());
                    value.ok_or_else(|| field("bad device number"))
                };
                (part(329..337)?, part(337..345)?)
            }
            _ => (0, 0),
        };
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            // A time before 1970 or garbage is no reason to refuse an image.
            None => (
                number(&old.mtime)
                    .and_then(|s| i64::try_from(s).ok())
                    .unwrap_or(0),
                0,
            ),
        };
        // Only files carry data, whatever the field says: old archives put a link's target's size there.
        let size = if kind == Kind::File {
            extended.size.unwrap_or(size)
        } else {
            0
        };
        self.begin(size);
        Ok(Entry {
            target,
            kind,
            mode: u32::try_from(number(&old.mode).ok_or_else(|| field("bad mode"))? & 0o7777)
                .unwrap_or(0),
            uid: id(extended.uid, &old.uid, "uid")?,
            gid: id(extended.gid, &old.gid, "gid")?,
            size,
            mtime,
            device,
            xattrs: extended.xattrs,
            path,
        })
    }

    /// The next header block; none at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 && !self.first => {
                    self.ended = true;
                    return Ok(None);
                }
                Ok(0) if self.first => {
                    return Err(Fault::NotATar("shorter than one block".to_owned()).into());
                }
                Ok(0) => return Err(Fault::Truncated.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        let first = std::mem::replace(&mut self.first, false);
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let sum: u32 = block[..148]
            .iter()
            .chain(&block[156..])
            .map(|byte| u32::from(*byte))
            .sum::<u32>()
            + 8 * 32;
        if number(&header.as_old().cksum) != Some(sum.into()) {
            let reason = if first {
                "its first block is no header"
            } else {
                "a header's checksum is wrong"
            };
            return Err(Fault::NotATar(reason.to_owned()).into());
        }
        Ok(Some(header))
    }

    fn begin(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// All data of the current entry; `size` was checked against a limit.
    fn read_data(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut data = Vec::new();
        self.by_ref()
            .take(size)
            .read_to_end(&mut data)
            .map_err(TarError::Read)?;
        if data.len() as u64 == size {
            Ok(data)
        } else {
            Err(Fault::Truncated.into())
        }
    }

    /// Passes what is left of the current entry.
    fn skip(&mut self) -> Result<(), TarError> {
        let rest = self
            .data
            .checked_add(self.padding)
            .ok_or(Fault::Truncated)?;
        let skipped = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink())
            .map_err(TarError::Read)?;
        if skipped != rest {
            return Err(Fault::Truncated.into());
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.data)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..room])?;
        self.data -= n as u64;
        Ok(n)
    }
}

impl Extended {
    /// Takes PAX records: `LENGTH KEY=VALUE\n`, the length counting the whole record.
    fn pax(&mut self, mut data: &[u8]) -> Result<(), String> {
        while !data.is_empty() {
            // Some writers pad with zeros.
            if data[0] == 0 {
                return Ok(());
            }
            let bad = || "extended header".to_owned();
            let space = data
                .iter()
                .take(21)
                .position(|byte| *byte == b' ')
                .ok_or_else(bad)?;
            let length: usize = text(&data[..space])
                .and_then(|n| n.parse().ok())
                .ok_or_else(bad)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(bad());
            }
            let record = &data[space + 1..length - 1];
            data = &data[length..];
            let equals = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or_else(bad)?;
            self.record(&record[..equals], &record[equals + 1..])?;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = |what: &str| {
            text(value)
                .and_then(|n| n.parse().ok())
                .ok_or_else(|| what.to_owned())
        };
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.target = Some(value.to_vec()),
            b"size" => self.size = Some(number("size")?),
            b"uid" => self.uid = Some(number("uid")?),
            b"gid" => self.gid = Some(number("gid")?),
            b"mtime" => self.mtime = Some(pax_time(value).ok_or("mtime")?),
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.is_empty() || name.contains(&0) {
                        return Err("extended attribute".to_owned());
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// A number of a header: octal, blank for 0 as many writers have it, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((first @ 0x80..=0xbf, rest)) = field.split_first() {
        let fold =
            |value: u64, byte: &u8| value.checked_mul(256).map(|value| value + u64::from(*byte));
        return rest.iter().try_fold(u64::from(first & 0x3f), fold);
    }
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    match text(&field[..end])?.trim_matches(' ') {
        "" => Some(0),
        digits => u64::from_str_radix(digits, 8).ok(),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

/// `-12.345` as seconds and nanoseconds, rounded down.
fn pax_time(value: &[u8]) -> Option<(i64, u32)> {
    let value = text(value)?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests;
