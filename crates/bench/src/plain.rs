//! Plain SQLite, the other baseline: the same table, rows and statements as the subject's.

use crate::BenchError;
use crate::slice::{Slice, measure};
use sqlrep_disk::SyncFloor;
use sqlrep_env::Clock;
use sqlrep_vfs::rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

pub(crate) const NAME: &str = "plain SQLite, WAL, FULL";
pub(crate) const SYNCED: &str = "power loss (fsync per transaction)";

pub(crate) const CREATE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT)";
pub(crate) const INSERT: &str = "INSERT INTO t (a, b) VALUES (?1, ?2)";
pub(crate) const TEXT: &str =
    "one row of about a hundred bytes, as benchmarks have them, with some text behind its numbers";
pub(crate) const SELECT: &str = "SELECT b FROM t WHERE id = ?1";

/// Rows that point reads choose from.
pub(crate) const ROWS: i64 = 100_000;

/// What fills the table; one statement, so that a node applies it as one entry.
pub(crate) fn fill() -> String {
    format!(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {ROWS}) \
         INSERT INTO t (a, b) SELECT x, 'some text' FROM n"
    )
}

/// The ids of point reads: a full period over all rows, in an order that no cache foresees.
#[derive(Clone, Copy)]
pub(crate) struct Ids(i64);

impl Default for Ids {
    fn default() -> Self {
        Self(1)
    }
}

impl Ids {
    pub(crate) fn next(&mut self) -> i64 {
        self.0 = (self.0 * 48_261 + 11) % ROWS;
        self.0 + 1
    }
}

/// Point reads between two looks at the clock.
pub(crate) const READS_AT_ONCE: u32 = 16;

/// An empty database on plain SQLite in WAL mode.
pub(crate) fn open(path: &Path, synchronous: &str) -> Result<Connection, BenchError> {
    let sqlite = Connection::open(path)?;
    sqlite.execute_batch(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};"
    ))?;
    Ok(sqlite)
}

/// An empty table on plain SQLite in WAL mode.
pub(crate) fn create(path: &Path, synchronous: &str) -> Result<Connection, BenchError> {
    let sqlite = open(path, synchronous)?;
    sqlite.execute_batch(CREATE)?;
    Ok(sqlite)
}

/// One-row transactions. A floor counts for the whole of a transaction, which syncs once: the baseline isn't made slower
/// than it would be on such a disk.
pub(crate) fn writes(
    sqlite: &Connection,
    clock: &dyn Clock,
    slice: Duration,
    floor: Option<&SyncFloor>,
) -> Result<Slice, BenchError> {
    let mut insert = sqlite.prepare_cached(INSERT)?;
    let mut number = 0_i64;
    measure(clock, slice, || {
        number += 1;
        let mut run = || insert.execute((number, TEXT));
        match floor {
            Some(floor) => floor.hold(run)?,
            None => run()?,
        };
        Ok(1)
    })
}

/// Point reads by primary key.
pub(crate) fn reads(
    sqlite: &Connection,
    clock: &dyn Clock,
    slice: Duration,
) -> Result<Slice, BenchError> {
    let mut select = sqlite.prepare_cached(SELECT)?;
    let mut ids = Ids::default();
    measure(clock, slice, || {
        for _ in 0..READS_AT_ONCE {
            let _text: String = select.query_row([ids.next()], |row| row.get(0))?;
        }
        Ok(READS_AT_ONCE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_meet_every_row() {
        let mut ids = Ids::default();
        let met: BTreeSet<i64> = (0..ROWS).map(|_| ids.next()).collect();
        assert!(*met.first().unwrap() >= 1 && *met.last().unwrap() <= ROWS);
        assert_eq!(met.len(), usize::try_from(ROWS).unwrap());
    }
}
