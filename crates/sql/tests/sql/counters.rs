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

/// Rule 38: a row of a trigger is none of the statement's, whatever its rowid; SQL sees in a statement what it saw before.
#[test]
fn a_row_of_a_trigger_is_not_the_last_one() {
    let mut bed = Bed::new();
    bed.run(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE TABLE seen(a INTEGER PRIMARY KEY, last)",
    );
    bed.run("INSERT INTO t VALUES (7, 1)");
    bed.run(
        "CREATE TRIGGER u AFTER UPDATE ON t BEGIN
           INSERT INTO seen VALUES (new.b, last_insert_rowid()) ON CONFLICT DO UPDATE SET last = excluded.last; END",
    );
    // A trigger inserts the rowid that none stands for, and the one of a refused statement.
    assert_eq!(bed.run("UPDATE t SET b = 0").last_insert_id, 7);
    let mut apart = transaction(&[
        "INSERT INTO t VALUES (50, 0), (50, 0)",
        "UPDATE t SET b = 50",
        "INSERT INTO t SELECT 50, 1 WHERE 0",
    ]);
    apart.transaction = false;
    bed.write(&apart);
    assert_eq!(bed.counters.last_insert_id, 7);
    let seen = [[0, 0], [50, 50]].map(|row| row.map(Value::Integer));
    assert_eq!(bed.values("SELECT * FROM seen"), seen);
    assert_eq!(
        bed.run("INSERT INTO seen VALUES (0, 1) ON CONFLICT DO UPDATE SET last = 9")
            .last_insert_id,
        7
    );
    assert_eq!(bed.run("INSERT INTO t VALUES (0, 1)").last_insert_id, 0);
}

/// Rule 38: an INSERT into a virtual table counts, too, whose rows no hook sees.
#[test]
fn a_row_of_a_virtual_table_is_the_last_one() {
    let mut bed = Bed::new();
    bed.run("CREATE VIRTUAL TABLE words USING fts5(text)");
    let mut apart = transaction(&[
        "INSERT INTO words(rowid, text) VALUES (5, 'a')",
        "INSERT INTO words(rowid, text) VALUES (0, 'b')",
    ]);
    apart.transaction = false;
    bed.write(&apart);
    assert_eq!(bed.counters.last_insert_id, 0);
    assert_eq!(bed.run("DELETE FROM words").last_insert_id, 0);
}
