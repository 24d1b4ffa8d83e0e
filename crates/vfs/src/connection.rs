//! An SQLite connection on a store.

use crate::context::Context;
use crate::counters::Counters;
use crate::error::{Refusal, VfsError};
use crate::main_file::Role;
use crate::reader::Reader;
use crate::register::{MAIN_FILE, Registration};
use crate::room::TransactionBytes;
use crate::writer::Writer;
use crate::{random, settings};
use rusqlite::{InterruptHandle, OpenFlags};
use sqlrep_env::{Env, UnixMillis};
use sqlrep_store::{Pin, Store, StoreError, Version};
use std::fmt;
use std::sync::Arc;

/// What a connection sees and may do.
#[derive(Clone)]
#[non_exhaustive]
pub enum Kind {
    /// Works on the newest version, finished or not, and publishes each commit as the next one. At most one per store.
    Writer {
        /// Put [`PAGE_ONE_VERSION`](crate::PAGE_ONE_VERSION) in place of SQLite's version into page 1, so that replicas that
        /// execute the same statements on different builds get the same bytes (safety rule 32).
        normalize_version: bool,
    },
    /// Sees the newest entry end, anew for each transaction. Writing fails with `SQLITE_READONLY`.
    Reader,
    /// Sees this version, always. Writing fails with `SQLITE_READONLY`.
    ReaderAt(Arc<Pin>),
    /// Writes over this version; nobody else ever sees it.
    Private(Arc<Pin>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writer { .. } => "Writer",
            Self::Reader => "Reader",
            Self::ReaderAt(_) => "ReaderAt",
            Self::Private(_) => "Private",
        })
    }
}

impl Kind {
    fn writes(&self) -> bool {
        matches!(self, Self::Writer { .. } | Self::Private(_))
    }

    fn role(self, context: &Context) -> Role {
        match self {
            Self::Writer { normalize_version } => {
                Role::Writer(Writer::newest(context, normalize_version))
            }
            Self::Private(pin) => Role::Writer(Writer::private(context, pin)),
            Self::Reader => Role::Reader(Reader::Newest { pinned: None }),
            Self::ReaderAt(pin) => Role::Reader(Reader::At(pin)),
        }
    }
}

/// One connection: it may move between threads, but one at a time uses it.
///
/// Invariant: `sqlite` is dropped before `registration`, whose VFS it uses.
pub struct Connection {
    sqlite: rusqlite::Connection,
    registration: Registration,
    context: Arc<Context>,
    counters: Counters,
    writes: bool,
}

impl Connection {
    /// Opens SQLite on `store`. Time and randomness come from `env`, unless [`set_time`](Self::set_time) and
    /// [`set_random`](Self::set_random) say otherwise.
    ///
    /// # Errors
    ///
    /// What SQLite or the store said.
    pub fn open(store: &Arc<Store>, env: &Env, kind: Kind) -> Result<Self, VfsError> {
        let context = Arc::new(Context::new(store, env));
        let writes = kind.writes();
        let role = kind.role(&context);
        let registration = Registration::new(context.clone(), role)?;
        let opened = open_sqlite(&registration, writes).and_then(|sqlite| {
            let counters = Counters::default();
            settings::apply(&sqlite, &context, writes)?;
            random::install(&sqlite, &context)?;
            counters.install(&sqlite)?;
            Ok((sqlite, counters))
        });
        let (sqlite, counters) =
            opened.map_err(|source| failure(&context, "open SQLite on the page store", source))?;
        Ok(Self {
            sqlite,
            registration,
            context,
            counters,
            writes,
        })
    }

    /// The connection itself, for everything that SQL does.
    #[must_use]
    pub fn sqlite(&self) -> &rusqlite::Connection {
        &self.sqlite
    }

    /// The same, to set hooks, functions and limits.
    ///
    /// Replacing the value by another connection isn't what this is for: it does no harm, but the VFS of this one is then
    /// never freed.
    pub fn sqlite_mut(&mut self) -> &mut rusqlite::Connection {
        &mut self.sqlite
    }

