//! Reading a container's log, over its rotated files, and on as it grows.

use crate::client::Runtime;
use crate::error::{Error, IoContext, Result};
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
/// Looks at the files' names until two agree.
const LOOKS_MAX: usize = 20;

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
    /// When too many logs are being read, or this one is there and can't be.
    pub async fn logs(&self, id: &str, path: PathBuf, query: LogQuery) -> Result<Lines> {
        let (tx, rx) = mpsc::channel(QUEUE);
        let (runtime, id) = (self.clone(), id.to_owned());
        let place = self.0.readers.clone().try_acquire_owned();
        let place = place.map_err(|_| Error::Io {
            what: format!("container {id}: reading its log beside many others"),
            source: io::ErrorKind::ResourceBusy.into(),
        })?;
        let what = format!("container {id}: starting a reader of its log");
        // A thread of its own: followers stay for long, and must not take the places of work that ends soon.
        let reader = std::thread::Builder::new().name("log-reader".into());
        let reading = reader.spawn(move || {
            let _place = place;
            let alive = || runtime.running(&id).is_ok_and(|r| r.shim.is_there());
            if let Err(error) = read(&path, &query, alive, &tx) {
                // A reader that is gone doesn't care.
                let _ = tx.blocking_send(Err(error));
            }
        });
        // It ends by itself when its reader is gone.
        reading.context(|| what)?;
        Ok(Lines { rx })
    }
}

/// The lines, as a stream.
#[derive(Debug)]
pub struct Lines {
    rx: mpsc::Receiver<Result<LogLine>>,
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

/// All files of a log, open, oldest first. Names shift while the shim rotates, so it is looked twice, until
/// both looks agree; what is open stays what it is.
fn open_all(path: &Path) -> Result<Vec<Cursor>> {
    let look = || -> Result<Vec<Cursor>> {
        let mut files: Vec<Cursor> = Cursor::open(path)?.into_iter().collect();
        for number in 1..FILES_MAX {
            let Some(file) = Cursor::open(&numbered(path, number))? else {
                break;
            };
            files.push(file);
        }
        files.reverse();
        Ok(files)
    };
    let inodes = |files: &[Cursor]| files.iter().map(|f| f.inode).collect::<Vec<_>>();
    let mut files = look()?;
    for _ in 0..LOOKS_MAX {
        let again = look()?;
        let same = inodes(&files) == inodes(&again);
        files = again;
        if same {
            break;
        }
    }
    Ok(files)
}

fn read(path: &Path, query: &LogQuery, alive: impl Fn() -> bool, tx: &Sender) -> Result<()> {
    let send = |line: LogLine| !query.wants(&line) || tx.blocking_send(Ok(line)).is_ok();
    let mut last: VecDeque<LogLine> = VecDeque::new();
    let mut files = open_all(path)?;
    for cursor in &mut files {
        while let Some(line) = cursor.next()? {
            match query.tail {
                None if send(line.clone()) => {}
                None => return Ok(()),
                Some(tail) if query.wants(&line) => {
                    last.push_back(line);
                    if last.len() as u64 > tail {
                        last.pop_front();
                    }
                }
                Some(_) => {}
            }
        }
    }
    for line in last {
        if !send(line) {
            return Ok(());
        }
    }
    let mut current = files.pop();
    while query.follow
        && !tx.is_closed()
        && query.until.is_none_or(|until| Timestamp::now() < until)
    {
        // Looked at first: what is written before the end is read after this.
        let ended = !alive();
        let rotated = current.as_ref().is_none_or(|c| !c.is_of(path));
        let mut newer = Vec::new();
        if rotated {
            let files = open_all(path)?;
            // Those behind the one in hand; all, if it is none of them any more.
            let own = current
                .as_ref()
                .and_then(|c| files.iter().position(|f| f.inode == c.inode));
            newer.extend(files.into_iter().skip(own.map_or(0, |n| n + 1)));
        }
        let more = !newer.is_empty();
        for mut cursor in current.take().into_iter().chain(newer) {
            while let Some(line) = cursor.next()? {
                if !send(line) {
                    return Ok(());
                }
            }
            current = Some(cursor);
        }
        if !more {
            if ended {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
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
