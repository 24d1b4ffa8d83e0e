//! What SQLite would draw from random numbers of its own, which no seed reaches (safety rule 34): the rowid behind the
//! largest one, and the fifth of several columns of one name in a table made from a SELECT. Both are refused.

use crate::verdict::{Halt, refuse};
use rusqlite::ffi;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the update hook saw since the statement began.
#[derive(Default)]
pub(crate) struct Marks {
    largest_rowid: AtomicBool,
}

impl Marks {
    /// A statement begins.
    pub(crate) fn begin(&self) {
        self.largest_rowid.store(false, Ordering::Relaxed);
    }

    pub(crate) fn note(&self, rowid: i64) {
        if rowid == i64::MAX {
            self.largest_rowid.store(true, Ordering::Relaxed);
        }
    }

    /// Behind such a row, SQLite would draw rowids.
    pub(crate) fn largest_rowid(&self) -> bool {
        self.largest_rowid.load(Ordering::Relaxed)
    }
}

pub(crate) fn largest_rowid() -> Halt {
    refuse(
        ffi::SQLITE_CONSTRAINT_ROWID,
        "rowid 9223372036854775807 isn't allowed: behind it SQLite would choose rowids at random",
    )
}

/// Whether a table that was made from a SELECT has a column whose name SQLite may have drawn.
pub(crate) fn has_drawn_column(
    sqlite: &rusqlite::Connection,
    table: &str,
) -> rusqlite::Result<bool> {
    let sql = "SELECT name FROM pragma_table_info(?1)";
    let mut statement = sqlite.prepare_cached(sql)?;
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        if is_drawn(&row.get::<_, String>(0)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn drawn_column(table: &str) -> Halt {
    refuse(
        ffi::SQLITE_ERROR,
        format!(
            "CREATE TABLE {table} AS: more than four columns have the same name; name them with AS"
        ),
    )
}

/// SQLite makes equal names distinct by `:1` to `:4`, then by a random number.
fn is_drawn(column: &str) -> bool {
    let Some((_, number)) = column.rsplit_once(':') else {
        return false;
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits && number.parse::<u64>().map_or(true, |number| number > 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 34: only numbers above 4 can be drawn.
    #[test]
    fn names_that_may_be_drawn_are_known() {
        for name in ["a:5", "a:4294967295", ":99999999999999999999999", "a:b:7"] {
            assert!(is_drawn(name), "{name}");
        }
        for name in ["a", "a:4", "a:", "a:x5", "a:-5", "5", "a:5 "] {
            assert!(!is_drawn(name), "{name}");
        }
    }
}
