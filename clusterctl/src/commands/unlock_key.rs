//! `clusterctl unlock-key`

use crate::client::Client;
use crate::output;
use anyhow::Result;
use api::proto::GetUnlockKeyRequest;

/// Show the key that unlocks managers after they were started
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clusterctl unlock-key\n  clusterctl unlock-key -q\n  clusterctl unlock-key --rotate   # \
                  the key before unlocks only managers that are down now"
)]
pub struct Args {
    /// Only the key
    #[arg(short, long)]
    quiet: bool,
    /// Make a new key first
    #[arg(long)]
    rotate: bool,
}

/// What to do with a key.
pub fn advice(key: &str) -> String {
    format!(
        "Managers are locked when they start. To unlock one, run `clusterctl unlock` on it and give it this key:\n\n    \
         {key}\n\nKeep it in a password manager or on paper, and not on the managers. Without it, a cluster whose managers \
         have all been restarted is lost."
    )
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    let request = GetUnlockKeyRequest {
        rotate: args.rotate,
    };
    let reply = client.control().get_unlock_key(request).await?.into_inner();
    if args.quiet {
        return output::line(reply.key);
    }
    output::line(advice(&reply.key))?;
    if args.rotate {
        output::line(
            "\nKeep the key from before until every manager has run since: one that is down now still needs it.",
        )?;
    }
    Ok(())
}
