//! A container's log: both streams, a line at a time, with its time; rotated by size, kept by number.
//!
//! `2026-01-02T03:04:05.678901234Z stdout F text`, the container runtime interface's form; `P` instead of `F`
//! where the line goes on. A disk that refuses holds up nobody: lines are dropped and counted, and the count
//! is written once it works again.

use crate::spec::LogConfig;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// A line longer than this is written in parts, bytes.
const LINE_MAX: usize = 16 * 1024;

pub(super) struct Log {
    config: LogConfig,
    file: Option<File>,
    size: u64,
    dropped: u64,
}

impl Log {
    pub fn open(config: LogConfig) -> Self {
        let mut log = Self {
            config,
            file: None,
            size: 0,
            dropped: 0,
        };
        // Tried again with the first line.
        let _ = log.reopen();
        log
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(dir) = self.config.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.config.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.config.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        match self.config.max_files.saturating_sub(1) {
            0 => fs::remove_file(&self.config.path)?,
            last => {
                for number in (1..last).rev() {
                    match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                }
                fs::rename(&self.config.path, self.numbered(1))?;
            }
        }
        self.reopen()
    }

    fn put(&mut self, record: &[u8]) -> io::Result<()> {
        let length = record.len() as u64;
        if self.size > 0 && self.size + length > self.config.max_bytes {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        match file.write_all(record) {
            Ok(()) => self.size += length,
            Err(error) => {
                // Half a record would spoil the next one.
                let _ = file.set_len(self.size);
                return Err(error);
            }
        }
        Ok(())
    }

    pub fn line(&mut self, stream: &str, bytes: &[u8], whole: bool) {
        let now = jiff::Timestamp::now();
        if self.dropped > 0 {
            let note = format!(
                "{now:.9} stderr F [{} lines were lost: the log could not be written]\n",
                self.dropped
            );
            if self.put(note.as_bytes()).is_ok() {
                self.dropped = 0;
            }
        }
        let mut record =
            format!("{now:.9} {stream} {} ", if whole { 'F' } else { 'P' }).into_bytes();
        record.extend_from_slice(bytes);
        record.push(b'\n');
        if self.put(&record).is_err() {
            self.dropped += 1;
        }
    }
}

/// One stream on its way to becoming lines.
pub(super) struct Lines {
    name: &'static str,
    rest: Vec<u8>,
}

impl Lines {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            rest: Vec::new(),
        }
    }

    pub fn take(&mut self, mut bytes: &[u8], log: &mut Log) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.rest.extend_from_slice(line);
            bytes = rest.get(1..).unwrap_or_default();
            self.cut(log);
            log.line(self.name, &self.rest, true);
            self.rest.clear();
        }
        self.rest.extend_from_slice(bytes);
        self.cut(log);
    }

    fn cut(&mut self, log: &mut Log) {
        while self.rest.len() > LINE_MAX {
            let later = self.rest.split_off(LINE_MAX);
            log.line(self.name, &self.rest, false);
            self.rest = later;
        }
    }

    /// The stream has ended: what is left is a line too.
    pub fn end(&mut self, log: &mut Log) {
        if !self.rest.is_empty() {
            log.line(self.name, &self.rest, true);
            self.rest = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(path: &std::path::Path) -> Vec<(String, bool, Vec<u8>)> {
        let bytes = fs::read(path).unwrap();
        bytes
            .split_inclusive(|b| *b == b'\n')
            .map(|line| {
                let line = &line[..line.len() - 1];
                let mut parts = line.splitn(4, |b| *b == b' ').skip(1);
                let stream = String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
                let whole = parts.next().unwrap() == b"F";
                (stream, whole, parts.next().unwrap().to_vec())
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30_000), 0..6)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let mut log = Log::open(LogConfig::new(&path));
            let mut lines = Lines::new("stdout");
            for chunk in &chunks {
                lines.take(chunk, &mut log);
            }
            lines.end(&mut log);
            let mut back = Vec::new();
            for (_, whole, bytes) in read(&path) {
                back.extend(bytes);
                if whole { back.push(b'\n'); }
            }
            let mut written = chunks.concat();
            if written.last().is_some_and(|b| *b != b'\n') { written.push(b'\n'); }
            prop_assert_eq!(back, written);
        }
    }

    #[test]
    fn rotation_bounds_size_and_number() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            path: dir.path().join("log"),
            max_bytes: 4096,
            max_files: 3,
        };
        let mut log = Log::open(config);
        for n in 0..1000 {
            log.line("stdout", format!("line {n}").as_bytes(), true);
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap())
            .collect();
        names.sort_by_key(|e| e.file_name());
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|e| e.metadata().unwrap().len() <= 4096));
        assert!(
            read(&dir.path().join("log"))
                .last()
                .unwrap()
                .2
                .ends_with(b"line 999")
        );
    }

    #[test]
    fn a_log_that_cannot_be_written_is_counted_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/log");
        fs::write(dir.path().join("sub"), "in the way").unwrap();
        let mut log = Log::open(LogConfig::new(&path));
        log.line("stdout", b"lost", true);
        fs::remove_file(dir.path().join("sub")).unwrap();
        log.line("stdout", b"kept", true);
        let lines = read(&path);
        assert!(
            String::from_utf8_lossy(&lines[0].2).contains("1 lines were lost"),
            "{lines:?}"
        );
        assert_eq!(lines[1].2, b"kept");
    }
}
