//! One kind of work in one place: what each mode and each baseline gave, and how page mode stands to statement mode.

use super::cluster::Measured;
use super::{MODES, ModesBench, Place, Round, Work};
use crate::http::REPLICATED;
use crate::plain;
use crate::raw::DURABILITY;
use crate::report::{Rounds, Row, Target, left_out, short, table};
use crate::slice::{Slice, micros};
use serde_json::{Map, Value, json};
use std::fmt;

/// What one of the compared gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// A mode, or a baseline.
    pub subject: String,
    /// How many at once.
    pub clients: usize,
    /// Its figures; a figure that this machine or this subject doesn't tell isn't there.
    pub figures: Vec<Row>,
}

impl Line {
    /// The figure of this name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<&Row> {
        self.figures.iter().find(|row| row.name == name)
    }

    /// What an acknowledged request survives.
    #[must_use]
    pub fn durability(&self) -> &'static str {
        self.figures.first().map_or("", |row| row.durability)
    }

    fn json(&self) -> Value {
        let figure = |row: &Row| {
            let value = json!({
                "unit": row.unit, "median": row.median, "min": row.range.0, "max": row.range.1,
            });
            (row.name.clone(), value)
        };
        json!({
            "subject": self.subject,
            "clients": self.clients,
            "durability": self.durability(),
            "figures": self.figures.iter().map(figure).collect::<Map<_, _>>(),
        })
    }
}

/// One kind of work in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Where.
    pub place: Place,
    /// What.
    pub work: Work,
    /// How, in a few words.
    pub conditions: String,
    /// Rounds that count.
    pub rounds: usize,
    /// Numbers of the others.
    pub left_out: Vec<usize>,
    /// What each gave: the baselines, then both modes for each number of clients.
    pub lines: Vec<Line>,
    /// Page mode beside statement mode, with the targets that apply.
    pub rows: Vec<Row>,
}

/// Names of figures, as JSON, table and page know them.
pub(super) mod name {
    pub(crate) const RATE: &str = "requests";
    pub(crate) const P50: &str = "p50";
    pub(crate) const P99: &str = "p99";
    pub(crate) const MAX: &str = "longest";
    pub(crate) const CPU: &str = "CPU, all nodes";
    pub(crate) const CPU_OF: [&str; 3] = ["CPU, leader", "CPU, follower", "CPU, other follower"];
    pub(crate) const CPU_LOAD: &str = "CPU, the load";
    pub(crate) const LOG: &str = "log bytes, leader";
    pub(crate) const WIRE: &str = "bytes between nodes";
    pub(crate) const SYNCS: &str = "syncs, leader";
    pub(crate) const SYNCS_ALL: &str = "syncs, all nodes";
    pub(crate) const GATHERED: &str = "requests per sync, leader";
    pub(crate) const MEMORY: [&str; 3] = [
        "memory, leader",
        "memory, follower",
        "memory, other follower",
    ];
}

type Figure = (
    &'static str,
    &'static str,
    Box<dyn Fn(&Measured) -> Option<f64>>,
);

fn figure(
    name: &'static str,
    unit: &'static str,
    value: impl Fn(&Measured) -> Option<f64> + 'static,
) -> Figure {
    (name, unit, Box::new(value))
}

/// What is told of a cluster.
fn figures(place: Place) -> Vec<Figure> {
    let mut all = vec![
        figure(name::RATE, "/s", |it| Some(it.per_second())),
        figure(name::P50, "us", |it| Some(it.slice.p50_us())),
        figure(name::P99, "us", |it| Some(micros(it.slice.times.p99))),
        figure(name::MAX, "us", |it| Some(micros(it.slice.times.max))),
        figure(name::CPU, "us", Measured::cpu_us),
    ];
    if place == Place::Http {
        for (at, name) in name::CPU_OF.into_iter().enumerate() {
            all.push(figure(name, "us", move |it| it.cpu_us_of(at)));
        }
        all.push(figure(name::CPU_LOAD, "us", |it| it.slice.cpu_us()));
    }
    all.extend([
        figure(name::LOG, "B", |it| Some(it.log_bytes())),
        figure(name::WIRE, "B", |it| Some(it.wire_bytes())),
        figure(name::SYNCS, "", |it| Some(it.leader_syncs())),
        figure(name::SYNCS_ALL, "", |it| Some(it.all_syncs())),
        figure(name::GATHERED, "", |it| Some(it.gathered())),
    ]);
    for (at, name) in name::MEMORY.into_iter().enumerate() {
        all.push(figure(name, "MB", move |it| it.resident_mb_of(at)));
    }
    all
}

