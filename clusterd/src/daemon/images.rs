//! This node's images, through the socket: load, pull, list, remove.

use api::proto::load_image_input::Input;
use api::proto::{
    Image, ImageProgress, ListImagesReply, LoadImageInput, PullImageRequest, RemoveImageReply,
    RemoveImageRequest,
};
use images::{
    Auth, ImageInfo, LoadOptions, Phase, Progress, ProgressFn, PullOptions, Reference, Store,
};
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Chunks of an archive on their way to the disk.
const CHUNKS: usize = 8;
/// Reports on their way to the caller; what is too many is left out.
const REPORTS: usize = 32;

type Reports = mpsc::Sender<Result<ImageProgress, Status>>;

/// An archive as it comes in.
struct Archive {
    chunks: mpsc::Receiver<io::Result<bytes::Bytes>>,
    rest: bytes::Bytes,
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        let taken = self.rest.split_to(count);
        buffer
            .get_mut(..count)
            .unwrap_or_default()
            .copy_from_slice(&taken);
        Ok(count)
    }
}

fn wire(info: &ImageInfo) -> Image {
    Image {
        id: info.id.to_string(),
        references: info.references.iter().map(Reference::familiar).collect(),
        digest: info.manifest_digest.to_string(),
        size: info.size_bytes,
        created_at: created_ms(info),
        layers: u32::try_from(info.layers).unwrap_or(u32::MAX),
    }
}

/// When an image was built; the epoch when it doesn't say.
fn created_ms(info: &ImageInfo) -> i64 {
    let parsed = info
        .created
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.map_or(0, jiff::Timestamp::as_millisecond)
}

fn reporter(reports: &Reports) -> ProgressFn {
    let reports = reports.clone();
    Arc::new(move |progress: Progress| {
        let doing = match progress.phase {
            Phase::Reading => "reading",
            Phase::Downloading => "downloading",
            Phase::Unpacking => "unpacking",
            Phase::Done => "done:",
        };
        let report = ImageProgress {
            message: format!("{doing} {}", progress.object),
            bytes_done: progress.done_bytes,
            bytes_total: progress.total_bytes.unwrap_or(0),
            done: vec![],
        };
        // A caller that reads slowly misses some; the end is sent another way.
        let _ = reports.try_send(Ok(report));
    })
}

fn refused(error: &images::Error) -> Status {
    use images::Error;
    let text = error.full();
    match error {
        Error::NotFound { .. } | Error::NotInRegistry { .. } => Status::not_found(text),
        Error::BadReference { .. } | Error::AmbiguousId { .. } | Error::Invalid { .. } => {
            Status::invalid_argument(text)
        }
        Error::InUse { .. } | Error::SeveralNames { .. } => Status::failed_precondition(text),
        Error::DiskFull { .. } => Status::resource_exhausted(text),
        Error::Registry { .. } | Error::RegistryAnswer { .. } => Status::unavailable(text),
        Error::Unauthorized { .. } => Status::permission_denied(text),
        _ => Status::internal(text),
    }
}

async fn finish(
    reports: &Reports,
    outcome: Result<Result<Vec<ImageInfo>, images::Error>, tokio::task::JoinError>,
) {
    let last = match outcome {
        Ok(Ok(done)) => Ok(ImageProgress {
            done: done.iter().map(wire).collect(),
            ..ImageProgress::default()
        }),
        Ok(Err(error)) => Err(refused(&error)),
        Err(error) => Err(Status::internal(format!("clusterd failed: {error}"))),
    };
    // A caller that is gone doesn't care.
    let _ = reports.send(last).await;
}

/// Loads the archive that the stream carries. When the stream breaks off, nothing is kept.
pub fn load(
    store: Store,
    mut input: Streaming<LoadImageInput>,
) -> ReceiverStream<Result<ImageProgress, Status>> {
    let (reports, replies) = mpsc::channel(REPORTS);
    tokio::spawn(async move {
        let name = match input.message().await {
            Ok(Some(LoadImageInput {
                input: Some(Input::Name(name)),
            })) => name,
            _ => {
                let refused = Status::invalid_argument(
                    "image load: the first message has to name the archive",
                );
                // A caller that is gone doesn't care.
                let _ = reports.send(Err(refused)).await;
                return;
            }
        };
        let (chunks, incoming) = mpsc::channel(CHUNKS);
        let progress = reporter(&reports);
        let archive = Archive {
            chunks: incoming,
            rest: bytes::Bytes::new(),
        };
        let options = LoadOptions::default();
        let work =
            tokio::task::spawn_blocking(move || store.load(&name, archive, &options, &progress));
        pass(&mut input, chunks).await;
        finish(&reports, work.await).await;
    });
    ReceiverStream::new(replies)
}

/// Passes the archive on until it ends, breaks off, or the store has seen enough.
async fn pass(
    input: &mut Streaming<LoadImageInput>,
    chunks: mpsc::Sender<io::Result<bytes::Bytes>>,
) {
    loop {
        let chunk = match input.message().await {
            Ok(Some(LoadImageInput {
                input: Some(Input::Data(data)),
            })) => Ok(data),
            Ok(Some(_)) => continue,
            Ok(None) => return,
            Err(status) => Err(io::Error::other(format!(
                "the sender broke off: {}",
                status.message()
            ))),
        };
        let last = chunk.is_err();
        if chunks.send(chunk).await.is_err() || last {
            return;
        }
    }
}

/// Pulls an image.
pub fn pull(
    store: Store,
    request: PullImageRequest,
) -> Result<ReceiverStream<Result<ImageProgress, Status>>, Status> {
    let reference: Reference = request
        .reference
        .parse()
        .map_err(|e: images::Error| refused(&e))?;
    let auth = match (request.username, request.password) {
        (username, password) if !username.is_empty() => Auth::Basic { username, password },
        (_, token) if !token.is_empty() => Auth::Bearer(token),
        _ => Auth::Anonymous,
    };
    let mut options = PullOptions::default();
    if request.plain_http {
        options
            .insecure_registries
            .push(reference.registry().to_owned());
    }
    let (reports, replies) = mpsc::channel(REPORTS);
    tokio::spawn(async move {
        let progress = reporter(&reports);
        let outcome = tokio::select! {
            outcome = store.pull(&reference, &auth, &options, &progress) => outcome,
            // Ctrl-C at the other end ends the download.
            () = reports.closed() => return,
        };
        finish(&reports, Ok(outcome.map(|info| vec![info]))).await;
    });
    Ok(ReceiverStream::new(replies))
}

/// Lists the images.
pub fn list(store: &Store) -> ListImagesReply {
    ListImagesReply {
        images: store.list().iter().map(wire).collect(),
    }
}

/// Removes a name, and the image with its last.
pub async fn remove(
    store: Store,
    request: RemoveImageRequest,
    in_use: Vec<images::ImageId>,
) -> Result<RemoveImageReply, Status> {
    let work = move || store.remove(&request.reference, &in_use, request.force);
    let removed = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(format!("clusterd failed: {error}")))?
        .map_err(|error| refused(&error))?;
    let names = removed
        .untagged
        .iter()
        .map(|name| format!("untagged {}", name.familiar()));
    let deleted = removed.deleted.map(|id| format!("deleted {id}"));
    Ok(RemoveImageReply {
        removed: names.chain(deleted).collect(),
    })
}
