//! One file per command: its arguments, its help, what it does.

pub mod backup;
pub mod blob;
pub mod ca;
pub mod cluster;
pub mod completions;
pub mod config;
pub mod deploy;
pub mod exec;
pub mod filter;
pub mod image;
pub mod init;
pub mod join;
pub mod join_token;
pub mod leave;
pub mod logs;
pub mod man;
pub mod network;
pub mod node;
pub mod recovered;
pub mod restore;
pub mod role;
pub mod rows;
pub mod secret;
pub mod service;
pub mod stack;
pub mod status;
pub mod tasks;
pub mod unlock;
pub mod unlock_key;
pub mod wait;

use crate::cli::{Cli, Command};
use crate::client;
use crate::failure::Interrupted;
use anyhow::Result;

/// Several things done one after another: one that fails holds up none of the others, and all are told.
#[derive(Default)]
pub struct Each(Vec<anyhow::Error>);

impl Each {
    /// How one of them went.
    pub fn note(&mut self, outcome: Result<()>) {
        self.0.extend(outcome.err());
    }

    /// How all of them went.
    ///
    /// # Errors
    /// Those of each that failed.
    pub fn end(mut self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => {
                let texts: Vec<String> = self.0.iter().map(crate::failure::text).collect();
                let text = texts.join("\nclusterctl: ");
                match self.0.iter().any(|error| error.is::<Interrupted>()) {
                    true => Err(Interrupted(text).into()),
                    false => Err(anyhow::anyhow!(text)),
                }
            }
        }
    }
}

/// Runs the command and says its exit code.
///
/// # Errors
/// Whatever the user should read; see [`crate::failure`].
pub async fn run(cli: Cli) -> Result<u8> {
    // These need no clusterd.
    match &cli.command {
        Command::Completions(args) => return completions::run(args).map(|()| 0),
        Command::Man(args) => return man::run(args).map(|()| 0),
        _ => {}
    }
    if let Command::Backup(args) = cli.command {
        return backup::run(&cli.host, args).await.map(|()| 0);
    }
    let client = client::connect(&cli.host, cli.stale).await?;
    match cli.command {
        Command::Init(args) => init::run(&client, args).await?,
        Command::Join(args) => join::run(&client, args).await?,
        Command::JoinToken(args) => join_token::run(&client, args).await?,
        Command::Leave(args) => leave::run(&client, args).await?,
        Command::Status(args) => status::run(&client, args).await?,
        Command::Cluster(args) => cluster::run(&client, args).await?,
        Command::Ca(args) => ca::run(&client, args).await?,
        Command::Node(args) => node::run(&client, args).await?,
        Command::Network(args) => network::run(&client, args).await?,
        Command::Deploy(args) => deploy::run(&client, args).await?,
        Command::Stack(args) => stack::run(&client, args).await?,
        Command::Service(args) => service::run(&client, args).await?,
        Command::Secret(args) => secret::run(&client, args).await?,
        Command::Config(args) => config::run(&client, args).await?,
        Command::Unlock(args) => unlock::run(&client, args).await?,
        Command::UnlockKey(args) => unlock_key::run(&client, args).await?,
        Command::Exec(args) => return exec::run(&client, args).await,
        Command::Image(args) => image::run(&client, args).await?,
        Command::Restore(args) => restore::run(&client, args).await?,
        Command::Backup(_) | Command::Completions(_) | Command::Man(_) => {}
    }
    Ok(0)
}
