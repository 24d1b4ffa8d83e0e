//! Counting from zero: `last_insert_rowid()`, `changes()` and `total_changes()` since a reset.
//!
//! A request sees only its own work, whatever the connection did before (safety rule 38). SQLite has a call to set the
//! first; the second is zero behind a statement that deletes nothing; the third never goes back, so ours
//! subtracts what it was at the reset.
//!
//! Whether a statement set `last_insert_rowid()` can't be seen by comparing: it may set the value that was there. So each
//! begins with a row id that stands for none, and the SQL function shows what it was before until there is a new one.
//!
//! Zeroing `changes()` for real, rather than hiding it, matters in triggers: at the end of a trigger SQLite puts back the
//! value from before, which may be older than the reset.

use rusqlite::functions::{self, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::vtab::{
    Context, CreateVTab, Filters, IndexInfo, Inserts, Module, UpdateVTab, Updates, VTab,
    VTabConfig, VTabConnection, VTabCursor, VTabKind,
};
use rusqlite::{Connection, Error, Result, ffi};
use std::borrow::Cow;
use std::ffi::{CStr, c_int};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The table whose emptying sets `changes()` to zero. It is empty, belongs to no schema and only
/// [`Connection::reset_counters`](crate::Connection::reset_counters) uses it; an authorizer has to let that statement pass.
pub const COUNTERS_TABLE: &str = "sqlrep_counters";

const ZERO_CHANGES: &str = "DELETE FROM sqlrep_counters";

/// What SQLite's last row id is while the statement inserted nothing itself.
const NOTHING_INSERTED: i64 = i64::MAX;

/// What the functions go by.
#[derive(Clone, Default)]
pub(crate) struct Counters(Arc<Bases>);

#[derive(Default)]
struct Bases {
    /// `total_changes()` at the last reset.
    changes: AtomicU64,
    /// `last_insert_rowid()` when the statement began.
    rowid: AtomicI64,
}

impl Counters {
    /// Puts table and functions into a fresh connection.
    pub(crate) fn install(&self, sqlite: &Connection) -> Result<()> {
        const MODULE: &Module<'static, Nothing> = &Module::update_module();
        sqlite.create_module(COUNTERS_TABLE, MODULE, None)?;
        let total: fn(&Self, &Connection) -> i64 =
            |own, sqlite| own.since_reset(sqlite).cast_signed();
        self.function(sqlite, "total_changes", total)?;
        self.function(sqlite, "last_insert_rowid", Self::last_rowid)
    }

    fn function(
        &self,
        sqlite: &Connection,
        name: &str,
        answer: fn(&Self, &Connection) -> i64,
    ) -> Result<()> {
        let own = self.clone();
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
        sqlite.create_scalar_function(name, 0, flags, move |call: &mut functions::Context<'_>| {
            // SAFETY: the connection is asked for a number while it runs this very function, and not kept.
            let sqlite = unsafe { call.get_connection() }?;
            Ok(answer(&own, &sqlite))
        })
    }

    pub(crate) fn since_reset(&self, sqlite: &Connection) -> u64 {
        let base = self.0.changes.load(Ordering::Relaxed);
        sqlite
            .total_changes()
            .checked_sub(base)
            .expect("SQLite never counts back")
    }

    /// From here on everything counts from zero. `writes`: without it nothing but the row id can have been set.
    pub(crate) fn reset(&self, sqlite: &Connection, writes: bool) -> Result<()> {
        set_rowid(sqlite, 0);
        if writes {
            sqlite.prepare_cached(ZERO_CHANGES)?.execute([])?;
        }
        let changes = sqlite.total_changes();
        self.0.changes.store(changes, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn begin_statement(&self, sqlite: &Connection) {
        self.0
            .rowid
            .store(self.last_rowid(sqlite), Ordering::Relaxed);
        set_rowid(sqlite, NOTHING_INSERTED);
    }

    /// The row id that the statement set.
    pub(crate) fn inserted(sqlite: &Connection) -> Option<i64> {
        Some(sqlite.last_insert_rowid()).filter(|rowid| *rowid != NOTHING_INSERTED)
    }

    pub(crate) fn last_rowid(&self, sqlite: &Connection) -> i64 {
        Self::inserted(sqlite).unwrap_or_else(|| self.0.rowid.load(Ordering::Relaxed))
    }
}

fn set_rowid(sqlite: &Connection, rowid: i64) {
    // SAFETY: the handle is only used for the call below, while `sqlite` is borrowed.
    let handle = unsafe { sqlite.handle() };
    // SAFETY: `handle` is an open connection that no other thread uses: `sqlite` isn't shared.
    unsafe { ffi::sqlite3_set_last_insert_rowid(handle, rowid) };
}

/// The empty table.
#[repr(C)]
struct Nothing {
    base: ffi::sqlite3_vtab,
}

// SAFETY: `repr(C)` with SQLite's part first, as the trait asks.
unsafe impl VTab<'_> for Nothing {
    type Aux = ();
    type Cursor = NoRows;

    fn connect(
        db: &mut VTabConnection,
        _aux: Option<&()>,
        _module: &[u8],
        _database: &[u8],
        _table: &[u8],
        _arguments: &[&[u8]],
    ) -> Result<(Cow<'static, CStr>, Self)> {
        db.config(VTabConfig::DirectOnly)?;
        let base = ffi::sqlite3_vtab::default();
        Ok((Cow::Borrowed(c"CREATE TABLE x(y)"), Self { base }))
    }

    fn best_index(&self, info: &mut IndexInfo) -> Result<bool> {
        info.set_estimated_cost(1.0);
        Ok(true)
    }

    fn open(&mut self) -> Result<NoRows> {
        let base = ffi::sqlite3_vtab_cursor::default();
        Ok(NoRows { base })
    }
}

impl CreateVTab<'_> for Nothing {
    const KIND: VTabKind = VTabKind::EponymousOnly;
}

impl UpdateVTab<'_> for Nothing {
    fn delete(&mut self, _row: ValueRef<'_>) -> Result<()> {
        Err(always_empty())
    }

    fn insert(&mut self, _values: &Inserts<'_>) -> Result<i64> {
        Err(always_empty())
    }

    fn update(&mut self, _values: &Updates<'_>) -> Result<()> {
        Err(always_empty())
    }
}

fn always_empty() -> Error {
    Error::ModuleError(format!("{COUNTERS_TABLE} is always empty"))
}

#[repr(C)]
struct NoRows {
    base: ffi::sqlite3_vtab_cursor,
}

// SAFETY: `repr(C)` with SQLite's part first, as the trait asks.
unsafe impl VTabCursor for NoRows {
    fn filter(&mut self, _number: c_int, _text: Option<&str>, _args: &Filters<'_>) -> Result<()> {
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        Ok(())
    }

    fn eof(&self) -> bool {
        true
    }

    fn column(&self, _context: &mut Context, _column: c_int) -> Result<()> {
        Ok(())
    }

    fn rowid(&self) -> Result<i64> {
        Ok(0)
    }
}
