//! `clusterctl service logs`

use crate::client::Client;
use crate::time::point;
use anyhow::{Result, bail};
use api::proto::{LogRecord, LogsRequest};
use std::io::Write;

/// Print what a service's or a task's containers wrote, from every node
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clusterctl service logs shop_web\n  clusterctl service logs -f --tail 20 -t \
                        shop_web.1\n  clusterctl service logs --since 10m shop_redis\n\nWhere a node's part is missing that is said, and the exit code is 1."
)]
pub struct Args {
    /// Go on printing what is written
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each task
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u64>,
    /// Only what was written since: 10m, or 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was written before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Don't say which task on which node wrote a line
    #[arg(long)]
    raw: bool,
    /// A service or a task: name, id or beginning of an id
    #[arg(value_name = "SERVICE|TASK")]
    target: String,
}

pub async fn run(client: &Client, args: Args) -> Result<()> {
    let now = jiff::Timestamp::now();
    let time = |text: &Option<String>| text.as_deref().map(|t| point(t, now)).transpose();
    let request = LogsRequest {
        target: args.target,
        follow: args.follow,
        tail: args.tail,
        since: time(&args.since)?,
        until: time(&args.until)?,
    };
    let mut stream = client.control().logs(request).await?.into_inner();
    let mut missing = String::new();
    loop {
        let record = tokio::select! {
            record = stream.message() => record?,
            // What ends a log that is followed is no failure.
            _ = tokio::signal::ctrl_c(), if args.follow => return Ok(()),
        };
        match record {
            // Of several tasks of one slot that ran on one node, it is said once.
            Some(record) if !record.notice.is_empty() => {
                if missing != record.notice {
                    // With stderr closed there is nobody to tell.
                    drop(writeln!(
                        std::io::stderr().lock(),
                        "clusterctl: {}",
                        record.notice
                    ));
                    missing = record.notice;
                }
            }
            Some(record) => write(&record, args.timestamps, args.raw)?,
            None if missing.is_empty() => return Ok(()),
            None => bail!("this is not the whole log"),
        }
    }
}

/// The container's stderr goes to ours, its stdout to ours.
fn write(record: &LogRecord, timestamps: bool, raw: bool) -> std::io::Result<()> {
    let mut line = Vec::with_capacity(record.line.len() + 64);
    if !raw {
        write!(line, "{}@{} | ", record.task, record.node)?;
    }
    if timestamps {
        let at = jiff::Timestamp::from_nanosecond(record.at_ns.into())
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(line, "{at:.9} ")?;
    }
    line.extend_from_slice(&record.line);
    line.push(b'\n');
    if record.stderr {
        std::io::stderr().lock().write_all(&line)
    } else {
        std::io::stdout().lock().write_all(&line)
    }
}
