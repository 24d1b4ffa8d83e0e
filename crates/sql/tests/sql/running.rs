//! What requests do and answer.

use crate::bed::{Bed, only, table, transaction};
use sqlrep_sql::{Outcome, Parameter, Request, Shape, Statement, Value};

fn int(value: i64) -> Value {
    Value::Integer(value)
}

#[test]
fn a_statement_writes_and_a_query_reads() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    assert!(bed.writer.take_published().is_some());
    let written = bed.run("INSERT INTO t(b) VALUES ('x'), ('y')");
    assert_eq!((written.last_insert_id, written.rows_affected), (2, 2));
    let rows = table(bed.query("SELECT a, b, a + 1 FROM t ORDER BY a"));
    assert_eq!(rows.columns, ["a", "b", "a + 1"]);
    let types = [Some("integer".to_owned()), Some("text".to_owned()), None];
    assert_eq!(rows.types, types);
    assert_eq!(rows.tables, None);
    assert_eq!(rows.values[1], [int(2), Value::Text("y".into()), int(3)]);
}

#[test]
fn returning_gives_rows_and_a_select_only_where_asked() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
    let rows = table(bed.execute("INSERT INTO t(b) VALUES (7) RETURNING a, b"));
    assert_eq!(rows.values, [[int(1), int(7)]]);
    assert!(matches!(
        bed.execute("SELECT * FROM t"),
        Outcome::Written(_)
    ));
    let mut request = Request::execute("SELECT * FROM t");
    request.shape = Shape::Request;
    request.qualify_columns = true;
    let rows = table(only(bed.write(&request)));
    assert_eq!(rows.values.len(), 1);
    assert_eq!(
        rows.tables,
        Some(vec![Some("t".to_owned()), Some("t".to_owned())])
    );
    request.statements = vec![Statement::text("DELETE FROM t")];
    assert!(matches!(only(bed.write(&request)), Outcome::Written(_)));
}

#[test]
fn several_statements_share_parameters_and_the_last_answers() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a, b)");
    let mut statement = Statement::text(
        "INSERT INTO t VALUES (?, :n); ; -- nothing\n INSERT INTO t VALUES (?, @n); SELECT $n",
    );
    statement.parameters = vec![
        Parameter::Positional(int(1)),
        Parameter::Named("n".into(), int(5)),
        Parameter::Positional(int(2)),
    ];
    let mut request = Request {
        statements: vec![statement],
        shape: Shape::Request,
        ..Request::default()
    };
    let rows = table(only(bed.write(&request)));
    assert_eq!(rows.values, [[int(5)]]);
    let all = bed.values("SELECT a, b FROM t");
    assert_eq!(all, [[int(1), int(5)], [int(2), int(5)]]);
    request.statements[0].parameters.truncate(2);
    let Outcome::Failed(error) = only(bed.write(&request)) else {
        panic!()
    };
    assert_eq!(
        error.message,
        "not enough args to execute query: want 2 got 2"
    );
    assert_eq!(bed.text("SELECT count(*) FROM t"), "3");
}

/// Rule 40: a reader's own BEGIN and ROLLBACK don't lend themselves to clients.
#[test]
fn a_query_cannot_begin_or_end_what_it_runs_in() {
    let bed = Bed::new();
    bed.text("SELECT 1");
    for sql in ["BEGIN", "ROLLBACK", "COMMIT", "END", "SAVEPOINT s"] {
        let error = bed.query_error(sql);
        assert!(error.message.contains("transactions can't be"), "{error:?}");
    }
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a UNIQUE)");
    let reply = bed.write(&transaction(&[
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (2)",
    ]));
    assert_eq!(reply.outcomes.len(), 2);
    let Outcome::Failed(error) = &reply.outcomes[1] else {
        panic!()
    };
    assert_eq!(error.message, "UNIQUE constraint failed: t.a");
    assert_eq!(error.code, 2067);
    assert_eq!(bed.text("SELECT count(*) FROM t"), "0");
    let mut request = transaction(&[
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (2)",
    ]);
    request.transaction = false;
    assert_eq!(bed.write(&request).outcomes.len(), 3);
    assert_eq!(bed.text("SELECT count(*) FROM t"), "2");
}

/// What has nothing to do changes the schema as little as VACUUM, and isn't one: it runs beside others, in a transaction too.
#[test]
fn a_definition_that_finds_nothing_to_do_runs_anywhere() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a)");
    bed.run("CREATE INDEX i ON t(a)");
    bed.run("CREATE VIEW v AS SELECT a FROM t");
    for sql in [
        "DROP TABLE IF EXISTS nowhere",
        "DROP VIEW IF EXISTS nowhere",
        "DROP INDEX IF EXISTS nowhere",
        "DROP TRIGGER IF EXISTS nowhere",
        "CREATE TABLE IF NOT EXISTS t(a)",
        "CREATE INDEX IF NOT EXISTS i ON t(a)",
        "CREATE VIEW IF NOT EXISTS v AS SELECT a FROM t",
    ] {
        let reply = bed.write(&transaction(&[sql, "INSERT INTO t VALUES (1)"]));
        for outcome in &reply.outcomes {
            assert!(matches!(outcome, Outcome::Written(_)), "{sql}: {outcome:?}");
        }
        // Compiled before, and without a transaction.
        bed.run(sql);
        bed.run(&format!("{sql}; INSERT INTO t VALUES (2)"));
    }
    assert_eq!(bed.text("SELECT count(*) FROM t"), "14");
}

/// What a trigger did for a row that fails stays with `OR FAIL`, as in SQLite, and goes with anything else.
#[test]
fn or_fail_keeps_what_a_trigger_did_for_the_row_that_fails() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a INTEGER PRIMARY KEY); CREATE TABLE log(a)");
    bed.run("CREATE TRIGGER noted BEFORE INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END");
    bed.run("INSERT INTO t VALUES (1)");
    for (verb, noted) in [
        ("INSERT", 1),
        ("INSERT OR ROLLBACK", 1),
        ("INSERT OR FAIL", 2),
    ] {
        bed.error(&format!("{verb} INTO t VALUES (1)"));
        let rows = bed.values("SELECT count(*) FROM log");
        assert_eq!(rows, [[Value::Integer(noted)]], "{verb}");
    }
}
