//! What a measurement says, as a table for people and as JSON for programs.
//!
//! Every row is one figure: the median of what the rounds gave, their range, what an acknowledged operation survives,
//! and, where there is one, the target and whether the median meets it. A row whose target doesn't apply says why.

use crate::BenchError;
use serde_json::{Value, json};
use std::fmt;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What an acknowledged operation survives.
    pub durability: &'static str,
    /// Of the values; `x` for a ratio within a round.
    pub unit: &'static str,
    /// Over the rounds.
    pub median: f64,
    /// The smallest and the largest of a round.
    pub range: (f64, f64),
    /// What it should be.
    pub target: Option<Target>,
    /// Why the target doesn't apply to this run.
    pub unjudged: Option<String>,
}

impl Row {
    /// From one value per round.
    pub(crate) fn of(
        name: &str,
        durability: &'static str,
        unit: &'static str,
        values: &[f64],
    ) -> Self {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            name: name.to_owned(),
            durability,
            unit,
            median: median(values),
            range: (least, most),
            target: None,
            unjudged: None,
        }
    }

    pub(crate) fn target(self, target: Target) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    /// The target stands, but this run can't tell.
    pub(crate) fn unjudged(self, why: Option<String>) -> Self {
        Self {
            unjudged: why,
            ..self
        }
    }

    /// Whether the median meets the target; none without one that applies.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        match &self.unjudged {
            Some(_) => None,
            None => self.target.map(|target| target.is_met(self.median)),
        }
    }

    fn verdict(&self) -> String {
        match (self.is_met(), &self.unjudged) {
            (Some(true), _) => "met".to_owned(),
            (Some(false), _) => "MISSED".to_owned(),
            (None, Some(why)) => format!("not judged: {why}"),
            (None, None) => "-".to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "durability": self.durability,
            "unit": self.unit,
            "median": self.median,
            "min": self.range.0,
            "max": self.range.1,
            "target": self.target.map(|target| target.to_string()),
            "met": self.is_met(),
            "unjudged": self.unjudged,
        })
    }
}

/// Values must be there: a report without rounds isn't made.
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

/// Rounds that count, and the numbers of those that don't.
pub(crate) struct Rounds<R> {
    steady: Vec<R>,
    left_out: Vec<usize>,
}

impl<R> Rounds<R> {
    /// Runs `count` rounds; each tells whether it was steady.
    pub(crate) fn run(
        count: usize,
        mut round: impl FnMut() -> Result<(R, bool), BenchError>,
    ) -> Result<Self, BenchError> {
        let (mut steady, mut left_out) = (Vec::new(), Vec::new());
        for number in 1..=count {
            match round()? {
                (round, true) => steady.push(round),
                (_, false) => left_out.push(number),
            }
        }
        if steady.is_empty() {
            return Err(BenchError::Unsteady { rounds: count });
        }
        Ok(Self { steady, left_out })
    }

    /// Those that count.
    pub(crate) fn count(&self) -> usize {
        self.steady.len()
    }

    /// Numbers of the others.
    pub(crate) fn left_out(&self) -> &[usize] {
        &self.left_out
    }

    pub(crate) fn row(
        &self,
        name: &str,
        durability: &'static str,
        unit: &'static str,
        value: impl Fn(&R) -> f64,
    ) -> Row {
        let values: Vec<f64> = self.steady.iter().map(value).collect();
        Row::of(name, durability, unit, &values)
    }

    /// A row of what not every machine tells.
    pub(crate) fn row_if_told(
        &self,
        name: &str,
        durability: &'static str,
        unit: &'static str,
        value: impl Fn(&R) -> Option<f64>,
    ) -> Option<Row> {
        let values: Option<Vec<f64>> = self.steady.iter().map(value).collect();
        values.map(|values| Row::of(name, durability, unit, &values))
    }

    pub(crate) fn report(self, title: String, rows: Vec<Row>) -> Report {
        Report {
            title,
            rounds: self.steady.len(),
            left_out: self.left_out,
            rows,
        }
    }
}

/// Rows, and how they came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What was measured, in a sentence.
    pub title: String,
    /// Rounds that count.
    pub rounds: usize,
    /// Numbers of the rounds left out: their probes differ by more than the limit, or the leader changed.
    pub left_out: Vec<usize>,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// The report for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "title": self.title,
            "rounds": self.rounds,
            "left_out": self.left_out,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

/// Three significant digits are what such measurements give.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        left_out(f, self.rounds, &self.left_out)?;
        table(f, &self.rows)
    }
}

/// How many rounds count and which don't.
pub(crate) fn left_out(
    f: &mut fmt::Formatter<'_>,
    rounds: usize,
    left_out: &[usize],
) -> fmt::Result {
    write!(f, "medians and ranges of {rounds} rounds")?;
    match left_out.len() {
        0 => writeln!(f, ", none left out"),
        count => {
            let numbers: Vec<String> = left_out.iter().map(ToString::to_string).collect();
            writeln!(f, ", {count} left out as unsteady: {}", numbers.join(", "))
        }
    }
}

/// Rows under their heads.
pub(crate) fn table(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(
        f,
        "{:<52} {:<38} {:>9} {:<4} {:>17} {:>9}  verdict",
        "what", "durability", "median", "", "range", "target"
    )?;
    for row in rows {
        let range = format!("{} to {}", short(row.range.0), short(row.range.1));
        let target = row.target.map_or("-".to_owned(), |one| one.to_string());
        writeln!(
            f,
            "{:<52} {:<38} {:>9} {:<4} {range:>17} {target:>9}  {}",
            row.name,
            row.durability,
            short(row.median),
            row.unit,
            row.verdict()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_judged_by_the_median_and_only_where_it_applies() {
        let row = Row::of("a", "power loss", "x", &[1.0, 9.0, 2.0]);
        assert_eq!((row.median, row.range), (2.0, (1.0, 9.0)));
        assert_eq!(row.is_met(), None);
        let at_most = row.clone().target(Target::AtMost(2.0));
        assert_eq!(at_most.is_met(), Some(true));
        let at_least = row.target(Target::AtLeast(2.1));
        assert_eq!(at_least.is_met(), Some(false));
        let unjudged = at_least.clone().unjudged(Some("too fast".to_owned()));
        assert_eq!(unjudged.is_met(), None);
        let report = Report {
            title: "t".to_owned(),
            rounds: 3,
            left_out: vec![2, 5],
            rows: vec![at_most, at_least, unjudged],
        };
        let text = report.to_string();
        for says in [
            "2 left out as unsteady: 2, 5",
            "met",
            "MISSED",
            "too fast",
            ">= 2.1",
        ] {
            assert!(text.contains(says), "{text}");
        }
        assert_eq!(report.json()["rows"][1]["met"], Value::Bool(false));
        assert_eq!(report.json()["left_out"], json!([2, 5]));
    }

    #[test]
    fn an_unsteady_round_is_left_out_and_counted() {
        let mut next = 0.0;
        let rounds = Rounds::run(3, || {
            next += 1.0;
            Ok((next, next != 2.0))
        });
        let rounds = rounds.unwrap();
        let row = rounds.row("a", "b", "c", |value| *value);
        assert_eq!((row.median, row.range), (2.0, (1.0, 3.0)));
        assert_eq!(rounds.left_out, [2]);
        let none = Rounds::run(2, || Ok(((), false)));
        assert!(matches!(none, Err(BenchError::Unsteady { rounds: 2 })));
    }
}
