//! What a client gets back.

use crate::Value;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The answer to a request: one outcome per statement that ran, in order. A statement of white space or
/// comments alone runs to no outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// In order.
    pub outcomes: Vec<Outcome>,
}

impl Reply {
    /// What a replay answers that gave something else than its session was shown: it was rolled back, on every node alike.
    #[must_use]
    pub(crate) fn conflict() -> Self {
        let error = SqlError {
            code: rusqlite::ffi::SQLITE_BUSY_SNAPSHOT,
            message: "what the transaction was shown has changed since; nothing was done"
                .to_owned(),
        };
        Self {
            outcomes: vec![Outcome::Failed(error)],
        }
    }
}

/// What one statement gave. An error is an answer too, equal on every node (safety rule 36).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It ran and answers with counts.
    Written(Written),
    /// It ran and answers with rows.
    Rows(Rows),
    /// SQLite, or a rule of this server, refused it.
    Failed(SqlError),
}

/// Counts. Both are the last values that any statement of the database's writer set (safety rule 38), as
/// rqlite's clients expect: a statement that sets none repeats them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Rowid of the last INSERT.
    pub last_insert_id: i64,
    /// Rows of the last INSERT, UPDATE or DELETE.
    pub rows_affected: u64,
    /// How long it ran on the node that answered. Not part of what nodes compare.
    pub took: Duration,
}

/// A table of results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// Column names.
    pub columns: Vec<String>,
    /// Declared types in lower case; none for an expression.
    pub types: Vec<Option<String>>,
    /// The table that each column comes from, if the request asked for it; none for an expression.
    pub tables: Option<Vec<Option<String>>>,
    /// Row by row, as long as `columns` each.
    pub values: Vec<Vec<Value>>,
    /// How long it ran on the node that answered. Not part of what nodes compare.
    pub took: Duration,
}

/// Why a statement was refused: SQLite's own code and text, or a rule of this server with the code that SQLite has for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// SQLite's extended result code (<https://sqlite.org/rescode.html>).
    pub code: i32,
    /// For the client.
    pub message: String,
}
