//! A store with a log that the test plays itself: each `commit` is an entry.

use sqlrep_disk::SimulatedDisk;
use sqlrep_env::Env;
use sqlrep_store::{
    EntryEnd, Finish, Options, PageSize, Pin, PinKind, Position, Side, Store, Version,
};
use sqlrep_vfs::{Connection, Kind};
use std::sync::Arc;

pub(crate) struct Bed {
    pub(crate) env: Env,
    pub(crate) store: Arc<Store>,
}

impl Bed {
    pub(crate) fn new(page_bytes: u32) -> Self {
        let disk = Arc::new(SimulatedDisk::new(7));
        let options = Options {
            page_size: PageSize::new(page_bytes),
            ..Options::new(disk)
        };
        Self {
            env: Env::inline(7),
            store: Store::open(options).unwrap(),
        }
    }

    pub(crate) fn open(&self, kind: Kind) -> Connection {
        Connection::open(&self.store, &self.env, kind).unwrap()
    }

    pub(crate) fn writer(&self) -> Connection {
        self.open(Kind::Writer {
            normalize_version: false,
        })
    }

    pub(crate) fn reader(&self) -> Connection {
        self.open(Kind::Reader)
    }

    /// Ends an entry at the newest version.
    pub(crate) fn commit(&self) -> Arc<EntryEnd> {
        self.commit_at(self.store.newest().0)
    }

    /// Ends an entry at `version`.
    pub(crate) fn commit_at(&self, version: Version) -> Arc<EntryEnd> {
        let last = self.store.committed().position;
        let position = Position {
            term: 1,
            index: last.map_or(0, |position| position.index + 1),
        };
        let finish = Finish {
            position,
            version,
            side: Side::default(),
            anchor: true,
        };
        self.store.finish(finish).unwrap()
    }

    pub(crate) fn pin(&self) -> Arc<Pin> {
        Arc::new(self.store.pin(PinKind::Sql))
    }
}

/// The first column of the first row.
pub(crate) fn one<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
    let answer = connection.sqlite().query_row(sql, [], |row| row.get(0));
    answer.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub(crate) fn run(connection: &Connection, sql: &str) {
    let done = connection.sqlite().execute_batch(sql);
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The error's text, without SQLite's code.
pub(crate) fn error_of(connection: &Connection, sql: &str) -> String {
    let error = connection.sqlite().execute_batch(sql).unwrap_err();
    error.to_string()
}

/// Rows of a table, and whether its indexes and the whole database are sound.
pub(crate) fn sound(connection: &Connection) -> bool {
    one::<String>(connection, "PRAGMA integrity_check") == "ok"
}
