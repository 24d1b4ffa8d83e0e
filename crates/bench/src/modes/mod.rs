//! `sqlrep bench modes`: statement mode and page mode on the same work, beside plain SQLite and raw writes and syncs.
//!
//! ```text
//!   a round:  raw │ 1 client: statement, page │ 16: page, statement │ 64: … │ 256: … │ plain SQLite │ raw
//! ```
//!
//! | place | clusters |
//! | --- | --- |
//! | http | three processes each on loopback, loaded over HTTP by one thread of this process |
//! | embedded | three nodes each in this process, loaded by tasks beside them |
//!
//! Both clusters of a place live all the time; the one that isn't measured is idle. Which goes first alternates. A round counts
//! if its raw probes are alike, leaders stayed and nothing was refused; work without a round that counts is told as such.
//!
//! It doesn't measure readers beside writers, kills or restarts: [`http`](crate::http) does, in either mode.

/// Adds text to a `String`, which takes any.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {
        write!($out, $($text)*).expect("memory takes any text")
    };
}

mod chart;
pub(crate) mod cluster;
mod comparison;
pub(crate) mod inside;
mod page;
mod served;
pub(crate) mod work;

pub use comparison::{Comparison, Line};
pub use page::page;
pub use work::Work;

use crate::plain;
use crate::raw::{Probes, Raw, WRITE_BYTES};
use crate::report::Rounds;
use crate::slice::{Slice, measure};
use crate::{BenchError, floored};
use cluster::{Asked, Cluster, Gathers, Measured, Start};
use inside::Inside;
use served::Served;
use sqlrep_disk::{RealDisk, SyncFloor};
use sqlrep_env::Env;
use sqlrep_node::Mode;
use sqlrep_vfs::rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;
use work::tables;

/// Both, in the order of reports.
pub(crate) const MODES: [Mode; 2] = [Mode::Statement, Mode::Page];

/// Between the first jobs of two slices: more than a slice does.
pub(crate) const JOBS_APART: u64 = 1 << 32;

/// Where nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In processes of their own.
    Http,
    /// In this process.
    Embedded,
}

impl Place {
    /// Both, in the order of reports.
    pub const ALL: [Self; 2] = [Self::Http, Self::Embedded];

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Http => "three processes, over HTTP",
            Self::Embedded => "three nodes in one process, embedded",
        }
    }

    /// For programs, and in flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Embedded => "embedded",
        }
    }
}

/// What is compared, and where.
pub struct ModesBench {
    /// The program that runs a node when called with `node` and a node's flags.
    pub program: PathBuf,
    /// An empty folder on the disk in question.
    pub folder: PathBuf,
    /// Clocks, randomness and threads.
    pub env: Env,
    /// Rounds of each kind of work.
    pub rounds: usize,
    /// How long each part of a round runs.
    pub slice: Duration,
    /// Each sync of nodes and baselines lasts at least this long.
    pub sync_floor: Option<Duration>,
    /// What a relay adds to each direction between nodes.
    pub delay: Option<Duration>,
    /// Where.
    pub places: Vec<Place>,
    /// What.
    pub works: Vec<Work>,
    /// How many clients at once, ascending.
    pub clients: Vec<usize>,
}

impl ModesBench {
    /// Everything: both places, all work, 1, 16, 64 and 256 clients, nine rounds of slices of a second.
    #[must_use]
    pub fn new(program: PathBuf, folder: PathBuf, env: Env) -> Self {
        Self {
            program,
            folder,
            env,
            rounds: 9,
            slice: Duration::from_secs(1),
            sync_floor: None,
            delay: None,
            places: Place::ALL.to_vec(),
            works: Work::ALL.to_vec(),
            clients: vec![1, 16, 64, 256],
        }
    }

    fn cluster(&self, place: Place, mode: Mode) -> Result<Box<dyn Cluster>, BenchError> {
        let folder = self.folder.join(format!("{}-{mode}", place.name()));
        std::fs::create_dir(&folder).map_err(BenchError::Runtime)?;
        let start = Start {
            mode,
            folder,
            sync_floor: self.sync_floor,
            delay: self.delay,
            gathers: Gathers::AsUsual,
        };
        Ok(match place {
            Place::Http => Box::new(Served::start(&self.program, start, &self.env)?),
            Place::Embedded => Box::new(Inside::start(&start, &self.env)?),
        })
    }