fn mode_line(rounds: &Rounds<Round>, place: Place, at: usize, mode: usize, clients: usize) -> Line {
    let row = |(name, unit, value): Figure| {
        let of = |round: &Round| value(&round.cells[at][mode]).filter(|one| one.is_finite());
        rounds.row_if_told(name, REPLICATED, unit, of)
    };
    Line {
        subject: format!("{} mode", MODES[mode]),
        clients,
        figures: figures(place).into_iter().filter_map(row).collect(),
    }
}

/// One that has no nodes: a slice of this process.
fn beside_line(
    rounds: &Rounds<Round>,
    subject: &str,
    durability: &'static str,
    slice: &dyn Fn(&Round) -> Slice,
) -> Line {
    let row = |name, unit, value: &dyn Fn(&Slice) -> f64| {
        rounds.row(name, durability, unit, |round| value(&slice(round)))
    };
    let mut figures = vec![
        row(name::RATE, "/s", &|it| it.per_second()),
        row(name::P50, "us", &|it| it.p50_us()),
        row(name::P99, "us", &|it| micros(it.times.p99)),
        row(name::MAX, "us", &|it| micros(it.times.max)),
    ];
    let cpu = |round: &Round| slice(round).cpu_us();
    figures.extend(rounds.row_if_told(name::CPU, durability, "us", cpu));
    Line {
        subject: subject.to_owned(),
        clients: 1,
        figures,
    }
}

fn lines(bench: &ModesBench, place: Place, rounds: &Rounds<Round>) -> Vec<Line> {
    let raw = &|round: &Round| round.raw.0[0];
    let mut lines = vec![
        beside_line(rounds, "raw write and sync", DURABILITY, raw),
        beside_line(rounds, plain::NAME, plain::SYNCED, &|round| round.plain),
    ];
    for (at, clients) in bench.clients.iter().enumerate() {
        for mode in 0..MODES.len() {
            lines.push(mode_line(rounds, place, at, mode, *clients));
        }
    }
    lines
}

/// For people.
pub(super) fn at_once(clients: usize) -> String {
    match clients {
        1 => "1 client".to_owned(),
        more => format!("{more} clients"),
    }
}

/// What targets are for.
struct Judged<'a> {
    rounds: &'a Rounds<Round>,
    place: Place,
    /// One-row INSERTs and UPDATEs are judged.
    applies: bool,
}

impl Judged<'_> {
    /// Page mode's figure by statement mode's, in the same round.
    fn ratio(
        &self,
        what: &str,
        (at, clients): (usize, usize),
        target: Option<Target>,
        value: &dyn Fn(&Measured) -> Option<f64>,
    ) -> Option<Row> {
        let name = format!("page / statement: {what}, {}", at_once(clients));
        let of = |round: &Round| {
            let [statement, page] = &round.cells[at];
            let ratio = value(page)? / value(statement)?;
            ratio.is_finite().then_some(ratio)
        };
        let row = self.rounds.row_if_told(&name, REPLICATED, "x", of)?;
        Some(self.judged(row, target))
    }

    fn judged(&self, row: Row, target: Option<Target>) -> Row {
        match target {
            Some(target) if self.applies => row.target(target),
            _ => row,
        }
    }

    fn rows(&self, at: usize, clients: usize) -> Vec<Row> {
        let (cell, many) = ((at, clients), clients == 64);
        let rate = match self.place {
            Place::Http => 0.95,
            Place::Embedded => 1.3,
        };
        let cpu = many && self.place == Place::Http;
        let rows = [
            self.ratio(
                "requests/s",
                cell,
                many.then_some(Target::AtLeast(rate)),
                &|it| Some(it.per_second()),
            ),
            self.ratio(
                "p50",
                cell,
                (clients == 1).then_some(Target::AtMost(1.1)),
                &|it| Some(it.slice.p50_us()),
            ),
            self.ratio(
                "CPU, all nodes",
                cell,
                cpu.then_some(Target::AtMost(0.9)),
                &|it| it.cpu_us(),
            ),
            self.ratio(
                "log bytes, leader",
                cell,
                many.then_some(Target::AtMost(1.0)),
                &|it| Some(it.log_bytes()),
            ),
            self.ratio("bytes between nodes", cell, None, &|it| {
                Some(it.wire_bytes())
            }),
            self.gathered(cell),
        ];
        rows.into_iter().flatten().collect()
    }

    /// Group commit.
    fn gathered(&self, (at, clients): (usize, usize)) -> Option<Row> {
        let least = match clients {
            64 => 16.0,
            256 => 48.0,
            _ => return None,
        };
        let name = format!("page mode: requests per sync, leader, {}", at_once(clients));
        let gathered = |round: &Round| {
            let page = round.cells[at][1].gathered();
            page.is_finite().then_some(page)
        };
        let row = self.rounds.row_if_told(&name, REPLICATED, "", gathered)?;
        Some(self.judged(row, Some(Target::AtLeast(least))))
    }
}

