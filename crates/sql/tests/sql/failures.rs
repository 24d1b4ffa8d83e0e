//! Rule 36: which errors are answers, and which are failures of this node.

use crate::bed::{Bed, transaction};
use proptest::prelude::*;
use rusqlite::ffi;
use sqlrep_env::Retry;
use sqlrep_sql::{
    Outcome, Parameter, ReadLimits, Request, Shape, SqlFailure, SqlSettings, Statement, Value,
};

/// Rule 36: errors that any client can cause at will are answers, whatever code SQLite has for them.
#[test]
fn errors_that_follow_from_statement_and_database_are_answers() {
    let mut bed = Bed::new();
    bed.run("CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)");
    bed.run("INSERT INTO boxes VALUES (1, 2, 3), (4, 5, 6)");
    bed.run("CREATE TABLE c(a)");
    bed.run("CREATE VIRTUAL TABLE words USING fts5(a, content='c')");
    bed.run("INSERT INTO c VALUES ('x')");
    for (sql, code) in [
        (
            "INSERT INTO boxes VALUES ((SELECT id + 20 FROM boxes), 1, 2)",
            ffi::SQLITE_LOCKED,
        ),
        (
            "INSERT INTO words(words, rank) VALUES ('integrity-check', 1)",
            ffi::SQLITE_CORRUPT,
        ),
        ("INSERT INTO boxes VALUES (9, 3, 2)", ffi::SQLITE_CONSTRAINT),
        ("SELECT abs(-9223372036854775808)", ffi::SQLITE_ERROR),
        ("SELECT json('{')", ffi::SQLITE_ERROR),
    ] {
        let error = bed.error(sql);
        assert_eq!(error.code & 0xff, code, "{sql}: {error:?}");
    }
    assert_eq!(bed.text("SELECT count(*) FROM boxes"), "2");
}

/// Rule 36: where the disk fails, there is no answer, nothing stays, and the counters are as before.
#[test]
fn a_failure_of_this_node_is_no_answer() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(a); INSERT INTO t SELECT zeroblob(100000)");
    bed.run("INSERT INTO t VALUES (1)");
    let before = (bed.counters, bed.store.newest());
    bed.checkpoint();
    bed.reopen();
    let mut reader = bed.reader();
    bed.break_pages();
    let request = transaction(&[
        "INSERT INTO t VALUES (2)",
        "SELECT sum(length(hex(a))) FROM t",
    ]);
    let failure = bed.try_write(&request).unwrap_err();
    assert!(
        matches!(
            failure,
            SqlFailure::Store { .. } | SqlFailure::Connection { .. }
        ),
        "{failure}"
    );
    assert_eq!((bed.counters, bed.store.newest()), before);
    let failure = reader.run(
        &Request::query("SELECT sum(length(hex(a))) FROM t"),
        &ReadLimits::default(),
    );
    assert!(
        matches!(
            failure,
            Err(SqlFailure::Store { .. } | SqlFailure::Connection { .. })
        ),
        "{failure:?}"
    );
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    assert!(SqlSettings::default().check().is_ok());
    for (settings, words) in [
        (
            SqlSettings {
                steps_max: 0,
                ..SqlSettings::default()
            },
            "setting steps_max = 0: it has to be between 1000 and 1000000000",
        ),
        (
            SqlSettings {
                columns_max: 100_000,
                ..SqlSettings::default()
            },
            "setting columns_max = 100000",
        ),
        (
            SqlSettings {
                transaction_pages_max: 1,
                ..SqlSettings::default()
            },
            "setting transaction_pages_max = 1",
        ),
    ] {
        let failure = settings.check().unwrap_err();
        assert!(failure.to_string().starts_with(words), "{failure}");
        assert!(matches!(failure, SqlFailure::Setting { .. }));
        assert_eq!(failure.retry(), Retry::Useless);
    }
    let described = SqlSettings::default().describe();
    assert_eq!(described["foreign_keys"], "false");
    assert_eq!(described["steps_max"], "500000000");
    assert_eq!(described.len(), 16);
}