    /// How it was measured, for titles.
    fn conditions(&self) -> String {
        let mut said = format!("slices of {:?}", self.slice);
        if let Some(floor) = self.sync_floor {
            said += &format!(", each sync at least {floor:?}");
        }
        if let Some(delay) = self.delay {
            said += &format!(", {delay:?} more between nodes in each direction");
        }
        said
    }
}

/// One round of one kind of work.
pub(crate) struct Round {
    raw: Probes,
    plain: Slice,
    /// For each number of clients, what each mode gave.
    cells: Vec<[Measured; 2]>,
}

/// The baselines.
struct Beside {
    raw: Raw,
    plain: Connection,
    floor: Option<SyncFloor>,
}

impl Beside {
    fn open(bench: &ModesBench, place: Place) -> Result<Self, BenchError> {
        let disk = floored(RealDisk::open(&bench.folder)?, bench.sync_floor, &bench.env);
        let path = bench.folder.join(format!("{}.db", place.name()));
        let clock = &bench.env.clock;
        Ok(Self {
            raw: Raw::new(&*disk, WRITE_BYTES)?,
            plain: filled(&path)?,
            floor: bench
                .sync_floor
                .map(|lasts| SyncFloor::new(lasts, clock.clone())),
        })
    }

    /// One client, since plain SQLite has one writer.
    fn plain(&self, bench: &ModesBench, work: Work, first: u64) -> Result<Slice, BenchError> {
        let mut number = first;
        measure(&*bench.env.clock, bench.slice, || {
            let job = work.job(number);
            number += 1;
            match &self.floor {
                Some(floor) if !job.reads() => floor.hold(|| job.plain(&self.plain))?,
                _ => job.plain(&self.plain)?,
            }
            Ok(1)
        })
    }
}

fn filled(path: &Path) -> Result<Connection, BenchError> {
    let sqlite = plain::open(path, "FULL")?;
    for sql in tables() {
        sqlite.execute_batch(&sql)?;
    }
    Ok(sqlite)
}

/// Compares; `told` takes each kind of work in each place as soon as it is there.
///
/// # Errors
///
/// A node, the disk or plain SQLite fails, or no round of all was steady.
pub fn modes(bench: &ModesBench, told: &mut dyn FnMut(Comparison)) -> Result<(), BenchError> {
    let mut steady = false;
    for place in &bench.places {
        let [first, second] = MODES;
        let clusters = [
            bench.cluster(*place, first)?,
            bench.cluster(*place, second)?,
        ];
        let mut beside = Beside::open(bench, *place)?;
        let mut next = 0;
        for work in &bench.works {
            let rounds = rounds(bench, *work, &clusters, &mut beside, &mut next);
            let compared = match rounds {
                Err(BenchError::Unsteady { .. }) => Comparison::unsteady(bench, *place, *work),
                rounds => Comparison::of(bench, *place, *work, &rounds?),
            };
            steady |= compared.rounds > 0;
            told(compared);
        }
        for cluster in clusters {
            cluster.end()?;
        }
    }
    if steady {
        Ok(())
    } else {
        Err(BenchError::Unsteady {
            rounds: bench.rounds,
        })
    }
}

fn rounds(
    bench: &ModesBench,
    work: Work,
    clusters: &[Box<dyn Cluster>; 2],
    beside: &mut Beside,
    next: &mut u64,
) -> Result<Rounds<Round>, BenchError> {
    let mut page_first = false;
    Rounds::run(bench.rounds, || {
        let first = beside.raw.slice(&*bench.env.clock, bench.slice)?;
        let mut cells = Vec::new();
        for clients in &bench.clients {
            *next += JOBS_APART;
            page_first = !page_first;
            let asked = Asked {
                work,
                clients: *clients,
                first: *next,
                slice: bench.slice,
            };
            cells.push(both(clusters, asked, page_first)?);
        }
        *next += JOBS_APART;
        let plain = beside.plain(bench, work, *next)?;
        let raw = Probes([first, beside.raw.slice(&*bench.env.clock, bench.slice)?]);
        let steady = raw.are_steady() && cells.iter().flatten().all(|cell| cell.steady);
        Ok((Round { raw, plain, cells }, steady))
    })
}

fn both(
    [statement, page]: &[Box<dyn Cluster>; 2],
    asked: Asked,
    page_first: bool,
) -> Result<[Measured; 2], BenchError> {
    if page_first {
        let page = page.slice(asked)?;
        Ok([statement.slice(asked)?, page])
    } else {
        Ok([statement.slice(asked)?, page.slice(asked)?])
    }
}
