//! What group commit is worth: three nodes as they are, beside three of the same build that put one request into an entry and have one
//! entry under way. Both live all the time; while one is measured the other is idle.
//!
//! A round is 64 clients: on, off, 256 clients: off, on. One in which a leader changed or a request was refused is left out.

use super::EmbeddedBench;
use crate::http::REPLICATED;
use crate::modes::cluster::{Asked, Cluster, Gathers, Measured, Start};
use crate::modes::inside::Inside;
use crate::modes::{JOBS_APART, Work};
use crate::report::{Rounds, Row, Target};
use crate::{BenchError, Report};
use std::time::Duration;

/// What the targets are for.
const FLOOR: Duration = Duration::from_millis(1);

/// Clients, how many times the rate has to be that without gathering, and transactions per sync of the leader.
const JUDGED: [(usize, f64, f64); 2] = [(64, 15.0, 16.0), (256, 40.0, 48.0)];

/// What a number of clients gave, with gathering and without.
struct Pair {
    on: Measured,
    off: Measured,
}

type Round = [Pair; JUDGED.len()];

struct Clusters {
    on: Inside,
    off: Inside,
    slice: Duration,
    /// Number of the next slice's first job.
    first: u64,
}

impl Clusters {
    fn slice(&mut self, gathers: Gathers, clients: usize) -> Result<Measured, BenchError> {
        let asked = Asked {
            work: Work::Insert,
            clients,
            first: self.first,
            slice: self.slice,
        };
        self.first += JOBS_APART;
        match gathers {
            Gathers::AsUsual => self.on.slice(asked),
            Gathers::Nothing => self.off.slice(asked),
        }
    }

    fn round(&mut self) -> Result<(Round, bool), BenchError> {
        let (few, many) = (JUDGED[0].0, JUDGED[1].0);
        let first = Pair {
            on: self.slice(Gathers::AsUsual, few)?,
            off: self.slice(Gathers::Nothing, few)?,
        };
        let off = self.slice(Gathers::Nothing, many)?;
        let on = self.slice(Gathers::AsUsual, many)?;
        let round = [first, Pair { on, off }];
        let steady = round.iter().all(|pair| pair.on.steady && pair.off.steady);
        Ok((round, steady))
    }
}

/// Measures.
///
/// # Errors
///
/// The disk or a node fails, or no round was steady.
pub(super) fn gathering(bench: &EmbeddedBench) -> Result<Report, BenchError> {
    let floor = bench.sync_floor.unwrap_or(FLOOR);
    let cluster = |name: &str, gathers| {
        let folder = bench.folder.join(name);
        std::fs::create_dir(&folder).map_err(BenchError::Runtime)?;
        let start = Start {
            mode: bench.mode,
            folder,
            sync_floor: Some(floor),
            delay: None,
            gathers,
        };
        Inside::start(&start, &bench.env)
    };
    let mut clusters = Clusters {
        on: cluster("gathering", Gathers::AsUsual)?,
        off: cluster("one-by-one", Gathers::Nothing)?,
        slice: bench.slice,
        first: 0,
    };
    let rounds = Rounds::run(bench.rounds, || clusters.round());
    Box::new(clusters.on).end()?;
    Box::new(clusters.off).end()?;
    let rounds = rounds?;
    let rows = (0..JUDGED.len()).flat_map(|at| rows(at, floor, &rounds));
    let title = format!(
        "group commit: one-row INSERTs, three nodes in this process, {} mode, slices of {:?}, each sync at least {floor:?}; off: one request in an entry, one entry under way",
        bench.mode, bench.slice
    );
    let rows = rows.collect();
    Ok(rounds.report(title, rows))
}

fn rows(at: usize, floor: Duration, rounds: &Rounds<Round>) -> [Row; 4] {
    let (clients, times, per_sync) = JUDGED[at];
    let row = |what: &str, unit, value: &dyn Fn(&Pair) -> f64| {
        let name = format!("{clients} clients: {what}");
        rounds.row(&name, REPLICATED, unit, |round| value(&round[at]))
    };
    let elsewhere = (floor != FLOOR).then(|| format!("the target is for {FLOOR:?}"));
    [
        row("INSERT", "/s", &|pair| pair.on.per_second()),
        row("INSERT, gathering off", "/s", &|pair| pair.off.per_second()),
        row("on / off", "x", &|pair| {
            pair.on.per_second() / pair.off.per_second()
        })
        .target(Target::AtLeast(times))
        .unjudged(elsewhere),
        row("transactions per sync, leader", "", &|pair| {
            pair.on.gathered()
        })
        .target(Target::AtLeast(per_sync)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Part;
    use crate::embedded::tests::short_run;

    #[test]
    fn a_short_run_compares_both() {
        let Some(report) = short_run(
            Part::Gathering,
            Duration::from_millis(100),
            Some(Duration::from_millis(2)),
        ) else {
            return;
        };
        assert_eq!(report.rows.len(), 8);
        let times = report.rows.iter().filter(|row| row.unit == "x");
        assert!(times.clone().all(|row| row.median > 1.0), "{report}");
        assert!(
            times.clone().all(|row| row.is_met().is_none()),
            "another floor: {report}"
        );
    }
}