impl Comparison {
    pub(super) fn of(bench: &ModesBench, place: Place, work: Work, rounds: &Rounds<Round>) -> Self {
        let judged = Judged {
            rounds,
            place,
            applies: matches!(work, Work::Insert | Work::Update),
        };
        let clients = bench.clients.iter().enumerate();
        Self {
            rounds: rounds.count(),
            left_out: rounds.left_out().to_vec(),
            lines: lines(bench, place, rounds),
            rows: clients
                .flat_map(|(at, clients)| judged.rows(at, *clients))
                .collect(),
            ..Self::unsteady(bench, place, work)
        }
    }

    /// No round counts.
    pub(super) fn unsteady(bench: &ModesBench, place: Place, work: Work) -> Self {
        Self {
            place,
            work,
            conditions: bench.conditions(),
            rounds: 0,
            left_out: (1..=bench.rounds).collect(),
            lines: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// For people.
    #[must_use]
    pub fn title(&self) -> String {
        let (work, place) = (self.work.title(), self.place.title());
        format!("{work}: {place}, {}", self.conditions)
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "title": self.title(),
            "place": self.place.name(),
            "work": self.work.name(),
            "rounds": self.rounds,
            "left_out": self.left_out,
            "subjects": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

/// Columns of the table: what stands above, the figure, its width, by what it is divided.
const COLUMNS: [(&str, &str, usize, f64); 13] = [
    ("p50 ms", name::P50, 8, 1000.0),
    ("p99 ms", name::P99, 8, 1000.0),
    ("max ms", name::MAX, 8, 1000.0),
    ("CPU us", name::CPU, 8, 1.0),
    ("leader", name::CPU_OF[0], 7, 1.0),
    ("follower", name::CPU_OF[1], 8, 1.0),
    ("other", name::CPU_OF[2], 7, 1.0),
    ("log B", name::LOG, 7, 1.0),
    ("wire B", name::WIRE, 7, 1.0),
    ("syncs", name::SYNCS, 7, 1.0),
    ("of all", name::SYNCS_ALL, 7, 1.0),
    ("RSS MB", name::MEMORY[0], 7, 1.0),
    ("follower", name::MEMORY[1], 8, 1.0),
];

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title())?;
        left_out(f, self.rounds, &self.left_out)?;
        if self.lines.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "{:<24} {:>7} {:>9} {:>17}",
            "each per request", "clients", "/s", "range"
        )?;
        for (above, _, width, _) in COLUMNS {
            write!(f, " {above:>width$}")?;
        }
        writeln!(f, "  durability")?;
        for line in &self.lines {
            write!(f, "{:<24} {:>7}", line.subject, line.clients)?;
            let rate = line.figure(name::RATE);
            let range = |row: &Row| format!("{} to {}", short(row.range.0), short(row.range.1));
            let median = rate.map_or("-".to_owned(), |row| short(row.median));
            write!(
                f,
                " {median:>9} {:>17}",
                rate.map(range).unwrap_or_default()
            )?;
            for (_, name, width, by) in COLUMNS {
                let value = line.figure(name).map(|row| short(row.median / by));
                write!(f, " {:>width$}", value.as_deref().unwrap_or("-"))?;
            }
            writeln!(f, "  {}", line.durability())?;
        }
        table(f, &self.rows)
    }
}
