//! `clusterctl unlock`

use crate::client::Client;
use crate::output;
use crate::passphrase::prompt;
use anyhow::{Result, bail};
use api::model::UnlockKey;
use api::proto::UnlockRequest;
use std::io::{BufRead, IsTerminal};
use zeroize::Zeroizing;

/// Unlock this manager, which waits for the cluster's unlock key since it was started
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clusterctl unlock                  # asks for the key\n  clusterctl unlock < FILE           \
                  # the key is FILE's first line\n\nThe key is never taken from the command line, which every user of the \
                  machine can read. `clusterctl unlock-key` shows it on a manager that runs. After a rotation, a manager \
                  that was down needs the key from before."
)]
pub struct Args {}

pub async fn run(client: &Client, _: Args) -> Result<()> {
    let key = read()?;
    // A typing error is told before anything is tried.
    key.parse::<UnlockKey>()?;
    let request = UnlockRequest {
        key: key.to_string(),
    };
    client.daemon().unlock(request).await?;
    output::line("Unlocked: this manager takes part again.")
}

fn read() -> Result<Zeroizing<String>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return prompt("Unlock key: ");
    }
    let mut line = Zeroizing::new(String::new());
    stdin.lock().read_line(&mut line)?;
    match line.trim() {
        "" => bail!("no unlock key: give it on the standard input, or run this at a terminal"),
        key => Ok(Zeroizing::new(key.to_owned())),
    }
}
