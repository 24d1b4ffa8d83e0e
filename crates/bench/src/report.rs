//! What a measurement says, as a table for people and as JSON for programs.

use serde_json::{Value, json};
use std::fmt;

/// One thing measured. Ratios are to the raw probe of the same round.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What an acknowledged operation survives.
    pub durability: &'static str,
    /// Median of operations per second.
    pub per_second: f64,
    /// Median of the rounds' ratios to raw.
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
            "{} rounds, {} left out as unsteady; medians, ratios to raw of the same round",
            self.rounds, self.left_out
        )?;
        writeln!(
            f,
            "{:<24} {:<26} {:>10} {:>7} {:>15} {:>8}",
            "what", "durability", "per s", "to raw", "range", "CPU us"
        )?;
        for row in &self.rows {
            let range = format!("{:.2} to {:.2}", row.ratio_range.0, row.ratio_range.1);
            let cpu = row.cpu_us.map_or("-".to_owned(), |us| format!("{us:.1}"));
            writeln!(
                f,
                "{:<24} {:<26} {:>10.0} {:>7.2} {range:>15} {cpu:>8}",
                row.name, row.durability, row.per_second, row.ratio
            )?;
        }
        Ok(())
    }
}
