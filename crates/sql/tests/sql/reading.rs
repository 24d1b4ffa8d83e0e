//! Reads: one snapshot, bounded, stopped in time.

use crate::bed::{Bed, only, table, transaction};
use rusqlite::ffi;
use sqlrep_sql::{Cancel, Outcome, ReadLimits, Reader, Request, Shape, SqlError, Statement, Value};
use sqlrep_store::PinKind;
use std::sync::Arc;
use std::time::Duration;

const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

fn failed(outcome: Outcome) -> SqlError {
    match outcome {
        Outcome::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

fn seeded() -> Bed {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3)");
    bed
}

#[test]
fn all_statements_see_one_version_and_the_next_request_the_newest() {
    let mut bed = seeded();
    let mut reader = bed.reader();
    let pin = Arc::new(bed.store.pin(PinKind::Sql));
    let limits = ReadLimits::default();
    let query = Request::query("SELECT * FROM t");
    assert_eq!(
        table(only(reader.run(&query, &limits).unwrap()))
            .values
            .len(),
        3
    );
    bed.run("ALTER TABLE t ADD COLUMN b DEFAULT 7");
    bed.run("INSERT INTO t VALUES (4, 4)");
    // The statement was compiled for the old schema.
    let rows = table(only(reader.run(&query, &limits).unwrap()));
    assert_eq!(rows.columns, ["a", "b"]);
    assert_eq!(rows.values.len(), 4);
    let mut old = Reader::open_at(&bed.store, &bed.env, &bed.settings, pin).unwrap();
    let rows = table(only(old.run(&query, &limits).unwrap()));
    assert_eq!((rows.columns.len(), rows.values.len()), (1, 3));
    let empty = Request::query("SELECT * FROM t WHERE 0");
    let rows = table(only(reader.run(&empty, &limits).unwrap()));
    assert_eq!(rows.columns, ["a", "b"]);
}

#[test]
fn errors_end_a_transaction_only() {
    let bed = seeded();
    let mut request = transaction(&["SELECT 1", "SELEC", "SELECT 2"]);
    request.shape = Shape::Query;
    assert_eq!(bed.read(&request).outcomes.len(), 2);
    request.transaction = false;
    let outcomes = bed.read(&request).outcomes;
    assert_eq!(outcomes.len(), 3);
    assert!(matches!(outcomes[2], Outcome::Rows(_)));
    request.statements = vec![Statement::text("SELECT 1; SELECT 2, 3; -- end")];
    assert_eq!(
        table(only(bed.read(&request))).values,
        [[2, 3].map(Value::Integer)]
    );
}

#[test]
fn a_read_is_stopped_at_its_deadline() {
    let bed = seeded();
    let mut reader = bed.reader();
    let mut request = Request::query(ENDLESS);
    request.statements.push(Statement::text("SELECT 1"));
    let limits = ReadLimits {
        run_until: Some(bed.env.clock.now().after(Duration::from_millis(5))),
        ..ReadLimits::default()
    };
    let error = failed(only(reader.run(&request, &limits).unwrap()));
    assert_eq!(
        (error.code, error.message.as_str()),
        (ffi::SQLITE_INTERRUPT, "query timeout")
    );
    // Too late from the start.
    let reply = reader.run(&Request::query("SELECT 1"), &limits).unwrap();
    assert_eq!(failed(only(reply)).message, "query timeout");
    let reply = reader.run(&Request::query("SELECT 1"), &ReadLimits::default());
    assert_eq!(table(only(reply.unwrap())).values.len(), 1);
}

#[test]
fn a_read_that_nobody_waits_for_is_stopped() {
    let bed = seeded();
    let mut reader = bed.reader();
    let cancel = Cancel::default();
    let limits = ReadLimits {
        cancel: cancel.clone(),
        ..ReadLimits::default()
    };
    let mut both = Request::query(ENDLESS);
    both.statements.push(Statement::text("SELECT 1"));
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| failed(only(reader.run(&both, &limits).unwrap())));
        cancel.cancel();
        assert_eq!(stopped.join().unwrap().message, "interrupted");
    });
    let reply = reader.run(&Request::query("SELECT 1"), &ReadLimits::default());
    assert_eq!(table(only(reply.unwrap())).values.len(), 1);
}

