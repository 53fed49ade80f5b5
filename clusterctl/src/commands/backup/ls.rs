//! `clusterctl backup ls`

use crate::output::{self, Format, FormatArg};
use crate::time;
use anyhow::Result;
use api::proto::Backups;
use serde::Serialize;

/// List the backups that the managers made, and the last that was made by hand
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clusterctl backup ls\n  clusterctl backup ls --format json")]
pub struct Args {
    #[command(flatten)]
    pub format: FormatArg,
}

#[derive(Serialize)]
struct Row {
    made_at: String,
    node: String,
    path: String,
    bytes: u64,
    revision: u64,
    by_hand: bool,
}

/// Prints them.
///
/// # Errors
/// When stdout can't be written.
pub fn print(backups: &Backups, format: Format) -> Result<()> {
    let rows: Vec<Row> = backups
        .rows
        .iter()
        .map(|row| {
            let note = row.note.clone().unwrap_or_default();
            Row {
                made_at: time::show(note.at),
                node: row.hostname.clone(),
                path: note.path,
                bytes: note.bytes,
                revision: note.revision,
                by_hand: row.by_hand,
            }
        })
        .collect();
    output::list(
        format,
        &rows,
        &["MADE", "NODE", "FILE", "SIZE", "REVISION", "BY"],
        |row| {
            let by = if row.by_hand { "hand" } else { "schedule" };
            vec![
                row.made_at.clone(),
                row.node.clone(),
                row.path.clone(),
                output::bytes(row.bytes),
                row.revision.to_string(),
                by.into(),
            ]
        },
    )?;
    if format == Format::Table
        && let Some(failure) = failure(backups)
    {
        output::line(format!("\nWarning: {failure}"))?;
    }
    Ok(())
}

/// Why the last scheduled one was not made.
pub fn failure(backups: &Backups) -> Option<String> {
    let failure = backups.failure.as_ref()?;
    Some(format!(
        "the scheduled backup was not made on {} at {}: {}",
        backups.failed_on,
        time::show(failure.at),
        failure.why
    ))
}

/// The last one and the next, in one line; none where nobody has made one.
pub fn summary(backups: &Backups) -> Option<String> {
    let last = backups.rows.first().map(|row| {
        let note = row.note.clone().unwrap_or_default();
        format!("{}, {} on {}", time::show(note.at), note.path, row.hostname)
    });
    match (&backups.plan, last) {
        (None, None) => None,
        (None, last) => last,
        (Some(_), None) => Some("none yet".into()),
        (Some(plan), Some(last)) => Some(format!("{last}; next {}", time::show(plan.next_at))),
    }
}
