//! SQLite by itself, in memory: what the cluster's answers are compared with.

use sqlrep_sql::Value;
use sqlrep_vfs::rusqlite::hooks::Action;
use sqlrep_vfs::rusqlite::{self, Connection};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a statement gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Rowid of the last INSERT, rows of the last change.
    Counts(i64, u64),
    Rows(Vec<String>, Vec<Vec<Value>>),
    Error(String),
}

/// One database, and whether a row of it ever had the largest rowid there is.
pub(crate) struct Plain(Connection, Arc<AtomicBool>);

impl Plain {
    pub(crate) fn open(foreign_keys: bool) -> rusqlite::Result<Self> {
        let mut sqlite = Connection::open_in_memory()?;
        sqlite.pragma_update(None, "foreign_keys", foreign_keys)?;
        sqlite.execute_batch("CREATE TEMP TABLE scratch (x)")?;
        let largest = Arc::new(AtomicBool::new(false));
        let seen = largest.clone();
        let note = move |_: Action, _: &str, _: &str, rowid: i64| {
            seen.fetch_or(rowid == i64::MAX, Ordering::Relaxed);
        };
        sqlite.update_hook(Some(note))?;
        Ok(Self(sqlite, largest))
    }

    /// Whether a row had the largest rowid: behind it SQLite draws rowids at random.
    pub(crate) fn may_draw_rowids(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }

    /// A request: one transaction, ended by its first error, or one per statement.
    ///
    /// What is refused leaves no trace in sqlrep. In SQLite it does: the rowid of an INSERT that was rolled back is still the
    /// last one. That is undone here.
    pub(crate) fn request(&self, sql: &[String], transaction: bool) -> Vec<Answer> {
        let mut answers = Vec::new();
        if transaction {
            self.control("BEGIN");
        }
        let begun_with = self.0.last_insert_rowid();
        for one in sql {
            let before = self.0.last_insert_rowid();
            answers.push(self.statement(one));
            if !matches!(answers.last(), Some(Answer::Error(_))) {
                continue;
            }
            if !transaction {
                self.restore(before);
                continue;
            }
            if !self.0.is_autocommit() {
                self.control("ROLLBACK");
            }
            self.restore(begun_with);
            return answers;
        }
        if transaction {
            self.control("COMMIT");
        }
        answers
    }

    /// Makes `rowid` the last one inserted.
    fn restore(&self, rowid: i64) {
        let sql = format!("INSERT OR REPLACE INTO temp.scratch (rowid) VALUES ({rowid})");
        self.control(&sql);
    }

    fn control(&self, sql: &str) {
        let done = self.0.execute_batch(sql);
        done.expect("nothing is deferred, so a transaction ends as it is told");
    }

    pub(crate) fn statement(&self, sql: &str) -> Answer {
        let answer = self.rows(sql).map(|(columns, rows)| {
            if columns.is_empty() {
                Answer::Counts(self.0.last_insert_rowid(), self.0.changes())
            } else {
                Answer::Rows(columns, rows)
            }
        });
        answer.unwrap_or_else(|error| Answer::Error(message(error)))
    }

    fn rows(&self, sql: &str) -> rusqlite::Result<(Vec<String>, Vec<Vec<Value>>)> {
        let mut statement = self.0.prepare(sql)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let (mut found, mut rows) = (Vec::new(), statement.raw_query());
        while let Some(row) = rows.next()? {
            let values = (0..columns.len()).map(|at| row.get_ref(at).map(Value::from));
            found.push(values.collect::<Result<_, _>>()?);
        }
        Ok((columns, found))
    }
}

/// SQLite's own text.
fn message(error: rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        other => other.to_string(),
    }
}