#[test]
fn foreign_keys_and_recursive_triggers_follow_the_settings() {
    for on in [false, true] {
        let mut bed = Bed::with(SqlSettings {
            foreign_keys: on,
            recursive_triggers: on,
            ..SqlSettings::default()
        });
        bed.run("CREATE TABLE p(a INTEGER PRIMARY KEY); CREATE TABLE c(a REFERENCES p); \
                 CREATE TABLE n(a); CREATE TRIGGER again AFTER INSERT ON n WHEN new.a < 5 BEGIN INSERT INTO n VALUES (new.a + 1); END");
        assert_eq!(
            matches!(bed.execute("INSERT INTO c VALUES (1)"), Outcome::Failed(_)),
            on
        );
        bed.run("INSERT INTO n VALUES (1)");
        assert_eq!(
            bed.text("SELECT count(*) FROM n"),
            if on { "5" } else { "2" }
        );
        assert_eq!(bed.text("PRAGMA foreign_keys"), u8::from(on).to_string());
        bed.run(if on {
            "PRAGMA foreign_keys=ON"
        } else {
            "PRAGMA foreign_keys=OFF"
        });
        assert!(
            bed.try_write(&Request::execute("PRAGMA recursive_triggers"))
                .is_ok()
        );
    }
}

const TOKENS: [&str; 44] = [
    "SELECT",
    "INSERT INTO",
    "t",
    "words",
    "VALUES",
    "(",
    ")",
    ",",
    ";",
    "*",
    "FROM",
    "WHERE",
    "'x'",
    "x'00ff'",
    "1",
    "-9223372036854775808",
    "?",
    ":n",
    "?3",
    "UPDATE",
    "SET",
    "a",
    "=",
    "DELETE",
    "CREATE TABLE",
    "AS",
    "\0",
    "VACUUM",
    "BEGIN",
    "ROLLBACK",
    "SAVEPOINT s",
    "PRAGMA",
    "table_info",
    "journal_mode",
    "RETURNING",
    "WITH RECURSIVE",
    "UNION ALL",
    "EXPLAIN",
    "ü",
    "\"",
    "/*",
    "--",
    "\n",
    "ATTACH",
];

fn text() -> impl Strategy<Value = String> {
    let token = prop_oneof![9 => proptest::sample::select(&TOKENS[..]).prop_map(str::to_owned), 1 => any::<String>()];
    proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Rule 36: whatever a client sends is answered; nothing panics, nothing is taken for a failure of the node.
    #[test]
    fn any_text_is_answered(
        texts in proptest::collection::vec(text(), 1..6),
        transaction in any::<bool>(),
        shape in proptest::sample::select(&[Shape::Execute, Shape::Query, Shape::Request][..]),
    ) {
        let mut bed = Bed::with(SqlSettings { steps_max: 10_000, ..SqlSettings::default() });
        bed.run("CREATE TABLE t(a); INSERT INTO t VALUES (1); CREATE VIRTUAL TABLE words USING fts5(a)");
        let mut statements: Vec<Statement> = texts.into_iter().map(Statement::text).collect();
        statements[0].parameters = vec![Parameter::Positional(Value::Null), Parameter::Named("n".to_owned(), Value::Integer(1))];
        let request = Request { statements, transaction, shape, qualify_columns: true, replay: None };
        let mut reader = bed.reader();
        let limits = ReadLimits { rows_max: 1_000, ..ReadLimits::default() };
        prop_assert!(reader.run(&request, &limits).is_ok());
        prop_assert!(reader.is_read_only(&request).is_ok());
        prop_assert!(bed.try_write(&request).is_ok());
        prop_assert!(bed.try_write(&Request::execute("CREATE TABLE IF NOT EXISTS after(a)")).is_ok());
        prop_assert_eq!(bed.text("PRAGMA integrity_check"), "ok");
    }
}
