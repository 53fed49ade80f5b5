//! What openraft needs of the crate `base2histogram` 0.2.3, in less memory.
//!
//! openraft counts its batches in histograms even where its statistics are switched off. At the first of them the crate
//! it uses computes the tables of sixteen scales, of which openraft uses one: 25 MiB that stay. This one counts by powers
//! of two and has no tables. It takes the crate's place by `[patch.crates-io]` in the workspace's `Cargo.toml`, and can
//! go when that crate makes its tables as they are asked for.

use std::fmt;
use std::marker::PhantomData;

/// One for zero, and one for each highest bit.
const BUCKETS: usize = 65;

/// Counts of values by their highest bit. `T` is the original's label of a period; nothing here has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    label: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            label: PhantomData,
        }
    }
}

impl<T> Histogram<T> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bits = usize::try_from(u64::BITS - value.leading_zeros()).unwrap_or(0);
        if let Some(count) = self.counts.get_mut(bits) {
            *count = count.saturating_add(times);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The least value of the bucket that the value at `permille` of all is in; 0 when there is none.
    fn permille(&self, permille: u64) -> u64 {
        let rank = (u128::from(self.total()) * u128::from(permille)).div_ceil(1_000);
        let mut seen = 0;
        for (least, count) in self.buckets() {
            seen += u128::from(count);
            if seen >= rank.max(1) {
                return least;
            }
        }
        0
    }

    /// Each bucket that has something: its least value, and how many.
    fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let least = |bits: usize| bits.checked_sub(1).map_or(0, |bit| 1 << bit);
        let counts = self.counts.iter().enumerate();
        counts
            .filter(|(_, count)| **count > 0)
            .map(move |(bits, count)| (least(bits), *count))
    }

    /// The usual percentiles.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }
}

/// Percentiles of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values there are.
    pub samples: u64,
    /// The 0.1th percentile.
    pub p0_1: u64,
    /// The 1st.
    pub p1: u64,
    /// The 5th.
    pub p5: u64,
    /// The 10th.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// The 90th.
    pub p90: u64,
    /// The 99th.
    pub p99: u64,
    /// The 99.9th.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} values, median {}, 90 % {}, 99 % {}, 99.9 % {}",
            self.samples, self.p50, self.p90, self.p99, self.p99_9
        )
    }
}

/// Histograms to be shown as text.
#[derive(Debug, Clone)]
pub struct AsciiChart<T = ()> {
    series: Vec<(String, Histogram<T>)>,
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self { series: Vec::new() }
    }
}

impl<T> AsciiChart<T> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one more.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }

    /// Its text: a line for each bucket that has something.
    #[must_use]
    pub fn detailed(&self) -> impl fmt::Display {
        let mut text = String::new();
        for (name, histogram) in &self.series {
            for (least, count) in histogram.buckets() {
                text.push_str(&format!("{name} from {least}: {count}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_one_says_nothing() {
        let histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().samples, 0);
        assert_eq!(histogram.percentile_stats().p99, 0);
        let chart = AsciiChart::new().add("a", histogram);
        assert_eq!(chart.detailed().to_string(), "");
    }

    #[test]
    fn a_chart_names_what_it_shows() {
        let mut histogram = Histogram::<()>::new();
        for value in [0, 5, 7, u64::MAX] {
            histogram.record(value);
        }
        let chart = AsciiChart::new().add("a", histogram);
        let expected = format!("a from 0: 1\na from 4: 2\na from {}: 1\n", 1_u64 << 63);
        assert_eq!(chart.detailed().to_string(), expected);
    }

    proptest! {
        #[test]
        fn a_percentile_is_off_by_less_than_half(mut values in prop::collection::vec(any::<u64>(), 1..200)) {
            let mut histogram = Histogram::<()>::new();
            for value in &values {
                histogram.record(*value);
            }
            values.sort_unstable();
            let stats = histogram.percentile_stats();
            for (permille, told) in [(1, stats.p0_1), (500, stats.p50), (990, stats.p99), (999, stats.p99_9)] {
                let rank = (values.len() * permille).div_ceil(1_000).max(1);
                let value = values[rank - 1];
                prop_assert!(told <= value && value / 2 <= told, "{told} for {value}");
            }
        }
    }
}
