//! What both modes, the page store's node and plain SQLite are asked to do, alike for all of them.
//!
//! A job is a function of its number: whoever is asked job 7 does the same. Numbers never come twice in a run, so that an
//! UPDATE always changes its row. Texts have 100 bytes, of which 50 are drawn from 64 letters.

use crate::BenchError;
use crate::http::client::post;
use sqlrep_sql::{Parameter, Request, Shape, Statement, Value};
use sqlrep_vfs::rusqlite::types::ToSqlOutput;
use sqlrep_vfs::rusqlite::{Connection, ToSql, params_from_iter};

/// Rows of the table that is updated and read.
pub(crate) const ROWS: u64 = 100_000;

/// The half of a text that is always the same.
const STEADY: &str = "a row as benchmarks have them, half of it as always";

/// Characters of the other half.
const DRAWN: usize = 100 - STEADY.len();

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const INSERT: &str = "INSERT INTO t (b) VALUES (?)";
const INSERT_INDEXED: &str = "INSERT INTO x (k, b) VALUES (?, ?)";
const UPDATE: &str = "UPDATE u SET b = ? WHERE id = ?";
pub(crate) const SELECT: &str = "SELECT b FROM u WHERE id = ?";

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One row at the end of a table.
    Insert,
    /// One row, and its place in an index at random.
    Index,
    /// One of 100,000 rows.
    Update,
    /// Ten rows in one transaction.
    Small,
    /// A thousand rows in one transaction.
    Bulk,
    /// Nine reads of one row, then an UPDATE.
    Mixed,
}

impl Work {
    /// All, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Insert,
        Self::Index,
        Self::Update,
        Self::Small,
        Self::Bulk,
        Self::Mixed,
    ];

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Insert => "INSERT of one row",
            Self::Index => "INSERT with a random index",
            Self::Update => "UPDATE of a random row",
            Self::Small => "transactions of 10 INSERTs",
            Self::Bulk => "transactions of 1,000 INSERTs",
            Self::Mixed => "90 % point SELECTs, 10 % UPDATEs",
        }
    }

    /// For programs, and in flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Index => "index",
            Self::Update => "update",
            Self::Small => "small",
            Self::Bulk => "bulk",
            Self::Mixed => "mixed",
        }
    }

    /// The job of this number.
    pub(crate) fn job(self, number: u64) -> Job {
        let (drawn, id) = (mixed(number), 1 + mixed(!number) % ROWS);
        let one = |sql, values| vec![(sql, values)];
        let text = || Value::Text(text(drawn));
        let statements = match self {
            Self::Insert => one(INSERT, vec![text()]),
            Self::Index => one(INSERT_INDEXED, vec![integer(drawn >> 1), text()]),
            Self::Small => inserts(drawn, 10),
            Self::Bulk => inserts(drawn, 1000),
            Self::Mixed if !number.is_multiple_of(10) => one(SELECT, vec![integer(id)]),
            Self::Update | Self::Mixed => one(UPDATE, vec![text(), integer(id)]),
        };
        Job { statements }
    }
}

fn inserts(drawn: u64, count: u64) -> Vec<(&'static str, Vec<Value>)> {
    let row = |at| (INSERT, vec![Value::Text(text(mixed(drawn ^ at)))]);
    (0..count).map(row).collect()
}

/// What makes the tables, each a request of its own that may come twice.
pub(crate) fn tables() -> [String; 5] {
    [
        "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, b TEXT)".to_owned(),
        "CREATE TABLE IF NOT EXISTS x (id INTEGER PRIMARY KEY, k INTEGER, b TEXT)".to_owned(),
        "CREATE INDEX IF NOT EXISTS x_k ON x (k)".to_owned(),
        "CREATE TABLE IF NOT EXISTS u (id INTEGER PRIMARY KEY, b TEXT)".to_owned(),
        format!(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {ROWS}) \
             INSERT OR IGNORE INTO u SELECT x, '{STEADY}' || substr(hex(randomblob(25)), 1, {DRAWN}) FROM n"
        ),
    ]
}

/// SplitMix64's finalizer: near numbers give far ones.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn text(mut drawn: u64) -> String {
    let mut text = String::with_capacity(STEADY.len() + DRAWN);
    text.push_str(STEADY);
    for at in 0..DRAWN {
        if at % 10 == 9 {
            drawn = mixed(drawn);
        }
        let letter = usize::try_from(drawn >> (at % 10 * 6) & 63).expect("below 64");
        text.push(char::from(LETTERS[letter]));
    }
    text
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// One request: all its statements in one transaction.
pub(crate) struct Job {
    statements: Vec<(&'static str, Vec<Value>)>,
}

impl Job {
    /// It changes nothing.
    pub(crate) fn reads(&self) -> bool {
        self.statements.iter().all(|(sql, _)| *sql == SELECT)
    }

