//! `sqlrep bench`: measures a part of sqlrep, or a cluster, on a folder's disk, beside what that disk and plain SQLite give.
//!
//! The folder that is measured on is a new one inside the one that is named, and is removed at the end. Tables are printed
//! as they come, JSON as one list at the end. A missed target is a result, not a failure.

use crate::arguments::{
    Bench, EmbeddedArguments, EmbeddedPart, HttpArguments, HttpPart, MeasureArguments,
    ModesArguments, PlaceKind, WorkKind,
};
use crate::exit::Exit;
use crate::terminal;
use sqlrep_bench::embedded::{self, EmbeddedBench};
use sqlrep_bench::http::{HttpBench, Part, http};
use sqlrep_bench::large::{LargeBench, large};
use sqlrep_bench::log::{LogBench, log};
use sqlrep_bench::modes::{Comparison, ModesBench, Place, Work, modes, page};
use sqlrep_bench::store::{StoreBench, store};
use sqlrep_bench::{BenchError, Report, floored};
use sqlrep_disk::RealDisk;
use sqlrep_env::Env;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

impl Bench {
    /// Where it is measured, and whether programs read the answer.
    fn place(&self) -> (&Path, bool) {
        let measure = match self {
            Self::Log(measure) | Self::Store(measure) => measure,
            Self::Embedded(embedded) => &embedded.measure,
            Self::Http(http) => &http.measure,
            Self::Modes(modes) => &modes.measure,
            Self::Large(large) => return (&large.dir, large.json),
        };
        (&measure.dir, measure.json)
    }
}

impl MeasureArguments {
    fn slice(&self) -> Duration {
        Duration::from_millis(self.slice_ms)
    }

    fn floor(&self) -> Option<Duration> {
        self.sync_floor.map(|span| span.0)
    }
}

/// Runs a measurement and prints its reports.
pub(crate) fn run(bench: &Bench) -> Exit {
    let (dir, json) = bench.place();
    let folder = match folder(dir) {
        Ok(folder) => folder,
        Err(error) => {
            terminal::error(format!(
                "{} can't be measured on: {error}; name a folder that exists with --dir",
                dir.display()
            ));
            return Exit::Usage;
        }
    };
    let mut printer = Printer {
        json: json.then(Vec::new),
        printed: Ok(()),
    };
    let measured = measured(bench, folder.path(), &mut printer);
    let printed = printer.end();
    match (measured, printed) {
        (Ok(()), Ok(())) => Exit::Ok,
        (Err(error), _) => failed(error),
        (_, Err(error)) => failed(error),
    }
}

/// A path from the root, since nodes are told of it.
fn folder(parent: &Path) -> io::Result<TempDir> {
    let parent = parent.canonicalize()?;
    tempfile::Builder::new()
        .prefix("sqlrep-bench-")
        .tempdir_in(parent)
}

fn failed(what: impl Display) -> Exit {
    terminal::error(what);
    Exit::Failed
}

/// Where reports go.
struct Printer {
    /// For programs: all of them, at the end.
    json: Option<Vec<serde_json::Value>>,
    /// The first failure.
    printed: io::Result<()>,
}

impl Printer {
    fn take(&mut self, report: &impl Display, json: serde_json::Value) {
        match &mut self.json {
            Some(all) => all.push(json),
            None if self.printed.is_ok() => self.printed = terminal::out(&format!("{report}\n")),
            None => {}
        }
    }

    /// What was measured before a failure is printed too.
    fn end(self) -> io::Result<()> {
        match self.json {
            Some(all) => terminal::out(&format!("{:#}\n", serde_json::Value::Array(all))),
            None => self.printed,
        }
    }
}

fn measured(bench: &Bench, folder: &Path, printer: &mut Printer) -> Result<(), BenchError> {
    let told = &mut |report: Report| printer.take(&report, report.json());
    let env = Env::real();
    match bench {
        Bench::Log(measure) => {
            let disk = floored(RealDisk::open(folder)?, measure.floor(), &env);
            told(log(LogBench {
                rounds: measure.rounds,
                slice: measure.slice(),
                ..LogBench::new(disk, env)
            })?);
        }
        Bench::Store(measure) => {
            let disk = Arc::new(RealDisk::open(folder)?);
            told(store(&StoreBench {
                rounds: measure.rounds,
                slice: measure.slice(),
                sync_floor: measure.floor(),
                ..StoreBench::new(disk, folder.to_owned(), env)
            })?);
        }
        Bench::Embedded(EmbeddedArguments {
            measure,
            mode,
            only,
        }) => {
            let bench = EmbeddedBench {
                folder: folder.to_owned(),
                env,
                mode: mode.of_node(),
                rounds: measure.rounds,
                slice: measure.slice(),
                sync_floor: measure.floor(),
            };
            let parts: Vec<_> = only.iter().map(|one| one.of_bench()).collect();
            for part in asked(&embedded::Part::ALL, &parts) {
                told(embedded::embedded(&bench, part)?);
            }
        }
        Bench::Large(arguments) => told(large(&LargeBench {
            program: std::env::current_exe().map_err(BenchError::Runtime)?,
            folder: folder.to_owned(),
            env,
            mode: arguments.mode.of_node(),
            mib: arguments.mib,
            version_bytes_max: arguments.version_memory,
            transaction_bytes_max: arguments.transaction_memory,
        })?),
        Bench::Http(http) => over_http(http, folder, told)?,
        Bench::Modes(modes) => side_by_side(modes, folder, printer)?,
    }
    Ok(())
}