    /// Stops what the connection runs, from any thread.
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.sqlite.get_interrupt_handle()
    }

    /// How many prepared statements to keep.
    pub fn set_statement_cache_capacity(&self, statements: usize) {
        self.sqlite
            .set_prepared_statement_cache_capacity(statements);
    }

    /// What `'now'` is from the next statement on; none asks the clock once for each.
    pub fn set_time(&self, now: Option<UnixMillis>) {
        self.context.set_time(now);
    }

    /// Begins the sequence of `seed` for `random()` and `randomblob()`; none draws from the environment's entropy.
    pub fn set_random(&self, seed: Option<u64>) {
        self.context.random().set_seed(seed);
    }

    /// How many distinct pages one transaction may change; without a call there is no limit. It is judged once, at the
    /// commit, so that the verdict is the same wherever the same statements run (safety rule 36).
    pub fn set_transaction_pages_max(&self, pages_max: u32) {
        self.context.set_transaction_pages_max(pages_max);
    }

    /// From here on `last_insert_rowid()`, `changes()` and `total_changes()`, in SQL and here, count from zero (safety rule 38).
    ///
    /// # Errors
    ///
    /// What SQLite said, such as an authorizer that doesn't let [`COUNTERS_TABLE`](crate::COUNTERS_TABLE) pass.
    pub fn reset_counters(&self) -> Result<(), VfsError> {
        let reset = self.counters.reset(&self.sqlite, self.writes);
        reset.map_err(|source| failure(&self.context, "reset a connection's counters", source))
    }

    /// Rows that the last INSERT, UPDATE or DELETE changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.sqlite.changes()
    }

    /// Rows changed since the counters were reset, those of triggers included.
    #[must_use]
    pub fn total_changes(&self) -> u64 {
        self.counters.since_reset(&self.sqlite)
    }

    /// The row id of the last INSERT.
    #[must_use]
    pub fn last_insert_rowid(&self) -> i64 {
        self.counters.last_rowid(&self.sqlite)
    }

    /// A statement begins. Nothing that SQL can see changes.
    pub fn begin_statement(&self) {
        self.counters.begin_statement(&self.sqlite);
    }

    /// The row id of the last row that was inserted since [`begin_statement`](Self::begin_statement), but for those of
    /// triggers, whose row ids SQLite forgets. The row id 2^63-1 isn't seen.
    #[must_use]
    pub fn inserted_rowid(&self) -> Option<i64> {
        Counters::inserted(&self.sqlite)
    }

    /// The newest version that a commit published since the last call.
    #[must_use]
    pub fn take_published(&self) -> Option<Version> {
        self.context.take_published()
    }

    /// Distinct pages of each transaction that was committed since the last call, added up. As with the limit of one
    /// transaction, it is the same wherever the same statements run.
    #[must_use]
    pub fn take_pages_committed(&self) -> u64 {
        self.context.take_pages_committed()
    }

    /// What its transactions hold, and where.
    #[must_use]
    pub fn transaction_bytes(&self) -> TransactionBytes {
        self.context.room().bytes()
    }

    /// Why this VFS refused the last commit, if it did. None behind an `SQLITE_FULL` means that the error was SQLite's own.
    #[must_use]
    pub fn take_refusal(&self) -> Option<Refusal> {
        self.context.take_refusal()
    }

    /// The store's first error since the last call. It reached SQL as `SQLITE_IOERR`.
    #[must_use]
    pub fn take_store_error(&self) -> Option<StoreError> {
        self.context.take_store_error()
    }

    /// What a callback of SQLite panicked with. From then on every read and write of this connection fails with
    /// `SQLITE_IOERR`; close it.
    #[must_use]
    pub fn panic_message(&self) -> Option<String> {
        self.context.panic_message()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection")
            .field(&self.registration.name())
            .finish()
    }
}

fn open_sqlite(
    registration: &Registration,
    writes: bool,
) -> rusqlite::Result<rusqlite::Connection> {
    let access = if writes {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    };
    // No mutex: the connection is used by one thread at a time.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let path = MAIN_FILE.to_str().expect("the name is ASCII");
    rusqlite::Connection::open_with_flags_and_vfs(path, flags, registration.name())
}

/// SQLite's error, or the store's behind it.
fn failure(context: &Context, operation: &'static str, source: rusqlite::Error) -> VfsError {
    match context.take_store_error() {
        Some(source) => VfsError::Store { operation, source },
        None => VfsError::Sqlite { operation, source },
    }
}
