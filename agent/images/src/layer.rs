//! One layer: from a blob on disk to a folder in `layers/`.
//!
//! Two threads work on it: one reads, decompresses and hashes, the other makes the files. The reading end
//! sets the pace.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::decompress::{decompress, fault_of};
use crate::digest::{Digest, Hasher};
use crate::document::LayerDoc;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::limits::Budget;
use crate::progress::{Counter, CountingReader, Phase, Progress, ProgressFn};
use crate::root::RootDir;
use crate::store::Inner;
use crate::unpack::unpack;

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks between the threads: 4 MiB.
const CHUNKS_MAX: usize = 16;

/// What unpacking a layer needs to know.
pub(crate) struct LayerJob<'a> {
    /// The image, for messages.
    pub(crate) image: &'a str,
    pub(crate) layer: &'a LayerDoc,
    /// The layers below, lowest first; their folders are in place.
    pub(crate) below: &'a [LayerDoc],
    pub(crate) budget: &'a Budget,
    pub(crate) progress: &'a ProgressFn,
}

impl Inner {
    /// Unpacks the layer from `blob`, whose digest was checked, unless it is there. The caller holds the
    /// layer's lock. Returns the bytes of its files.
    pub(crate) fn unpack_layer(&self, job: &LayerJob<'_>, blob: &Path) -> Result<u64> {
        if let Some(bytes) = self.layer_bytes(&job.layer.chain_id) {
            self.layer_there(job);
            return Ok(bytes);
        }
        let object = format!("{}: layer {}", job.image, job.layer.blob);
        let temp = self.temp()?;
        let tree = temp.path().join("diff");
        DirBuilder::new()
            .mode(0o755)
            .create(&tree)
            .map_err(Error::io("create", &tree))?;
        // Against the umask.
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("create", &tree))?;
        let lowers: Vec<RootDir> = job
            .below
            .iter()
            .map(|layer| RootDir::open(&self.layer_path(&layer.chain_id)))
            .collect::<Result<_>>()?;

        let file = File::open(blob).map_err(Error::io("read", blob))?;
        let object_name = job.layer.diff_id.short();
        let counter = Counter::new(
            job.progress,
            object_name,
            Phase::Unpacking,
            Some(job.layer.size),
        );
        let source = CountingReader {
            inner: file,
            counter,
        };
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        let (unpacked, diff_id) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| read_ahead(source, job.budget, sender));
            let unpacked = unpack(
                &object,
                ChunkReader::new(receiver),
                &tree,
                &lowers,
                job.budget,
            );
            let diff_id = reading
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (unpacked, diff_id)
        });
        let bytes = unpacked?;
        if diff_id != job.layer.diff_id {
            let fault = Fault::WrongDiffId {
                expected: job.layer.diff_id,
                actual: diff_id,
            };
            return Err(Error::invalid(object, fault));
        }
        let path = self.layer_path(&job.layer.chain_id);
        fs::rename(&tree, &path).map_err(Error::io("create", &path))?;
        self.layer_added(job.layer.chain_id, bytes);
        self.layer_there(job);
        Ok(bytes)
    }

    fn layer_there(&self, job: &LayerJob<'_>) {
        (job.progress)(Progress {
            object: job.layer.diff_id.short(),
            phase: Phase::Done,
            done_bytes: job.layer.size,
            total_bytes: Some(job.layer.size),
        });
    }
}

/// Reads to the end or to the first error, which goes down the channel. Stops when nobody listens.
fn read_ahead(
    source: impl Read + Send,
    budget: &Budget,
    sender: SyncSender<io::Result<Vec<u8>>>,
) -> Digest {
    let mut hasher = Hasher::default();
    let mut reader = match decompress(source) {
        Ok(reader) => reader,
        Err(error) => {
            let _ = sender.send(Err(error));
            return hasher.finish();
        }
    };
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let result = reader
            .by_ref()
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk);
        // What came before an error is still handed on: a full disk or a bad entry in it comes first.
        hasher.update(&chunk);
        if let Err(fault) = budget.take_bytes(chunk.len() as u64) {
            let _ = sender.send(Err(io::Error::other(fault)));
            return hasher.finish();
        }
        if (!chunk.is_empty() && sender.send(Ok(chunk)).is_err()) || matches!(result, Ok(0)) {
            return hasher.finish();
        }
        if let Err(error) = result {
            let _ = sender.send(Err(match fault_of(&error) {
                Some(fault) => io::Error::other(fault),
                None => error,
            }));
            return hasher.finish();
        }
    }
}

/// The other end of [`read_ahead`].
struct ChunkReader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
}

impl ChunkReader {
    fn new(receiver: Receiver<io::Result<Vec<u8>>>) -> Self {
        Self {
            receiver,
            chunk: io::Cursor::default(),
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.chunk.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            match self.receiver.recv() {
                Ok(chunk) => self.chunk = io::Cursor::new(chunk?),
                Err(_) => return Ok(0),
            }
        }
    }
}
