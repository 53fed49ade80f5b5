//! Tables for people, JSON for programs.

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::Write;

/// How lists and inspections are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns, for people.
    #[default]
    Table,
    /// One JSON value: an array for lists.
    Json,
}

/// The `--format` option.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct FormatArg {
    /// How to print: columns, or one JSON value
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// The `--format json` of inspections, which print nothing else: scripts may give it everywhere.
#[derive(Debug, clap::Args)]
pub struct JsonArg {
    /// How to print: one JSON value, always
    #[arg(long = "format", value_name = "FORMAT", value_parser = ["json"])]
    _format: Option<String>,
}

/// Prints rows: `columns` makes a table's line of each.
///
/// # Errors
/// When stdout can't be written.
pub fn list<T: Serialize>(
    format: Format,
    rows: &[T],
    header: &[&str],
    columns: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    match format {
        Format::Json => json(&rows),
        Format::Table => {
            let mut table = Table::new();
            table
                .load_style(presets::NOTHING)
                .set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(header.to_vec());
            for row in rows {
                table.add_row(columns(row));
            }
            for column in table.column_iter_mut() {
                column.set_padding((0, 3));
            }
            let text: Vec<String> = table
                .lines()
                .map(|line| line.trim_end().to_owned())
                .collect();
            Ok(writeln!(std::io::stdout().lock(), "{}", text.join("\n"))?)
        }
    }
}

/// Prints one JSON value.
///
/// # Errors
/// When stdout can't be written.
pub fn json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Prints a line.
///
/// # Errors
/// When stdout can't be written.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Prints a line for each.
///
/// # Errors
/// When stdout can't be written.
pub fn lines<T: std::fmt::Display>(texts: &[T]) -> Result<()> {
    texts.iter().try_for_each(line)
}

/// The first 12 characters of an id, as docker shows them.
pub fn short(id: impl std::fmt::Display) -> String {
    id.to_string().chars().take(12).collect()
}

/// A list in one cell.
pub fn join<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Bytes as people read them: 1.5 MB.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_written_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(123_456_789), "123.4 MB");
        assert_eq!(bytes(u64::MAX), "18446744.0 TB");
    }
}
