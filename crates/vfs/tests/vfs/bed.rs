//! A store with a log that the test plays itself: each `commit` is an entry.

use crate::script::digest;
use sqlrep_disk::SimulatedDisk;
use sqlrep_env::Env;
use sqlrep_store::{
    EntryEnd, Finish, Options, PageNumber, PageSize, Pin, PinKind, Position, Side, Store,
    StoreError, Version,
};
use sqlrep_vfs::{Connection, Kind};
use std::sync::Arc;

/// How much room a store has.
#[derive(Clone, Copy)]
pub(crate) enum Limits {
    /// The defaults.
    Roomy,
    /// Hardly any for versions, in memory and in the spill file.
    Tight,
    /// So many bytes of memory for a transaction.
    Transaction(u64),
}

impl Limits {
    fn options(self, disk: &SimulatedDisk, page_bytes: u32) -> Options {
        let options = Options {
            page_size: PageSize::new(page_bytes),
            ..Options::new(Arc::new(disk.clone()))
        };
        match self {
            Self::Roomy => options,
            Self::Transaction(transaction_bytes_max) => Options {
                transaction_bytes_max,
                ..options
            },
            Self::Tight => Options {
                version_bytes_max: 40 * u64::from(page_bytes),
                spill_bytes_max: 400 * u64::from(page_bytes),
                ..options
            },
        }
    }
}

pub(crate) struct Bed {
    pub(crate) env: Env,
    pub(crate) disk: SimulatedDisk,
    pub(crate) store: Arc<Store>,
}

impl Bed {
    pub(crate) const WRITER: Kind = Kind::Writer {
        normalize_version: false,
    };

    pub(crate) fn new(page_bytes: u32) -> Self {
        Self::with(page_bytes, Limits::Roomy)
    }

    pub(crate) fn with(page_bytes: u32, limits: Limits) -> Self {
        let disk = SimulatedDisk::new(7);
        Self::on(disk, Env::inline(7), page_bytes, limits).unwrap()
    }

    /// What the next process finds on `disk`.
    pub(crate) fn on(
        disk: SimulatedDisk,
        env: Env,
        page_bytes: u32,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        let store = Store::open(limits.options(&disk, page_bytes))?;
        Ok(Self { env, disk, store })
    }

    pub(crate) fn open(&self, kind: Kind) -> Connection {
        Connection::open(&self.store, &self.env, kind).unwrap()
    }

    pub(crate) fn writer(&self) -> Connection {
        self.open(Self::WRITER)
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
        self.try_commit_at(version).unwrap()
    }

    pub(crate) fn try_commit_at(&self, version: Version) -> Result<Arc<EntryEnd>, StoreError> {
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
        self.store.finish(finish)
    }

    /// The newest version as a file, for a plain SQLite.
    pub(crate) fn file(&self) -> Vec<u8> {
        let page_bytes = self.store.page_size().bytes() as usize;
        let pages = 1..=self.store.newest().1.0;
        let mut file = vec![0; pages.clone().count() * page_bytes];
        for (number, image) in pages.zip(file.chunks_mut(page_bytes)) {
            let page = PageNumber::new(number).unwrap();
            self.store.read_newest(page, 0, image).unwrap();
        }
        file
    }

    /// A plain SQLite finds the newest version sound, and in it what has `digest`.
    pub(crate) fn check_copy(&self, expected: u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.db");
        std::fs::write(&path, self.file()).unwrap();
        let plain = rusqlite::Connection::open(path).unwrap();
        assert_eq!(digest(&plain), expected);
        let check = plain.query_row("PRAGMA integrity_check", [], |row| row.get(0));
        assert_eq!(check, Ok("ok".to_owned()));
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
