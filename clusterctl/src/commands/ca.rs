//! `clusterctl ca ...`

use crate::client::Client;
use crate::failure::Interrupted;
use crate::output::{self, Format, FormatArg};
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use api::convert;
use api::model::NodeState;
use api::proto::{self, CaStatus, GetCaRequest, RotateCaRequest};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(150);
/// How long without progress before the command stops waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster's certificate authority: show, rotate
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the CA, and how far its replacement is
    #[command(
        after_help = "Examples:\n  clusterctl ca show\n  clusterctl ca show --pem > cluster-ca.crt"
    )]
    Show {
        /// Only the root certificate
        #[arg(long, conflicts_with = "format")]
        pem: bool,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Replace the CA while everything runs
    #[command(
        after_help = "Every node gets a certificate of the new CA by itself; nodes that are down hold the end of it up until \
                      they are back or removed. Join tokens of before work until then, and not after.\n\nExamples:\n  \
                      clusterctl ca rotate\n  clusterctl ca rotate --ca-cert ca.crt --ca-key ca.key"
    )]
    Rotate {
        #[command(flatten)]
        own: OwnCa,
        /// Don't wait until it is done
        #[arg(short, long)]
        detach: bool,
    },
}

/// A CA of one's own.
#[derive(Debug, clap::Args)]
pub struct OwnCa {
    /// Use this CA instead of a new one: its certificate, PEM
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// Its private key, PEM (PKCS #8, not encrypted)
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
}

impl OwnCa {
    /// Certificate and key; both empty when none is given.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn read(&self) -> Result<(String, String)> {
        let text = |path: &Option<PathBuf>| match path {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("can't read {}", path.display())),
            None => Ok(String::new()),
        };
        Ok((text(&self.ca_cert)?, text(&self.ca_key)?))
    }
}

/// As JSON prints it.
#[derive(Serialize)]
struct Shown {
    digest: String,
    subject: String,
    not_before: i64,
    not_after: i64,
    cert_expiry_ms: u64,
    rotating: bool,
    old_digest: Option<String>,
    nodes: u32,
    nodes_left: Vec<Left>,
    cert_pem: String,
}

#[derive(Serialize)]
struct Left {
    id: String,
    hostname: String,
    ready: bool,
}

impl TryFrom<CaStatus> for Shown {
    type Error = anyhow::Error;

    fn try_from(status: CaStatus) -> Result<Self> {
        let rotating = !status.retiring_digest.is_empty();
        let nodes_left = status.laggards.into_iter().map(|left| {
            let state = convert::enumeration::<proto::NodeState>(left.state)?;
            Ok(Left {
                id: convert::node_id(&left.node_id)?.to_string(),
                hostname: left.hostname,
                ready: NodeState::try_from(state)? == NodeState::Ready,
            })
        });
        Ok(Self {
            nodes_left: match rotating {
                true => nodes_left.collect::<Result<_>>()?,
                false => Vec::new(),
            },
            digest: status.digest,
            subject: status.subject,
            not_before: status.not_before,
            not_after: status.not_after,
            cert_expiry_ms: status.cert_expiry_ms,
            rotating,
            old_digest: rotating.then_some(status.retiring_digest),
            nodes: status.nodes,
            cert_pem: status.cert_pem,
        })
    }
}

impl Shown {
    fn progress(&self) -> String {
        let left: Vec<String> = self
            .nodes_left
            .iter()
            .map(|node| {
                let name = if node.hostname.is_empty() {
                    &node.id
                } else {
                    &node.hostname
                };
                format!("{name}{}", if node.ready { "" } else { " (down)" })
            })
            .collect();
        let done = self.nodes as usize - left.len().min(self.nodes as usize);
        match left.as_slice() {
            [] => format!(
                "{done} of {} nodes have certificates of the new CA",
                self.nodes
            ),
            left => format!(
                "{done} of {} nodes have certificates of the new CA; it waits for {}",
                self.nodes,
                left.join(", ")
            ),
        }
    }
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    match args.command {
        Command::Show { pem, format } => show(client, pem, format.format).await,
        Command::Rotate { own, detach } => rotate(client, &own, detach).await,
    }
}

async fn fetch(client: &Client) -> Result<Shown> {
    client
        .control()
        .get_ca(GetCaRequest {})
        .await?
        .into_inner()
        .try_into()
}

fn day(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(
        |_| ms.to_string(),
        |at| at.strftime("%F %T UTC").to_string(),
    )
}

async fn show(client: &Client, pem: bool, format: Format) -> Result<()> {
    let ca = fetch(client).await?;
    if pem {
        return output::line(ca.cert_pem.trim_end());
    }
    if matches!(format, Format::Json) {
        return output::json(&ca);
    }
    output::line(format!("Subject:       {}", ca.subject))?;
    output::line(format!("Digest:        {}", ca.digest))?;
    output::line(format!(
        "Valid:         {} to {}",
        day(ca.not_before),
        day(ca.not_after)
    ))?;
    output::line(format!(
        "Certificates:  {} h each",
        ca.cert_expiry_ms / 3_600_000
    ))?;
    if ca.rotating {
        output::line(format!("Rotation:      {}", ca.progress()))?;
    }
    Ok(())
}

async fn rotate(client: &Client, own: &OwnCa, detach: bool) -> Result<()> {
    let (ca_cert_pem, ca_key_pem) = own.read()?;
    let request = RotateCaRequest {
        ca_cert_pem,
        ca_key_pem,
    };
    let mut ca: Shown = client
        .control()
        .rotate_ca(request)
        .await?
        .into_inner()
        .try_into()?;
    if detach {
        return output::line(ca.digest);
    }
    let mut progress = Progress::start();
    let mut moved = (usize::MAX, Instant::now());
    while ca.rotating {
        progress.say(&ca.progress());
        if ca.nodes_left.len() != moved.0 {
            moved = (ca.nodes_left.len(), Instant::now());
        }
        if moved.1.elapsed() >= PATIENCE {
            progress.finish();
            bail!(
                "the CA is not replaced yet: {}; it goes on by itself when they are back, or removed with \
                 `clusterctl node rm`; `clusterctl ca show` shows how far it is",
                ca.progress()
            );
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            _ = tokio::signal::ctrl_c() => {
                return Err(Interrupted("interrupted; the rotation goes on by itself".into()).into());
            }
        }
        ca = fetch(client).await?;
    }
    progress.finish();
    progress
        .note("Every node has a certificate of the new CA. Join tokens of before no longer work.");
    output::line(ca.digest)
}
