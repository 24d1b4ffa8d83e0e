//! Rule 38: SQL counts from zero in each request, replies repeat the writer's last values.

use crate::bed::{Bed, only, transaction};
use sqlrep_sql::{Counters, Outcome, Request, Shape, Value};

/// Rule 38: `last_insert_rowid()`, `changes()` and `total_changes()` see the request's own work.
#[test]
fn a_request_counts_from_zero() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a INTEGER PRIMARY KEY); INSERT INTO t VALUES (7), (8)");
    let ask = "SELECT last_insert_rowid(), changes(), total_changes()";
    let mut request = Request::execute(ask);
    request.shape = Shape::Request;
    let zeros = vec![vec![Value::Integer(0); 3]];
    let Outcome::Rows(rows) = only(bed.write(&request)) else {
        panic!()
    };
    assert_eq!(rows.values, zeros);
    assert_eq!(bed.values(ask), zeros);
    request.statements[0].sql = format!("INSERT INTO t VALUES (9); {ask}");
    let Outcome::Rows(rows) = only(bed.write(&request)) else {
        panic!()
    };
    assert_eq!(rows.values, [[9, 1, 1].map(Value::Integer)]);
}

/// Rule 38: what rqlite's clients see.
#[test]
fn replies_repeat_the_last_values() {
    let mut bed = Bed::new();
    let mut counts = |sql: &str| {
        let written = bed.run(sql);
        (written.last_insert_id, written.rows_affected)
    };
    for (sql, expected) in [
        ("CREATE TABLE t(a INTEGER PRIMARY KEY, b)", (0, 0)),
        ("INSERT INTO t VALUES (5, 1), (6, 1)", (6, 2)),
        ("CREATE TABLE u(a)", (6, 2)),
        ("SELECT * FROM t", (6, 2)),
        ("UPDATE t SET b = 2 WHERE a = 5", (6, 1)),
        ("UPDATE t SET b = 2 WHERE 0", (6, 0)),
        ("DELETE FROM t", (6, 2)),
        ("DROP TABLE u", (6, 2)),
        ("INSERT OR IGNORE INTO t VALUES (0, 0)", (0, 1)),
        ("INSERT INTO t VALUES (3, 0)", (3, 1)),
        ("UPDATE t SET b = 1 WHERE a = 0", (3, 1)),
        ("DELETE FROM t WHERE a = 0", (3, 1)),
        ("INSERT INTO t VALUES (3, 0) ON CONFLICT DO NOTHING", (3, 0)),
        ("CREATE TABLE w(a PRIMARY KEY) WITHOUT ROWID", (3, 0)),
        ("INSERT INTO w VALUES (1), (2), (3)", (3, 3)),
        ("PRAGMA user_version=2", (3, 3)),
        ("ANALYZE", (3, 3)),
        ("VACUUM", (3, 3)),
        // Compiled before.
        ("INSERT INTO t VALUES (?1, 0)", (3, 3)),
    ] {
        if sql.contains('?') {
            continue;
        }
        assert_eq!(counts(sql), expected, "{sql}");
    }
    for _ in 0..3 {
        assert_eq!(bed.run("UPDATE t SET b = 3 WHERE 0").rows_affected, 0);
        assert_eq!(bed.run("UPDATE t SET b = 3 WHERE a = 3").rows_affected, 1);
    }
    bed.error("INSERT INTO t VALUES (3, 0)");
    let before = Counters {
        last_insert_id: 3,
        rows_affected: 1,
    };
    assert_eq!(bed.counters, before);
    bed.write(&transaction(&["INSERT INTO t VALUES (99, 0)", "oops"]));
    assert_eq!(bed.counters, before);
    bed.write(&transaction(&[
        "INSERT INTO t VALUES (99, 0)",
        "DELETE FROM w",
    ]));
    assert_eq!(
        bed.counters,
        Counters {
            last_insert_id: 99,
            rows_affected: 3
        }
    );
    // The rowid of what was refused is the connection's last one, and then a row's.
    let mut apart = transaction(&[
        "INSERT INTO t VALUES (50, 0), (50, 0)",
        "INSERT INTO t VALUES (50, 1)",
    ]);
    apart.transaction = false;
    bed.write(&apart);
    assert_eq!(bed.counters.last_insert_id, 50);
}