#[test]
fn a_read_is_interrupted_from_another_thread() {
    let bed = seeded();
    let mut reader = bed.reader();
    let handle = reader.interrupt_handle();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                handle.interrupt();
                std::thread::yield_now();
            }
        });
        // An interrupt between two statements passes; one of these is hit.
        let stopped = loop {
            match reader.run(&Request::query(ENDLESS), &ReadLimits::default()) {
                Ok(reply) => break failed(only(reply)),
                Err(_) => continue,
            }
        };
        done.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(stopped.message, "interrupted");
    });
}

#[test]
fn results_are_bounded() {
    let bed = seeded();
    let mut reader = bed.reader();
    let mut ask = |sql: &str, rows_max, bytes_max| {
        let limits = ReadLimits {
            rows_max,
            bytes_max,
            ..ReadLimits::default()
        };
        only(reader.run(&Request::query(sql), &limits).unwrap())
    };
    assert!(matches!(ask("SELECT * FROM t", 3, 1_000), Outcome::Rows(_)));
    let error = failed(ask("SELECT * FROM t", 2, 1_000));
    assert_eq!(error.code, ffi::SQLITE_TOOBIG);
    assert_eq!(
        error.message,
        "the result has more than 2 rows; ask for less at a time with LIMIT"
    );
    let error = failed(ask("SELECT zeroblob(2000)", 2, 1_000));
    assert_eq!(
        error.message,
        "the result has more than 1000 bytes; ask for less at a time with LIMIT"
    );
}

#[test]
fn sqlite_says_what_reads() {
    let bed = seeded();
    let mut reader = bed.reader();
    for (sql, reads) in [
        ("SELECT 1", true),
        ("WITH x AS (SELECT 1) SELECT * FROM x", true),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", false),
        ("INSERT INTO t VALUES (1) RETURNING a", false),
        ("EXPLAIN INSERT INTO t VALUES (1)", true),
        ("EXPLAIN QUERY PLAN DELETE FROM t", true),
        ("/* SELECT */ DELETE FROM t", false),
        ("SELECT 1; DELETE FROM t", false),
        ("CREATE TABLE x(a); INSERT INTO x VALUES (1)", false),
        ("PRAGMA user_version", true),
        ("PRAGMA user_version=1", false),
        ("VACUUM", false),
        ("ANALYZE", false),
        ("SELEC", true),
        ("SELECT * FROM nowhere", true),
        ("BEGIN", true),
        ("ATTACH 'x' AS y", true),
        ("", true),
    ] {
        let asked = reader.is_read_only(&Request::execute(sql)).unwrap();
        assert_eq!(asked, reads, "{sql}");
    }
    let rows = table(bed.query("EXPLAIN INSERT INTO t VALUES (1)"));
    assert!(rows.values.len() > 3);
}

#[test]
fn values_keep_their_class() {
    let mut bed = seeded();
    let all = vec![
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Real(-0.0),
        Value::Real(1e300),
        Value::Text("a\0ü".to_owned()),
        Value::Blob(vec![0, 255]),
        Value::Blob(Vec::new()),
        Value::Text(String::new()),
    ];
    bed.run("CREATE TABLE v(x)");
    for value in &all {
        let mut request = Request::execute("INSERT INTO v VALUES (?)");
        request.statements[0].parameters = vec![sqlrep_sql::Parameter::Positional(value.clone())];
        bed.write(&request);
    }
    let rows = bed.values("SELECT x FROM v ORDER BY rowid");
    let read: Vec<Value> = rows.into_iter().flatten().collect();
    assert_eq!(read, all);
    let bad = bed.values("SELECT CAST(x'41FF42' AS TEXT)");
    assert_eq!(bad, [[Value::Text("A\u{fffd}B".to_owned())]]);
}
