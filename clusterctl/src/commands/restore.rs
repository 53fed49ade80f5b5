//! `clusterctl restore`

use super::recovered;
use crate::client::Client;
use crate::passphrase::PassphraseArgs;
use anyhow::{Context, Result};
use api::backup::Envelope;
use api::proto::restore_input::Input;
use api::proto::{GetInfoRequest, RestoreInput, RestoreStart};
use std::path::PathBuf;

/// Bring a cluster back from a backup, with this machine as its only manager
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For a machine that belongs to no cluster. The cluster keeps its id and its CA: workers find it again \
                  with the certificates they have, and their containers run on. Its former managers are given up; what \
                  was changed after the backup is lost. If a manager is left, `clusterctl init --force-new-cluster` there \
                  loses less.\n\nGive the machine an address that a manager had: that is where the workers \
                  look.\n\nExamples:\n  clusterctl restore /root/cluster.backup\n  clusterctl restore --advertise-addr \
                  192.168.205.10 /root/cluster.backup"
)]
pub struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The address other nodes reach this machine at; needed when it has several
    #[arg(long, value_name = "IP")]
    advertise_addr: Option<String>,
    /// Refuse the backup of any other cluster than this
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// Bytes of the file in one message.
const CHUNK: usize = 256 * 1024;

pub async fn run(client: &Client, args: Args) -> Result<()> {
    let path = args.file.display();
    let file = std::fs::read(&args.file).with_context(|| format!("can't read {path}"))?;
    // Before anybody is asked for a passphrase.
    Envelope::read(&file).with_context(|| format!("{path} can't be restored"))?;
    let info = client.daemon().get_info(GetInfoRequest {}).await?;
    // Where a cluster is already, clusterd refuses whatever the passphrase: nobody is asked for one.
    let passphrase = match info.into_inner().cluster_id.is_empty() {
        true => Some(args.passphrase.read(false)?),
        false => args.passphrase.given()?,
    };
    let start = RestoreStart {
        passphrase: passphrase.map(|text| text.to_string()).unwrap_or_default(),
        advertise_addr: args.advertise_addr.unwrap_or_default(),
        cluster: args.cluster.unwrap_or_default(),
    };
    let file = bytes::Bytes::from(file);
    let chunks = (0..file.len())
        .step_by(CHUNK)
        .map(move |at| Input::Data(file.slice(at..file.len().min(at + CHUNK))));
    let input = std::iter::once(Input::Start(start))
        .chain(chunks)
        .map(|input| RestoreInput { input: Some(input) });
    let stream = client
        .daemon()
        .restore(tokio_stream::iter(input))
        .await
        .with_context(|| format!("{path} can't be restored"))?
        .into_inner();
    let done = recovered::follow(stream)
        .await
        .with_context(|| format!("{path} can't be restored"))?;
    recovered::tell(&done)
}
