//! Reading a container's log, over its rotated files, and on as it grows.

use crate::client::Runtime;
use crate::error::{IoContext, Result};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines on their way to the reader.
const QUEUE: usize = 256;
/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Rotated files looked for at most.
const FILES_MAX: u32 = 100;

/// Which of its streams a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read from the container.
    pub at: Timestamp,
    /// From where.
    pub stream: Stream,
    /// The line goes on in the next one.
    pub partial: bool,
    /// Without its end.
    pub bytes: Vec<u8>,
}

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Only so many of the last.
    pub tail: Option<u64>,
    /// Only those written then or later.
    pub since: Option<Timestamp>,
    /// Only those written before.
    pub until: Option<Timestamp>,
    /// Go on until the container is gone.
    pub follow: bool,
}

/// Reads a record; none when it is damaged.
#[must_use]
pub fn parse(record: &[u8]) -> Option<LogLine> {
    let mut parts = record.splitn(4, |b| *b == b' ');
    let at = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = match parts.next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(LogLine {
        at,
        stream,
        partial,
        bytes: parts.next()?.to_vec(),
    })
}

impl LogQuery {
    fn wants(&self, line: &LogLine) -> bool {
        self.since.is_none_or(|since| line.at >= since)
            && self.until.is_none_or(|until| line.at < until)
    }
}

impl Runtime {
    /// A container's log. It ends with the log, or, followed, with the container.
    ///
    /// # Errors
    /// When the log is there and can't be read.
    pub async fn logs(&self, id: &str, path: PathBuf, query: LogQuery) -> Result<Lines> {
        let (tx, rx) = mpsc::channel(QUEUE);
        let (runtime, id) = (self.clone(), id.to_owned());
        let reader = tokio::task::spawn_blocking(move || {
            let alive = || runtime.running(&id).is_ok_and(|r| r.shim.is_there());
            if let Err(error) = read(&path, &query, alive, &tx) {
                // A reader that is gone doesn't care.
                let _ = tx.blocking_send(Err(error));
            }
        });
        Ok(Lines {
            rx,
            _reader: reader,
        })
    }
}

/// The lines, as a stream.
#[derive(Debug)]
pub struct Lines {
    rx: mpsc::Receiver<Result<LogLine>>,
    _reader: tokio::task::JoinHandle<()>,
}

impl Lines {
    /// The next line; none at the end.
    pub async fn next(&mut self) -> Option<Result<LogLine>> {
        self.rx.recv().await
    }

    /// The channel behind it.
    #[must_use]
    pub fn into_receiver(self) -> mpsc::Receiver<Result<LogLine>> {
        self.rx
    }
}

type Sender = mpsc::Sender<Result<LogLine>>;

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The rotated files, oldest first.
fn older(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = (1..FILES_MAX)
        .map(|n| numbered(path, n))
        .take_while(|p| p.exists())
        .collect();
    files.reverse();
    files
}

fn read(path: &Path, query: &LogQuery, alive: impl Fn() -> bool, tx: &Sender) -> Result<()> {
    let mut last: VecDeque<LogLine> = VecDeque::new();
    // Sends, or keeps the last ones; false when the reader is gone.
    let mut give = |line: LogLine, tailing: bool| -> bool {
        if !query.wants(&line) {
            return true;
        }
        match query.tail.filter(|_| tailing) {
            Some(0) => true,
            Some(tail) => {
                if last.len() as u64 >= tail {
                    last.pop_front();
                }
                last.push_back(line);
                true
            }
            None => tx.blocking_send(Ok(line)).is_ok(),
        }
    };
    for file in older(path) {
        let Some(mut cursor) = Cursor::open(&file)? else {
            continue;
        };
        while let Some(line) = cursor.next()? {
            if !give(line, true) {
                return Ok(());
            }
        }
    }
    let mut cursor = Cursor::open(path)?;
    if let Some(cursor) = &mut cursor {
        while let Some(line) = cursor.next()? {
            if !give(line, true) {
                return Ok(());
            }
        }
    }
    for line in std::mem::take(&mut last) {
        if tx.blocking_send(Ok(line)).is_err() {
            return Ok(());
        }
    }
    while query.follow
        && !tx.is_closed()
        && query.until.is_none_or(|until| Timestamp::now() < until)
    {
        // Looked at first: what is written before the end is read after this.
        let ended = !alive();
        if let Some(cursor) = &mut cursor {
            while let Some(line) = cursor.next()? {
                if query.wants(&line) && tx.blocking_send(Ok(line)).is_err() {
                    return Ok(());
                }
            }
        }
        if cursor.as_ref().is_none_or(|c| !c.is_of(path)) {
            // Rotated: the file in hand was read to its end; files that came in between are older ones now.
            let missed = cursor.as_ref().map(|c| c.inode);
            let rotated: Vec<_> = older(path);
            let skip = rotated
                .iter()
                .position(|p| std::fs::metadata(p).is_ok_and(|m| Some(m.ino()) == missed));
            for file in rotated.iter().skip(skip.map_or(rotated.len(), |n| n + 1)) {
                let Some(mut between) = Cursor::open(file)? else {
                    continue;
                };
                while let Some(line) = between.next()? {
                    if query.wants(&line) && tx.blocking_send(Ok(line)).is_err() {
                        return Ok(());
                    }
                }
            }
            cursor = Cursor::open(path)?;
            if cursor.is_some() {
                continue;
            }
        }
        if ended {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// A place in a file that may still grow.
struct Cursor {
    reader: BufReader<File>,
    path: PathBuf,
    inode: u64,
    /// The beginning of a record whose end is not written yet.
    rest: Vec<u8>,
}

impl Cursor {
    fn open(path: &Path) -> Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let inode = file
                    .metadata()
                    .context(|| format!("reading {}", path.display()))?
                    .ino();
                Ok(Some(Self {
                    reader: BufReader::new(file),
                    path: path.to_owned(),
                    inode,
                    rest: Vec::new(),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(|| format!("reading {}", path.display())),
        }
    }

    fn is_of(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| m.ino() == self.inode)
    }

    fn next(&mut self) -> Result<Option<LogLine>> {
        loop {
            let read = self.reader.read_until(b'\n', &mut self.rest);
            if read.context(|| format!("reading {}", self.path.display()))? == 0
                || self.rest.last() != Some(&b'\n')
            {
                return Ok(None);
            }
            let mut record = std::mem::take(&mut self.rest);
            record.pop();
            if let Some(line) = parse(&record) {
                return Ok(Some(line));
            }
        }
    }
}
