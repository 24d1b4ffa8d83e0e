//! `sqlrep bench store`: SQLite on the page store next to plain SQLite, one-row transactions and point reads.
//!
//! The store syncs nothing by itself: in a node the log does, once for many transactions. So its rows stand beside plain
//! SQLite that syncs nothing either, which is the baseline; plain SQLite as it is usually run is shown too. A round is
//! baseline, the others in turn, baseline, a slice of time each; a round whose two baselines differ by more than
//! [`RAW_FACTOR_MAX`] is left out.

use crate::raw::RAW_FACTOR_MAX;
use crate::slice::{Slice, measure};
use crate::{BenchError, Report, Row};
use sqlrep_disk::Disk;
use sqlrep_env::Env;
use sqlrep_store::{Finish, Options, Position, Progress, Side, Store};
use sqlrep_vfs::{Connection, Kind, rusqlite};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const NOTHING: &str = "process end: nothing synced";
const SYNCED: &str = "power loss (fdatasync)";
const READ: &str = "a read";

/// Rows that point reads choose from.
const ROWS: i64 = 100_000;

/// Pages of images after which the store checkpoints, as a node does by itself.
const CHECKPOINT_BYTES: u64 = 64 << 20;

const CREATE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT)";
const INSERT: &str = "INSERT INTO t (a, b) VALUES (?1, 'one row of about a hundred bytes, as benchmarks have them, \
                      with some text behind its numbers')";
const FILL: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?1) \
                    INSERT INTO t (a, b) SELECT x, 'some text' FROM n";
const SELECT: &str = "SELECT b FROM t WHERE id = ?1";

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
        }
    }
}

/// The slices of a round, in their order.
struct Round {
    baseline: [Slice; 2],
    store_write: Slice,
    full: Slice,
    plain_read: Slice,
    store_read: Slice,
}

impl Round {
    fn baseline_per_second(&self) -> f64 {
        f64::midpoint(self.baseline[0].per_second, self.baseline[1].per_second)
    }

    fn is_steady(&self) -> bool {
        let [first, second] = self.baseline.map(|slice| slice.per_second);
        first.max(second) <= RAW_FACTOR_MAX * first.min(second)
    }
}

/// Measures.
///
/// # Errors
///
/// The disk, the store or SQLite fails, or no round was steady.
pub fn store(bench: &StoreBench) -> Result<Report, BenchError> {
    let off = plain(bench, "off.db", "OFF")?;
    let full = plain(bench, "full.db", "FULL")?;
    let mut stored = Stored::new(bench)?;
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        let first = writes(bench, &off)?;
        let store_write = stored.writes(bench)?;
        let full = writes(bench, &full)?;
        let plain_read = reads(bench, &off)?;
        let store_read = reads(bench, stored.reader.sqlite())?;
        let baseline = [first, writes(bench, &off)?];
        rounds.push(Round {
            baseline,
            store_write,
            full,
            plain_read,
            store_read,
        });
    }
    report(bench, &rounds)
}

fn report(bench: &StoreBench, rounds: &[Round]) -> Result<Report, BenchError> {
    let steady: Vec<&Round> = rounds.iter().filter(|round| round.is_steady()).collect();
    if steady.is_empty() {
        let rounds = rounds.len();
        return Err(BenchError::Unsteady { rounds });
    }
    let row = |name, durability, pair: &dyn Fn(&Round) -> (Slice, f64)| {
        let pairs: Vec<(Slice, f64)> = steady.iter().map(|round| pair(round)).collect();
        Row::of(name, durability, &pairs)
    };
    let base = Round::baseline_per_second;
    let plain = "plain SQLite, WAL, OFF";
    Ok(Report {
        title: format!(
            "one-row transactions and point reads, slices of {:?}",
            bench.slice
        ),
        baseline: "plain SQLite without syncs",
        rounds: steady.len(),
        left_out: rounds.len() - steady.len(),
        rows: vec![
            row(plain, NOTHING, &|round| (round.baseline[0], base(round))),
            row("page store", NOTHING, &|round| {
                (round.store_write, base(round))
            }),
            row("plain SQLite, WAL, FULL", SYNCED, &|round| {
                (round.full, base(round))
            }),
            row("point SELECT, plain SQLite", READ, &|round| {
                (round.plain_read, round.plain_read.per_second)
            }),
            row("point SELECT, page store", READ, &|round| {
                (round.store_read, round.plain_read.per_second)
            }),
        ],
    })
}

fn plain(
    bench: &StoreBench,
    name: &str,
    synchronous: &str,
) -> Result<rusqlite::Connection, BenchError> {
    let sqlite = rusqlite::Connection::open(bench.folder.join(name))?;
    sqlite.execute_batch(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; {CREATE};"
    ))?;
    sqlite.execute(FILL, [ROWS])?;
    Ok(sqlite)
}

fn writes(bench: &StoreBench, sqlite: &rusqlite::Connection) -> Result<Slice, BenchError> {
    let mut insert = sqlite.prepare_cached(INSERT)?;
    let mut number = 0_i64;
    measure(&*bench.env.clock, bench.slice, || {
        number += 1;
        insert.execute([number])?;
        Ok(1)
    })
}

fn reads(bench: &StoreBench, sqlite: &rusqlite::Connection) -> Result<Slice, BenchError> {
    let mut select = sqlite.prepare_cached(SELECT)?;
    let mut id = 1_i64;
    measure(&*bench.env.clock, bench.slice, || {
        // A full period over all rows, in an order that no cache foresees.
        id = (id * 48_271 + 11) % ROWS;
        let _text: String = select.query_row([id + 1], |row| row.get(0))?;
        Ok(1)
    })
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
        writer.sqlite().execute(FILL, [ROWS])?;
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
            insert.execute([number])?;
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
        assert_eq!(report.rounds + report.left_out, 3);
        assert!(report.rows.iter().all(|row| row.per_second > 0.0));
        let text = report.to_string();
        assert!(
            text.contains("page store") && text.contains(SYNCED),
            "{text}"
        );
        assert_eq!(report.json()["rows"].as_array().unwrap().len(), 5);
    }
}
