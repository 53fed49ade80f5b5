//! Partitions: a node drops what comes from some addresses, by a table of its own in its own namespace, and nobody is
//! told. Each direction is apart, so that one side may hear what the other says and not the other way round.

use std::{collections::BTreeSet, ffi::OsString, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};

use super::{enter, record::Record};
use crate::run;

const LIMIT: Duration = Duration::from_secs(30);

/// Replaces what a node hears nothing from.
pub fn set(record: &Record, node: &str, addresses: &[Ipv4Addr]) -> Result<()> {
    let script = script(addresses);
    let words = ["nft", "-f", "-"].map(OsString::from);
    run::bounded(
        &mut enter::command(record, node, &words)?,
        script.as_bytes(),
        LIMIT,
    )
    .context("partitions need the `nft` command (Debian package nftables)")?
    .checked()
    .map(drop)
    .with_context(|| format!("on {node}, while running:\n{script}"))
}

/// One transaction. Before connection tracking, so that what is under way is dropped, too.
fn script(addresses: &[Ipv4Addr]) -> String {
    let mut script = String::from("table ip lab_deaf\ndelete table ip lab_deaf\n");
    if !addresses.is_empty() {
        let distinct: BTreeSet<_> = addresses.iter().map(Ipv4Addr::to_string).collect();
        let list = Vec::from_iter(distinct).join(", ");
        script += &format!(
            "table ip lab_deaf {{\n  chain partition {{\n    type filter hook prerouting priority -400; policy accept;\n    \
             ip saddr {{ {list} }} drop\n  }}\n}}\n"
        );
    }
    script
}

#[cfg(test)]
mod tests {
    use super::script;

    #[test]
    fn what_was_before_goes_in_the_same_transaction() {
        let none = script(&[]);
        assert_eq!(none, "table ip lab_deaf\ndelete table ip lab_deaf\n");
        let two = script(&[
            [10, 0, 0, 2].into(),
            [10, 0, 0, 1].into(),
            [10, 0, 0, 2].into(),
        ]);
        assert!(two.starts_with(&none), "{two}");
        assert!(
            two.contains("ip saddr { 10.0.0.1, 10.0.0.2 } drop"),
            "{two}"
        );
    }
}
