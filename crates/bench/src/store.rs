//! `sqlrep bench store`: SQLite on the page store next to plain SQLite, one-row transactions and point reads.
//!
//! The store syncs nothing by itself: in a node the log does, once for many transactions. So its rows stand beside plain
//! SQLite that syncs nothing either, which is the baseline; plain SQLite as it is usually run is shown too. A round is
//! baseline, the others in turn, baseline, a slice of time each; a round whose two baselines differ by more than
//! [`PROBE_FACTOR_MAX`](crate::PROBE_FACTOR_MAX) is left out.

use crate::plain::{self, CREATE, INSERT, TEXT};
use crate::raw::Probes;
use crate::report::Rounds;
use crate::slice::{Slice, measure};
use crate::{BenchError, Report};
use sqlrep_disk::{Disk, SyncFloor};
use sqlrep_env::Env;
use sqlrep_store::{Finish, Options, Position, Progress, Side, Store};
use sqlrep_vfs::{Connection, Kind, rusqlite};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const NOTHING: &str = "process end: nothing synced";
pub(crate) const READ: &str = "a read";

/// Pages of images after which the store checkpoints, as a node does by itself.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// What is measured, and where.
pub struct StoreBench {
    /// An empty folder on the disk in question.
    pub disk: Arc<dyn Disk>,
    /// The same folder's path, for plain SQLite.
    pub folder: PathBuf,
    /// Clocks and threads.
    pub env: Env,
    /// Rounds.
    pub rounds: usize,
    /// How long each part of a round runs.
    pub slice: Duration,
    /// Each sync lasts at least this long, plain SQLite's too.
    pub sync_floor: Option<Duration>,
}

impl StoreBench {
    /// Nine rounds of slices of a second.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf, env: Env) -> Self {
        Self {
            disk,
            folder,
            env,
            rounds: 9,
            slice: Duration::from_secs(1),
            sync_floor: None,
        }
    }
}

/// The slices of a round, in their order.
struct Round {
    baseline: Probes,
    store_write: Slice,
    full: Slice,
    plain_read: Slice,
    store_read: Slice,
}

/// Measures.
///
/// # Errors
///
/// The disk, the store or SQLite fails, or no round was steady.
pub fn store(bench: &StoreBench) -> Result<Report, BenchError> {
    let off = filled(bench, "off.db", "OFF")?;
    let full = filled(bench, "full.db", "FULL")?;
    let mut stored = Stored::new(bench)?;
    let (clock, slice) = (&*bench.env.clock, bench.slice);
    let floor = bench
        .sync_floor
        .map(|lasts| SyncFloor::new(lasts, bench.env.clock.clone()));
    let rounds = Rounds::run(bench.rounds, || {
        let first = plain::writes(&off, clock, slice, None)?;
        let store_write = stored.writes(bench)?;
        let full = plain::writes(&full, clock, slice, floor.as_ref())?;
        let plain_read = plain::reads(&off, clock, slice)?;
        let store_read = plain::reads(stored.reader.sqlite(), clock, slice)?;
        let baseline = Probes([first, plain::writes(&off, clock, slice, None)?]);
        let steady = baseline.are_steady();
        let round = Round {
            baseline,
            store_write,
            full,
            plain_read,
            store_read,
        };
        Ok((round, steady))
    })?;
    Ok(report(bench, rounds))
}

fn report(bench: &StoreBench, rounds: Rounds<Round>) -> Report {
    let row = |name, durability, unit, value: &dyn Fn(&Round) -> f64| {
        rounds.row(name, durability, unit, value)
    };
    let writes = |round: &Round| round.store_write.per_second();
    let reads = |round: &Round| round.store_read.per_second();
    let rows = vec![
        row("plain SQLite, WAL, OFF", NOTHING, "/s", &|round| {
            round.baseline.per_second()
        }),
        row("page store", NOTHING, "/s", &writes),
        row(
            "page store / plain SQLite, WAL, OFF",
            NOTHING,
            "x",
            &|round| writes(round) / round.baseline.per_second(),
        ),
        row(plain::NAME, plain::SYNCED, "/s", &|round| {
            round.full.per_second()
        }),
        row("point SELECT, plain SQLite", READ, "/s", &|round| {
            round.plain_read.per_second()
        }),
        row("point SELECT, page store", READ, "/s", &reads),
        row("point SELECT, page store / plain", READ, "x", &|round| {
            reads(round) / round.plain_read.per_second()
        }),
    ];
    let title = format!(
        "one-row transactions and point reads, slices of {:?}",
        bench.slice
    );
    rounds.report(title, rows)
}

fn filled(
    bench: &StoreBench,
    name: &str,
    synchronous: &str,
) -> Result<rusqlite::Connection, BenchError> {
    let sqlite = plain::create(&bench.folder.join(name), synchronous)?;
    sqlite.execute_batch(&plain::fill())?;
    Ok(sqlite)
}

/// SQLite on the page store.
struct Stored {
    store: Arc<Store>,
    writer: Connection,
    reader: Connection,
}

impl Stored {
    fn new(bench: &StoreBench) -> Result<Self, BenchError> {
        for folder in ["db", "tmp"] {
            bench.disk.create_dir(folder)?;
        }
        let store = Store::open(Options::new(bench.disk.clone()))?;
        let kind = Kind::Writer {
            normalize_version: true,
        };
        let writer = Connection::open(&store, &bench.env, kind)?;
        writer.sqlite().execute_batch(CREATE)?;
        writer.sqlite().execute_batch(&plain::fill())?;
        finish(&store)?;
        let reader = Connection::open(&store, &bench.env, Kind::Reader)?;
        Ok(Self {
            store,
            writer,
            reader,
        })
    }

    fn writes(&mut self, bench: &StoreBench) -> Result<Slice, BenchError> {
        let mut insert = self.writer.sqlite().prepare_cached(INSERT)?;
        let mut number = 0_i64;
        measure(&*bench.env.clock, bench.slice, || {
            number += 1;
            insert.execute((number, TEXT))?;
            finish(&self.store)?;
            if self.store.checkpoint_due().image_bytes >= CHECKPOINT_BYTES {
                checkpoint(&self.store)?;
            }
            Ok(1)
        })
    }
}

/// Ends the entry that a transaction is.
fn finish(store: &Store) -> Result<(), BenchError> {
    let last = store.committed().position;
    store.finish(Finish {
        position: Position {
            term: 1,
            index: last.map_or(0, |last| last.index + 1),
        },
        version: store.newest().0,
        side: Side::default(),
        anchor: true,
    })?;
    Ok(())
}

fn checkpoint(store: &Store) -> Result<(), BenchError> {
    if let Some(mut checkpoint) = store.begin_checkpoint(None) {
        while !matches!(checkpoint.step()?, Progress::Done(_)) {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_disk::RealDisk;

    #[test]
    fn a_short_run_has_its_rows_with_their_durability() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
        let bench = StoreBench {
            rounds: 3,
            slice: Duration::from_millis(20),
            ..StoreBench::new(disk, folder.path().to_owned(), Env::real())
        };
        let report = match store(&bench) {
            Ok(report) => report,
            Err(BenchError::Unsteady { rounds: 3 }) => return, // a busy machine is told as one
            Err(error) => panic!("{error}"),
        };
        assert_eq!(report.rounds + report.left_out.len(), 3);
        assert!(report.rows.iter().all(|row| row.median > 0.0), "{report}");
        let text = report.to_string();
        assert!(
            text.contains("page store") && text.contains(plain::SYNCED),
            "{text}"
        );
    }
}
