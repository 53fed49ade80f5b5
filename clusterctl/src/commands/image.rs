//! `clusterctl image ...`

use crate::client::Client;
use crate::output::{self, FormatArg, bytes};
use crate::progress::Progress;
use crate::time::ago;
use anyhow::{Context, Result, bail};
use api::proto::load_image_input::Input;
use api::proto::{
    Image, ImageProgress, ListImagesRequest, LoadImageInput, PullImageRequest, RemoveImageRequest,
};
use serde::Serialize;
use std::io::Read;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// This node's images: load, pull, list, remove
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Load images from a file: what `docker save` writes, or an OCI layout as a tar
    #[command(
        after_help = "Examples:\n  clusterctl image load -i redis.tar\n  docker save redis:7 | clusterctl image load"
    )]
    Load {
        /// The file; standard input if not given
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
    },
    /// Pull an image from its registry
    #[command(
        after_help = "Examples:\n  clusterctl image pull redis:7\n  clusterctl image pull --username me \
                            --password-stdin registry.example.com/app:1 < password"
    )]
    Pull(Pull),
    /// List the images
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        format: FormatArg,
        /// Only ids
        #[arg(short, long)]
        quiet: bool,
    },
    /// Remove images that no container uses
    #[command(visible_alias = "remove")]
    Rm {
        /// Remove the name even if a container uses the image
        #[arg(short, long)]
        force: bool,
        /// Names or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Pull {
    /// Who to be at the registry
    #[arg(short, long)]
    username: Option<String>,
    /// Read the password or token from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Speak plain HTTP to the registry
    #[arg(long)]
    plain_http: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    reference: String,
}

/// Bytes of the archive in one message.
const CHUNK: usize = 256 * 1024;
/// Messages on their way: the file is read no faster than it is unpacked.
const IN_FLIGHT: usize = 8;

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Load { input } => load(client, input).await,
        Command::Pull(pull) => run_pull(client, pull).await,
        Command::Ls { format, quiet } => ls(client, format, quiet).await,
        Command::Rm { force, images } => {
            for reference in images {
                let reply = client
                    .daemon()
                    .remove_image(RemoveImageRequest { reference, force })
                    .await?
                    .into_inner();
                for line in reply.removed {
                    output::line(line)?;
                }
            }
            Ok(())
        }
    }
}

async fn load(client: &Client, path: Option<PathBuf>) -> Result<()> {
    let (name, source): (String, Box<dyn Read + Send>) = match &path {
        Some(path) => {
            let file = std::fs::File::open(path)
                .with_context(|| format!("can't read {}", path.display()))?;
            if file.metadata()?.is_dir() {
                bail!(
                    "{} is a folder; pack it with `tar -C {0} -c .` first",
                    path.display()
                );
            }
            (path.display().to_string(), Box::new(file))
        }
        None => ("standard input".into(), Box::new(std::io::stdin())),
    };
    let (tx, rx) = mpsc::channel(IN_FLIGHT);
    let reader = tokio::task::spawn_blocking({
        let name = name.clone();
        move || send_archive(name, source, &tx)
    });
    let stream = client
        .daemon()
        .load_image(ReceiverStream::new(rx))
        .await?
        .into_inner();
    let done = follow(stream).await;
    match done {
        // A read error is the cause of whatever clusterd then made of the archive's end.
        Err(error) => {
            if reader.is_finished() {
                reader
                    .await?
                    .with_context(|| format!("can't read {name}"))?;
            }
            Err(error)
        }
        Ok(images) => {
            reader
                .await?
                .with_context(|| format!("can't read {name}"))?;
            for image in images {
                match image.references.is_empty() {
                    true => output::line(format!("loaded {}", image.id))?,
                    false => output::line(format!("loaded {}", output::join(&image.references)))?,
                }
            }
            Ok(())
        }
    }
}

/// Sends the archive; ends quietly when clusterd has had enough.
fn send_archive(
    name: String,
    mut source: Box<dyn Read + Send>,
    tx: &mpsc::Sender<LoadImageInput>,
) -> std::io::Result<()> {
    if tx
        .blocking_send(LoadImageInput {
            input: Some(Input::Name(name)),
        })
        .is_err()
    {
        return Ok(());
    }
    loop {
        let mut chunk = vec![0; CHUNK];
        let mut filled = 0;
        while let Some(rest) = chunk.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match source.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return Ok(());
        }
        chunk.truncate(filled);
        if tx
            .blocking_send(LoadImageInput {
                input: Some(Input::Data(chunk.into())),
            })
            .is_err()
        {
            return Ok(());
        }
    }
}

async fn run_pull(client: &Client, pull: Pull) -> Result<()> {
    let mut password = String::new();
    if pull.password_stdin {
        std::io::stdin()
            .lock()
            .take(64 * 1024)
            .read_to_string(&mut password)
            .context("can't read the password")?;
        let end = password.trim_end_matches(['\r', '\n']).len();
        password.truncate(end);
    }
    let request = PullImageRequest {
        reference: pull.reference,
        username: pull.username.unwrap_or_default(),
        password,
        plain_http: pull.plain_http,
    };
    let stream = client.daemon().pull_image(request).await?.into_inner();
    for image in follow(stream).await? {
        output::line(format!(
            "pulled {} ({})",
            output::join(&image.references),
            image.digest
        ))?;
    }
    Ok(())
}

/// Shows progress until the images are there.
async fn follow(mut stream: Streaming<ImageProgress>) -> Result<Vec<Image>> {
    let mut progress = Progress::start();
    let mut done = Vec::new();
    while let Some(step) = stream.message().await? {
        match (step.bytes_total, step.bytes_done) {
            (0, 0) if step.message.is_empty() => {}
            (0, 0) => progress.say(&step.message),
            // Only a terminal is told every byte.
            (0, so_far) => progress.update(&format!("{} {}", step.message, bytes(so_far))),
            (total, so_far) => progress.update(&format!(
                "{} {} of {}",
                step.message,
                bytes(so_far),
                bytes(total)
            )),
        }
        done.extend(step.done);
    }
    progress.finish();
    Ok(done)
}

#[derive(Serialize)]
struct Row {
    id: String,
    references: Vec<String>,
    digest: String,
    size: u64,
    created_at: i64,
    layers: u32,
}

async fn ls(client: &Client, format: FormatArg, quiet: bool) -> Result<()> {
    let reply = client
        .daemon()
        .list_images(ListImagesRequest {})
        .await?
        .into_inner();
    let mut rows: Vec<Row> = reply
        .images
        .into_iter()
        .map(|i| Row {
            id: i.id,
            references: i.references,
            digest: i.digest,
            size: i.size,
            created_at: i.created_at,
            layers: i.layers,
        })
        .collect();
    rows.sort_by(|a, b| (&a.references, &a.id).cmp(&(&b.references, &b.id)));
    if quiet {
        return rows.iter().try_for_each(|row| output::line(&row.id));
    }
    let now = jiff::Timestamp::now();
    output::list(
        format.format,
        &rows,
        &["IMAGE", "ID", "CREATED", "LAYERS", "SIZE"],
        |row| {
            let name = if row.references.is_empty() {
                "<none>".into()
            } else {
                output::join(&row.references)
            };
            let id = row.id.strip_prefix("sha256:").unwrap_or(&row.id);
            // Reproducible builds say 1970, and mean nothing by it.
            let created = if row.created_at == 0 {
                "-".into()
            } else {
                ago(row.created_at, now)
            };
            vec![
                name,
                output::short(id),
                created,
                row.layers.to_string(),
                bytes(row.size),
            ]
        },
    )
}
