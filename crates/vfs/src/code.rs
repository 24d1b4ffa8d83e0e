//! SQLite's result codes as errors of our own functions.

use rusqlite::ffi;
use std::ffi::c_int;

/// A result code other than `SQLITE_OK`, on its way back to SQLite.
///
/// Invariant: what leaves `xRead`, `xWrite`, `FCNTL_SYNC` or `FCNTL_COMMIT_PHASETWO` is of the `IOERR` or `FULL` family.
/// Only those make the pager drop its cache, which a refused commit has to (`pager_error`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) c_int);

impl Code {
    pub(crate) const READ: Self = Self(ffi::SQLITE_IOERR_READ);
    pub(crate) const SHORT_READ: Self = Self(ffi::SQLITE_IOERR_SHORT_READ);
    pub(crate) const WRITE: Self = Self(ffi::SQLITE_IOERR_WRITE);
    pub(crate) const TRUNCATE: Self = Self(ffi::SQLITE_IOERR_TRUNCATE);
    pub(crate) const COMMIT: Self = Self(ffi::SQLITE_IOERR_COMMIT_ATOMIC);
    pub(crate) const FULL: Self = Self(ffi::SQLITE_FULL);
    pub(crate) const READ_ONLY: Self = Self(ffi::SQLITE_READONLY);
    pub(crate) const NOT_FOUND: Self = Self(ffi::SQLITE_NOTFOUND);

    /// What SQLite is told.
    pub(crate) fn of(result: Result<(), Self>) -> c_int {
        result.map_or_else(|code| code.0, |()| ffi::SQLITE_OK)
    }
}