    /// For a node inside this process.
    pub(crate) fn request(self) -> Request {
        let shape = match self.reads() {
            true => Shape::Query,
            false => Shape::Execute,
        };
        let transaction = self.statements.len() > 1;
        let statement = |(sql, values): (&str, Vec<Value>)| Statement {
            sql: sql.to_owned(),
            parameters: values.into_iter().map(Parameter::Positional).collect(),
        };
        Request {
            statements: self.statements.into_iter().map(statement).collect(),
            transaction,
            shape,
            ..Request::default()
        }
    }

    /// For a node behind HTTP. Texts of jobs have nothing that JSON escapes.
    pub(crate) fn http(&self, out: &mut Vec<u8>) {
        let mut body = String::from("[");
        for (at, (sql, values)) in self.statements.iter().enumerate() {
            body.push_str(if at == 0 { "[\"" } else { ",[\"" });
            body.push_str(sql);
            body.push('"');
            for value in values {
                body.push_str(&match value {
                    Value::Text(text) => format!(",\"{text}\""),
                    Value::Integer(number) => format!(",{number}"),
                    _ => unreachable!("jobs have texts and integers"),
                });
            }
            body.push(']');
        }
        body.push(']');
        let path = match (self.reads(), self.statements.len()) {
            (true, _) => "/db/query?level=weak",
            (false, 1) => "/db/execute",
            (false, _) => "/db/execute?transaction",
        };
        post(out, path, &body);
    }

    /// On plain SQLite.
    pub(crate) fn plain(&self, sqlite: &Connection) -> Result<(), BenchError> {
        if let [(sql, values)] = &self.statements[..] {
            return one(sqlite, sql, values);
        }
        let transaction = sqlite.unchecked_transaction()?;
        for (sql, values) in &self.statements {
            one(&transaction, sql, values)?;
        }
        Ok(transaction.commit()?)
    }
}

fn one(sqlite: &Connection, sql: &str, values: &[Value]) -> Result<(), BenchError> {
    let mut statement = sqlite.prepare_cached(sql)?;
    let values = params_from_iter(values.iter().map(Bound));
    if sql == SELECT {
        let _text: String = statement.query_row(values, |row| row.get(0))?;
    } else {
        statement.execute(values)?;
    }
    Ok(())
}

struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> sqlrep_vfs::rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Value::Integer(number) => ToSqlOutput::from(*number),
            Value::Text(text) => ToSqlOutput::from(text.as_str()),
            _ => unreachable!("jobs have texts and integers"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn texts_have_a_hundred_bytes_and_differ_in_half_of_them() {
        let texts: BTreeSet<String> = (0..1000).map(|number| text(mixed(number))).collect();
        assert_eq!(texts.len(), 1000);
        assert!(texts.iter().all(|text| text.len() == 100));
        assert!((48..=52).contains(&DRAWN));
    }

    #[test]
    fn every_job_runs_on_plain_sqlite_and_has_a_form_for_each_place() {
        let sqlite = Connection::open_in_memory().unwrap();
        for sql in tables() {
            sqlite.execute_batch(&sql).unwrap();
        }
        for work in Work::ALL {
            for number in 0..20 {
                let job = work.job(number);
                job.plain(&sqlite).unwrap();
                let mut http = Vec::new();
                job.http(&mut http);
                let http = String::from_utf8(http).unwrap();
                let body = http.split_once("\r\n\r\n").unwrap().1;
                let json: serde_json::Value = serde_json::from_str(body).unwrap();
                let (reads, statements) = (job.reads(), job.statements.len());
                assert_eq!(json.as_array().unwrap().len(), statements);
                assert_eq!(http.contains("/db/query"), reads);
                let request = job.request();
                assert_eq!(request.statements.len(), statements);
                assert_eq!(request.shape == Shape::Query, reads);
            }
        }
        let count = |sql| -> i64 { sqlite.query_row(sql, [], |row| row.get(0)).unwrap() };
        assert_eq!(count("SELECT count(*) FROM t"), 20 + 20 * 10 + 20 * 1000);
        assert_eq!(count("SELECT count(*) FROM x"), 20);
        assert_eq!(count("SELECT count(*) FROM u"), 100_000);
        assert!(count("SELECT min(length(b)) FROM u") >= 99);
    }

    #[test]
    fn one_of_ten_mixed_jobs_writes() {
        let writes = (0..1000).filter(|number| !Work::Mixed.job(*number).reads());
        assert_eq!(writes.count(), 100);
    }
}
