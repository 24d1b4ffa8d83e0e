//! Compared with SQLite by itself.

use crate::bed::{Bed, transaction};
use proptest::prelude::*;
use sqlrep_sql::{Outcome, Request, Shape, Value};

const SCHEMA: &str = "
    CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE, c CHECK (c < 8));
    CREATE TABLE u(x NOT NULL, y DEFAULT 5);
    CREATE TABLE log(text);
    CREATE TRIGGER noted AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END;
    CREATE TRIGGER bad BEFORE INSERT ON u WHEN new.x = 6 BEGIN SELECT RAISE(FAIL, 'six'); END;
";

fn number() -> impl Strategy<Value = String> {
    prop_oneof![6 => (0..10_i64).prop_map(|n| n.to_string()), 1 => Just("NULL".to_owned())]
}

fn statement() -> impl Strategy<Value = String> {
    let verb = prop_oneof![
        4 => Just("INSERT"), 1 => Just("INSERT OR IGNORE"), 1 => Just("REPLACE"), 2 => Just("INSERT OR FAIL"),
        1 => Just("INSERT OR ROLLBACK"), 1 => Just("INSERT OR ABORT"),
    ];
    let row = (number(), number(), number()).prop_map(|(a, b, c)| format!("({a}, {b}, {c})"));
    let rows = proptest::collection::vec(row, 1..4).prop_map(|rows| rows.join(", "));
    prop_oneof![
        5 => (verb.clone(), rows).prop_map(|(verb, rows)| format!("{verb} INTO t VALUES {rows}")),
        2 => (verb, number(), number()).prop_map(|(verb, x, y)| format!("{verb} INTO u VALUES (1, 2), ({x}, {y})")),
        2 => (number(), number()).prop_map(|(b, a)| format!("UPDATE t SET b = b + {b}, c = {a} WHERE a >= {a}")),
        1 => number().prop_map(|a| format!("DELETE FROM t WHERE a < {a} RETURNING a, b")),
        1 => Just("DELETE FROM u".to_owned()),
        1 => Just("INSERT INTO u(x) SELECT a FROM t".to_owned()),
        1 => Just("SELECT * FROM t ORDER BY b, a".to_owned()),
        1 => Just("INSERT INTO u(x) VALUES (1); INSERT INTO t VALUES (3, 3, 3); SELECT changes()".to_owned()),
        1 => Just("SELECT last_insert_rowid(), changes()".to_owned()),
        1 => Just("CREATE TABLE IF NOT EXISTS made(z); INSERT INTO made SELECT count(*) FROM t".to_owned()),
        1 => Just("DROP TABLE made".to_owned()),
    ]
}

/// The rows or the error of the last statement, as SQLite by itself gives them.
fn plainly(plain: &rusqlite::Connection, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    use rusqlite::fallible_iterator::FallibleIterator;
    let message = |error: rusqlite::Error| match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        other => other.to_string(),
    };
    let mut batch = rusqlite::Batch::new(plain, sql);
    let mut last = Vec::new();
    while let Some(mut statement) = batch.next().map_err(message)? {
        last.clear();
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(message)? {
            last.push(
                (0..columns)
                    .map(|at| Value::from(row.get_ref(at).unwrap()))
                    .collect(),
            );
        }
    }
    Ok(last)
}

fn ours(outcome: &Outcome) -> Result<Vec<Vec<Value>>, String> {
    match outcome {
        Outcome::Written(_) => Ok(Vec::new()),
        Outcome::Rows(rows) => Ok(rows.values.clone()),
        Outcome::Failed(error) => Err(error.message.clone()),
    }
}

const TABLES: [&str; 4] = [
    "SELECT * FROM t ORDER BY a",
    "SELECT rowid, * FROM u ORDER BY rowid",
    "SELECT rowid, * FROM log ORDER BY rowid",
    "SELECT name FROM sqlite_schema ORDER BY name",
];

fn counted(sql: &str) -> bool {
    sql.contains("changes()") || sql.contains("last_insert_rowid()")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each statement by itself: rows, errors and what stays are SQLite's, `OR FAIL` included.
    #[test]
    fn statements_do_what_they_do_in_sqlite(statements in proptest::collection::vec(statement(), 1..25)) {
        let mut bed = Bed::new();
        bed.run(SCHEMA);
        let plain = rusqlite::Connection::open_in_memory().unwrap();
        plain.execute_batch(SCHEMA).unwrap();
        for sql in &statements {
            let mut request = Request::execute(sql.as_str());
            request.shape = Shape::Request;
            let reply = bed.write(&request);
            prop_assert_eq!(reply.outcomes.len(), 1);
            let expected = plainly(&plain, sql);
            // A request counts from zero, the plain connection doesn't.
            if !counted(sql) {
                prop_assert_eq!(ours(&reply.outcomes[0]), expected, "{}", sql);
            }
            for table in TABLES {
                prop_assert_eq!(bed.values(table), plainly(&plain, table).unwrap(), "{}", sql);
            }
        }
    }

    /// As one transaction: all, or up to the first error and then nothing.
    #[test]
    fn transactions_do_what_they_do_in_sqlite(statements in proptest::collection::vec(statement(), 1..8)) {
        let mut bed = Bed::new();
        bed.run(SCHEMA);
        bed.run("INSERT INTO t VALUES (4, 4, 4)");
        let plain = rusqlite::Connection::open_in_memory().unwrap();
        plain.execute_batch(SCHEMA).unwrap();
        plain.execute_batch("INSERT INTO t VALUES (4, 4, 4)").unwrap();
        plain.execute_batch("BEGIN").unwrap();
        let texts: Vec<&str> = statements.iter().map(String::as_str).collect();
        let mut request = transaction(&texts);
        request.shape = Shape::Request;
        let reply = bed.write(&request);
        for (outcome, sql) in reply.outcomes.iter().zip(&statements) {
            let expected = plainly(&plain, sql);
            if !counted(sql) {
                prop_assert_eq!(ours(outcome), expected, "{}", sql);
            }
        }
        let failed = matches!(reply.outcomes.last(), Some(Outcome::Failed(_)));
        prop_assert!(failed || reply.outcomes.len() == statements.len());
        if !plain.is_autocommit() {
            plain.execute_batch(if failed { "ROLLBACK" } else { "COMMIT" }).unwrap();
        }
        for table in TABLES {
            prop_assert_eq!(bed.values(table), plainly(&plain, table).unwrap());
        }
    }
}
