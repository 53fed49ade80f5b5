//! How much memory processes take.

use std::fs;

use anyhow::{Context, Result};

/// Resident memory, MiB.
pub fn resident_mib(pid: i32) -> Result<f64> {
    kib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Resident memory, where what is shared by n processes counts 1/n; MiB.
pub fn proportional_mib(pid: i32) -> Result<f64> {
    kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn kib(path: &str, key: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(key))
        .with_context(|| format!("{path} has no {key}"))?;
    let number: f64 = line
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .with_context(|| format!("{path}: {line}"))?;
    Ok(number / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_some() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let (resident, proportional) = (
            resident_mib(own).expect("resident"),
            proportional_mib(own).expect("proportional"),
        );
        assert!(resident > 0.0 && proportional > 0.0 && proportional <= resident * 1.5);
    }
}
