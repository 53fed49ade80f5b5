//! What was measured: one JSON line each, and a table of all.

use anyhow::Result;
use serde::Serialize;

/// One measured value of one system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub row: String,
    /// `ours`, `swarm`, or what both are compared with.
    pub system: String,
    /// The median of the runs.
    pub value: f64,
    /// `s`, `ms`, `MiB`, `Gbit/s`, `%`, `/s`, `tasks`.
    pub unit: &'static str,
    /// Each run.
    pub runs: Vec<f64>,
}

impl Figure {
    /// The median of some runs. Without runs there is no figure.
    #[must_use]
    pub fn of(row: &str, system: &str, unit: &'static str, runs: &[f64]) -> Option<Self> {
        let round = |v: f64| (v * 1000.0).round() / 1000.0;
        Some(Self {
            row: row.to_owned(),
            system: system.to_owned(),
            value: round(median(runs)?),
            unit,
            runs: runs.iter().copied().map(round).collect(),
        })
    }

    /// Prints its line at once, so that a run that is broken off has shown what it had.
    pub fn print(&self) -> Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let high = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 {
        high
    } else {
        f64::midpoint(sorted[sorted.len() / 2 - 1], high)
    })
}

/// How the two compare in a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// What was measured.
    pub row: String,
    /// Ours.
    pub ours: f64,
    /// The other's.
    pub swarm: f64,
    /// Their unit.
    pub unit: &'static str,
    /// How many times better ours is: over 1 is better.
    pub better: f64,
}

/// The rows that both systems have.
#[must_use]
pub fn ratios(figures: &[Figure]) -> Vec<Ratio> {
    let of = |row: &str, system: &str| figures.iter().find(|f| f.row == row && f.system == system);
    let mut ratios = Vec::new();
    for ours in figures.iter().filter(|f| f.system == "ours") {
        let Some(swarm) = of(&ours.row, "swarm") else {
            continue;
        };
        // Of throughput more is better, of all else less.
        let (better, worse) = match ours.unit {
            "Gbit/s" | "%" | "/s" => (ours.value, swarm.value),
            _ => (swarm.value, ours.value),
        };
        let better = if worse > 0.0 {
            (better / worse * 100.0).round() / 100.0
        } else {
            f64::INFINITY
        };
        ratios.push(Ratio {
            row: ours.row.clone(),
            ours: ours.value,
            swarm: swarm.value,
            unit: ours.unit,
            better,
        });
    }
    ratios
}

/// All figures for people.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for figure in figures {
        if !rows.contains(&figure.row.as_str()) {
            rows.push(&figure.row);
        }
    }
    let ratios = ratios(figures);
    let mut out = format!(
        "{:<34} {:>12} {:>12} {:>8}  better by\n",
        "", "ours", "swarm", ""
    );
    for row in rows {
        let of = |system: &str| figures.iter().find(|f| f.row == row && f.system == system);
        let cell =
            |system: &str| of(system).map_or_else(|| "-".to_owned(), |f| f.value.to_string());
        let unit = figures.iter().find(|f| f.row == row).map_or("", |f| f.unit);
        let ratio = ratios
            .iter()
            .find(|r| r.row == row)
            .map_or_else(String::new, |r| format!("{}x", r.better));
        out += &format!(
            "{row:<34} {:>12} {:>12} {unit:>8}  {ratio}\n",
            cell("ours"),
            cell("swarm")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn better_means_less_time_or_more_throughput() {
        let figure = |row: &str, system: &str, unit, value| {
            Figure::of(row, system, unit, &[value]).expect("a figure")
        };
        let figures = [
            figure("deploy", "ours", "s", 2.0),
            figure("deploy", "swarm", "s", 10.0),
            figure("tcp", "ours", "Gbit/s", 12.0),
            figure("tcp", "swarm", "Gbit/s", 8.0),
            figure("lonely", "ours", "s", 1.0),
        ];
        let better: Vec<(String, f64)> = ratios(&figures)
            .into_iter()
            .map(|r| (r.row, r.better))
            .collect();
        assert_eq!(
            better,
            [("deploy".to_owned(), 5.0), ("tcp".to_owned(), 1.5)]
        );
        let table = table(&figures);
        assert!(table.contains("5x") && table.contains("lonely"), "{table}");
    }
}
