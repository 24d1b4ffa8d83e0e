//! Which of SQLite's errors are answers, and which are failures of this node (safety rule 36).

use crate::guard::Guard;
use crate::{SqlError, SqlFailure};
use rusqlite::ffi;
use sqlrep_vfs::{Connection, Refusal};

/// Why a statement, or the request, ended early.
#[derive(Debug)]
pub(crate) enum Halt {
    /// An answer.
    Refused(SqlError),
    /// None.
    Failed(SqlFailure),
}

impl From<SqlFailure> for Halt {
    fn from(failure: SqlFailure) -> Self {
        Self::Failed(failure)
    }
}

/// The result codes that depend on the statement and the database alone.
const ANSWERS: [i32; 8] = [
    ffi::SQLITE_ERROR,
    ffi::SQLITE_CONSTRAINT,
    ffi::SQLITE_MISMATCH,
    ffi::SQLITE_RANGE,
    ffi::SQLITE_AUTH,
    ffi::SQLITE_ABORT,
    ffi::SQLITE_TOOBIG,
    ffi::SQLITE_FULL,
];

/// What virtual tables answer to statements that any client can write: a full-text index to 'integrity-check' when it
/// differs from its content, an R-Tree to an INSERT that reads from it. As failures of the node, one statement would put
/// every node out of service. Damaged pages don't hide behind them: pages are checked by their hashes.
const OF_VIRTUAL_TABLES: [i32; 2] = [ffi::SQLITE_CORRUPT_VTAB, ffi::SQLITE_LOCKED_VTAB];

/// A refusal of ours.
pub(crate) fn refuse(code: i32, message: impl Into<String>) -> Halt {
    Halt::Refused(SqlError {
        code,
        message: message.into(),
    })
}

/// Judges what SQLite said. What the authorizer or the VFS noted says more.
pub(crate) fn judge(connection: &Connection, guard: &Guard, error: rusqlite::Error) -> Halt {
    if let Some(message) = connection.panic_message() {
        return SqlFailure::Panicked { message }.into();
    }
    if let Some(source) = connection.take_store_error() {
        return SqlFailure::Store { source }.into();
    }
    if let Some(reason) = guard.take_denial() {
        return refuse(ffi::SQLITE_AUTH, reason);
    }
    match connection.take_refusal() {
        Some(Refusal::TooLarge { pages_max, .. }) => {
            return refuse(ffi::SQLITE_FULL, too_large(pages_max));
        }
        Some(refusal) => return SqlFailure::Commit { refusal }.into(),
        None => {}
    }
    let (code, message) = parts(error);
    // The primary code is the lowest byte.
    if ANSWERS.contains(&(code & 0xff)) || OF_VIRTUAL_TABLES.contains(&code) {
        return refuse(code, message);
    }
    SqlFailure::Sqlite { code, message }.into()
}

/// Without the count: it is no more than a hint, and how many pages a cache spilled in vain isn't an answer.
fn too_large(pages_max: u32) -> String {
    format!(
        "the transaction changes more than {pages_max} pages (transaction_pages_max); split it into smaller ones"
    )
}

/// Extended code and SQLite's own text.
pub(crate) fn parts(error: rusqlite::Error) -> (i32, String) {
    match error {
        rusqlite::Error::SqliteFailure(error, Some(message)) => (error.extended_code, message),
        rusqlite::Error::SqliteFailure(error, None) => (error.extended_code, error.to_string()),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.extended_code, msg),
        // The binding's own: none of SQLite's, and never an answer.
        other => (ffi::SQLITE_INTERNAL, other.to_string()),
    }
}
