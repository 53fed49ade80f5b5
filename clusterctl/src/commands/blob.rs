//! What `clusterctl secret` and `clusterctl config` have in common.

use super::Each;
use super::rows::all;
use crate::client::Client;
use crate::output::{self, FormatArg, JsonArg, short};
use crate::{names, time::ago};
use anyhow::{Context, Result, bail};
use api::convert;
use api::model::{BlobId, BlobKey, BlobKind, BlobSpec, Data, Labels, Meta};
use api::proto::{self, CreateBlobRequest, ListBlobsRequest, RemoveBlobRequest, UpdateBlobRequest};
use serde::Serialize;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Create {
    /// A free label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// The file that holds its content; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Update {
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE")]
    label_add: Vec<String>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Name, id or beginning of an id
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, clap::Args)]
pub struct Ls {
    #[command(flatten)]
    pub format: FormatArg,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
pub struct Inspect {
    #[command(flatten)]
    json: JsonArg,
    #[command(flatten)]
    pub names: Names,
}

#[derive(Debug, clap::Args)]
pub struct Names {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// One as JSON prints it.
#[derive(Serialize)]
pub struct BlobRow {
    pub id: BlobId,
    #[serde(flatten)]
    pub key: BlobKey,
    /// Absent for one made by hand.
    pub version: Option<u32>,
    pub stack: Option<String>,
    pub labels: Labels,
    /// Bytes of its content.
    pub size: u32,
    pub services: Vec<String>,
    pub tasks: u32,
    pub meta: Meta,
    /// Of a config that is inspected; bytes that are no text show as U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl TryFrom<proto::BlobRow> for BlobRow {
    type Error = anyhow::Error;
    fn try_from(row: proto::BlobRow) -> Result<Self> {
        const LACKS: &str = "clusterd sent a secret or a config without all its parts";
        Ok(Self {
            id: convert::blob_id(&row.id)?,
            key: row.key.context(LACKS)?.try_into()?,
            version: Some(row.version).filter(|version| *version > 0),
            stack: row.stack,
            labels: row.labels,
            size: row.size,
            services: row.services,
            tasks: row.tasks,
            meta: row.meta.context(LACKS)?.into(),
            data: None,
        })
    }
}

fn wire(kind: BlobKind) -> i32 {
    proto::BlobKind::from(kind).into()
}

/// Those of these names; all when there are none.
///
/// # Errors
/// What clusterd refused.
pub async fn fetch(client: &Client, kind: BlobKind, names: Vec<String>) -> Result<Vec<BlobRow>> {
    let request = ListBlobsRequest {
        kind: wire(kind),
        names,
    };
    all(client
        .control()
        .list_blobs(request)
        .await?
        .into_inner()
        .blobs)
}

/// # Errors
/// What clusterd refused.
pub async fn ls(client: &Client, kind: BlobKind, args: Ls) -> Result<()> {
    let rows = fetch(client, kind, vec![]).await?;
    if args.quiet {
        return rows.iter().try_for_each(|row| output::line(row.id));
    }
    let header = [
        "ID", "NAME", "VERSION", "STACK", "SIZE", "CREATED", "SERVICES",
    ];
    let now = jiff::Timestamp::now();
    output::list(args.format.format, &rows, &header, |row| {
        vec![
            short(row.id),
            row.key.name.clone(),
            row.version.map(|v| v.to_string()).unwrap_or_default(),
            row.stack.clone().unwrap_or_default(),
            output::bytes(row.size.into()),
            ago(row.meta.created_at.0, now),
            output::join(&row.services),
        ]
    })
}

/// # Errors
/// When the file can't be read, is too large, or clusterd refuses.
pub async fn create(client: &Client, kind: BlobKind, create: Create) -> Result<()> {
    let labels: Labels = create
        .label
        .iter()
        .map(|text| names::label(text))
        .collect::<Result<_>>()?;
    let data = content(kind, &create.file)?;
    let spec = BlobSpec {
        kind,
        name: create.name,
        stack: None,
        labels,
        data,
    };
    let request = CreateBlobRequest {
        spec: Some((&spec).into()),
    };
    let made = client.control().create_blob(request).await?.into_inner();
    output::line(convert::blob_id(&made.id)?)
}

fn content(kind: BlobKind, file: &Path) -> Result<Data> {
    let (shown, read) = if file == Path::new("-") {
        let read = read_up_to(io::stdin().lock(), kind.limit());
        ("standard input".to_owned(), read)
    } else {
        (file.display().to_string(), read_file(file, kind.limit()))
    };
    let data = Data::from(read.with_context(|| format!("can't read {shown}"))?);
    match kind.refuse(data.as_bytes().len()) {
        None => Ok(data),
        Some(_) if data.as_bytes().is_empty() => bail!("the {kind} from {shown} is empty"),
        Some(_) => bail!(
            "the {kind} from {shown} is larger than {} bytes, which is the most",
            kind.limit()
        ),
    }
}

/// Reads a file, of which more than `limit` bytes are too many: no more than needed to see that.
///
/// # Errors
/// The system's word.
pub fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    read_up_to(std::fs::File::open(path)?, limit)
}

fn read_up_to(source: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    // As large as it gets at once: growing would leave copies behind.
    let mut bytes = Vec::with_capacity(limit + 1);
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    source.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// # Errors
/// What clusterd refused.
pub async fn update(client: &Client, kind: BlobKind, update: Update) -> Result<()> {
    let labels_set: Labels = update
        .label_add
        .iter()
        .map(|text| names::label(text))
        .collect::<Result<_>>()?;
    if labels_set.is_empty() && update.label_rm.is_empty() {
        bail!("nothing to change: give --label-add or --label-rm");
    }
    let request = UpdateBlobRequest {
        kind: wire(kind),
        name: update.name.clone(),
        labels_set,
        labels_removed: update.label_rm,
    };
    client.control().update_blob(request).await?;
    output::line(update.name)
}

/// # Errors
/// What clusterd refused, of each.
pub async fn rm(client: &Client, kind: BlobKind, names: Vec<String>) -> Result<()> {
    let mut each = Each::default();
    for name in names {
        let request = RemoveBlobRequest {
            kind: wire(kind),
            name: name.clone(),
        };
        let removed = client.control().remove_blob(request).await;
        each.note(removed.map_err(Into::into).and_then(|_| output::line(name)));
    }
    each.end()
}