fn over_http(
    arguments: &HttpArguments,
    folder: &Path,
    told: &mut dyn FnMut(Report),
) -> Result<(), BenchError> {
    let program = std::env::current_exe().map_err(BenchError::Runtime)?;
    let measure = &arguments.measure;
    let bench = HttpBench {
        mode: arguments.mode.of_node(),
        rounds: measure.rounds,
        slice: measure.slice(),
        sync_floor: measure.floor(),
        kills: arguments.kills,
        database_bytes: arguments.database_mb * 1_000_000,
        restart_load: Duration::from_secs(arguments.load_s),
        ..HttpBench::new(program, folder.to_owned(), Env::real())
    };
    let all = [
        (HttpPart::Writes, Part::Writes),
        (HttpPart::Reads, Part::Reads),
        (HttpPart::Kills, Part::Kills),
        (HttpPart::Restart, Part::Restart),
    ];
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    for (_, part) in all.into_iter().filter(|(part, _)| wanted(*part)) {
        http(&bench, part, told)?;
    }
    Ok(())
}

impl EmbeddedPart {
    fn of_bench(self) -> embedded::Part {
        match self {
            Self::Node => embedded::Part::Node,
            Self::Machines => embedded::Part::Machines,
            Self::Gathering => embedded::Part::Gathering,
            Self::Readers => embedded::Part::Readers,
        }
    }
}

impl WorkKind {
    fn of_bench(self) -> Work {
        match self {
            Self::Insert => Work::Insert,
            Self::Index => Work::Index,
            Self::Update => Work::Update,
            Self::Small => Work::Small,
            Self::Bulk => Work::Bulk,
            Self::Mixed => Work::Mixed,
        }
    }
}

impl PlaceKind {
    fn of_bench(self) -> Place {
        match self {
            Self::Http => Place::Http,
            Self::Embedded => Place::Embedded,
        }
    }
}

/// What is asked for, in the order of reports; all if nothing is.
fn asked<T: Copy + PartialEq>(all: &[T], asked: &[T]) -> Vec<T> {
    let wanted = |one: &&T| asked.is_empty() || asked.contains(one);
    all.iter().filter(wanted).copied().collect()
}

fn side_by_side(
    arguments: &ModesArguments,
    folder: &Path,
    printer: &mut Printer,
) -> Result<(), BenchError> {
    let program = std::env::current_exe().map_err(BenchError::Runtime)?;
    let works: Vec<Work> = arguments.work.iter().map(|work| work.of_bench()).collect();
    let places: Vec<Place> = arguments.place.iter().map(|one| one.of_bench()).collect();
    let mut clients = arguments.clients.clone();
    clients.sort_unstable();
    clients.dedup();
    let measure = &arguments.measure;
    let bench = ModesBench {
        rounds: measure.rounds,
        slice: measure.slice(),
        sync_floor: measure.floor(),
        delay: arguments.delay.map(|span| span.0),
        works: asked(&Work::ALL, &works),
        places: asked(&Place::ALL, &places),
        clients,
        ..ModesBench::new(program, folder.to_owned(), Env::real())
    };
    let mut compared = Vec::new();
    let ended = modes(&bench, &mut |one: Comparison| {
        printer.take(&one, one.json());
        compared.push(one);
    });
    if let Some(file) = &arguments.html {
        std::fs::write(file, page(&compared, &about())).map_err(BenchError::Runtime)?;
    }
    ended
}

/// Release and machine, for the page.
fn about() -> Vec<String> {
    let processors = std::thread::available_parallelism();
    let processors = processors.map(|count| format!("{count} processors"));
    [concat!("sqlrep ", env!("CARGO_PKG_VERSION")).to_owned()]
        .into_iter()
        .chain(processors)
        .chain([format!(
            "{} {}",
            std::env::consts::OS,
            std::env::consts::ARCH
        )])
        .collect()
}
