//! What a measurement says, as a table for people and as JSON for programs.

use crate::slice::Slice;
use serde_json::{Value, json};
use std::fmt;

/// One thing measured. Ratios are to the baseline of the same round.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What an acknowledged operation survives.
    pub durability: &'static str,
    /// Median of operations per second.
    pub per_second: f64,
    /// Median of the rounds' ratios to the baseline.
    pub ratio: f64,
    /// The smallest and the largest ratio.
    pub ratio_range: (f64, f64),
    /// Median of CPU microseconds of the whole process per operation; none if the machine doesn't tell.
    pub cpu_us: Option<f64>,
}

/// Rows, and how they came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What was measured, in a sentence.
    pub title: String,
    /// What ratios are to.
    pub baseline: &'static str,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds left out, because their raw probes differ by more than the limit.
    pub left_out: usize,
    /// The rows.
    pub rows: Vec<Row>,
}

/// The middle of `values`, which aren't empty.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

impl Row {
    /// From each round's slice and its baseline per second.
    pub(crate) fn of(name: &str, durability: &'static str, rounds: &[(Slice, f64)]) -> Self {
        let rates: Vec<f64> = rounds.iter().map(|(slice, _)| slice.per_second).collect();
        let ratio = |(slice, baseline): &(Slice, f64)| slice.per_second / baseline;
        let ratios: Vec<f64> = rounds.iter().map(ratio).collect();
        let cpu: Option<Vec<f64>> = rounds.iter().map(|(slice, _)| slice.cpu_us).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        Self {
            name: name.to_owned(),
            durability,
            per_second: median(&rates),
            ratio: median(&ratios),
            ratio_range: (least, most),
            cpu_us: cpu.map(|cpu| median(&cpu)),
        }
    }
}

impl Report {
    /// The report for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name,
                "durability": row.durability,
                "per_second": row.per_second,
                "ratio": row.ratio,
                "ratio_min": row.ratio_range.0,
                "ratio_max": row.ratio_range.1,
                "cpu_us": row.cpu_us,
            })
        };
        json!({
            "title": self.title,
            "baseline": self.baseline,
            "rounds": self.rounds,
            "left_out": self.left_out,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        writeln!(
            f,
            "{} rounds, {} left out as unsteady; medians, ratios to {} of the same round",
            self.rounds, self.left_out, self.baseline
        )?;
        writeln!(
            f,
            "{:<32} {:<26} {:>10} {:>7} {:>15} {:>8}",
            "what", "durability", "per s", "ratio", "range", "CPU us"
        )?;
        for row in &self.rows {
            let range = format!("{:.2} to {:.2}", row.ratio_range.0, row.ratio_range.1);
            let cpu = row.cpu_us.map_or("-".to_owned(), |us| format!("{us:.1}"));
            writeln!(
                f,
                "{:<32} {:<26} {:>10.0} {:>7.2} {range:>15} {cpu:>8}",
                row.name, row.durability, row.per_second, row.ratio
            )?;
        }
        Ok(())
    }
}
