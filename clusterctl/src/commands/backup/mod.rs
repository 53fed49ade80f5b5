//! `clusterctl backup`

mod inspect;
pub mod ls;
mod make;
mod schedule;

use crate::client;
use anyhow::Result;
use clap::Subcommand;

/// Keep the cluster's whole state in one encrypted file
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "The file holds what brings the cluster back: its id, its CA with the private key, every node, network, \
                  service and task. It holds no images and no volumes. It is encrypted with a passphrase \
                  (XChaCha20-Poly1305, the key by Argon2id): whoever has both has the cluster, and without the passphrase \
                  it is worth nothing. Before this command says that it is done, the file was opened again and restored \
                  into a scratch store.\n\nThe passphrase comes from --passphrase-file, from $CLUSTERCTL_PASSPHRASE, or \
                  is asked for; --generate-key makes one and prints it, once.\n\nExamples:\n  clusterctl backup \
                  /root/cluster.backup\n  clusterctl backup --passphrase-file /root/pass /mnt/usb/cluster.backup\n  \
                  clusterctl backup inspect /root/cluster.backup\n  clusterctl backup schedule --every 6h --keep 14\n  clusterctl restore /root/cluster.backup"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    make: make::Make,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Schedule(schedule::Args),
    Ls(ls::Args),
}

pub async fn run(host: &str, args: Args) -> Result<()> {
    match args.command {
        // A file is looked at where there is no clusterd, too.
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::Schedule(args)) => {
            schedule::run(&client::connect(host, false).await?, args).await
        }
        Some(Command::Ls(args)) => {
            schedule::list(&client::connect(host, false).await?, args.format).await
        }
        None => make::run(&client::connect(host, false).await?, args.make).await,
    }
}
