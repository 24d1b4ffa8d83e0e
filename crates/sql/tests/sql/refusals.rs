//! What is refused, with which code and which advice. After each refusal nothing has changed.

use crate::bed::{Bed, only, transaction};
use rusqlite::ffi;
use sqlrep_sql::{Outcome, Request, Shape, SqlSettings};

const SCHEMA: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE); INSERT INTO t VALUES (1, 1); \
                      CREATE VIEW v AS SELECT sqlite_version() AS version";

fn seeded() -> Bed {
    let mut bed = Bed::new();
    bed.run(SCHEMA);
    bed
}

/// Each statement is refused with this code and a message that has these words, and nothing is written.
fn check(bed: &mut Bed, cases: &[(&str, i32, &str)]) {
    for (sql, code, words) in cases {
        let before = bed.store.newest();
        let error = bed.error(sql);
        assert!(error.message.contains(words), "{sql}: {error:?}");
        assert_eq!(error.code, *code, "{sql}: {error:?}");
        assert_eq!(bed.store.newest(), before, "{sql}");
    }
}

#[test]
fn errors_of_sql_are_sqlites_own_with_extended_codes() {
    check(
        &mut seeded(),
        &[
            ("SELEC 1", 1, "near \"SELEC\": syntax error"),
            (
                "INSERT INTO nowhere VALUES (1)",
                1,
                "no such table: nowhere",
            ),
            (
                "INSERT INTO t VALUES (2, 1)",
                2067,
                "UNIQUE constraint failed: t.b",
            ),
            ("INSERT INTO t VALUES ('x', 2)", 20, "datatype mismatch"),
            (
                "INSERT INTO t(b) SELECT abs(-9223372036854775808)",
                1,
                "integer overflow",
            ),
            (
                "INSERT INTO t VALUES (2, ?)",
                25,
                "not enough args to execute query: want 1 got 0",
            ),
            ("SELECT '\0'", 1, "NUL character at byte 8"),
            (
                "INSERT INTO t(b) SELECT hex(zeroblob(200000000))",
                18,
                "string or blob too big",
            ),
        ],
    );
}

#[test]
fn empty_texts_answer_nothing() {
    let mut bed = seeded();
    for sql in ["", " ", ";", ";;", "-- nothing", "/* nothing */ ;"] {
        assert!(
            bed.write(&Request::execute(sql)).outcomes.is_empty(),
            "{sql}"
        );
        assert!(bed.read(&Request::query(sql)).outcomes.is_empty(), "{sql}");
    }
}

#[test]
fn limits_are_named() {
    let mut bed = Bed::with(SqlSettings {
        sql_bytes_max: 2_000,
        columns_max: 16,
        expression_depth_max: 20,
        compound_select_max: 3,
        function_arguments_max: 8,
        variables_max: 10,
        like_pattern_bytes_max: 10,
        statements_max: 2,
        reply_bytes_max: 2_000,
        ..SqlSettings::default()
    });
    bed.run(SCHEMA);
    let long = format!("SELECT '{}'", "x".repeat(3_000));
    let deep = format!("SELECT 1{}", " + 1".repeat(30));
    let wide = format!("SELECT 1{}", ", 1".repeat(20));
    let arguments = format!("SELECT max(1{})", ", 1".repeat(10));
    check(
        &mut bed,
        &[
            (&long, 18, "too long"),
            (&deep, 1, "Expression tree is too large (maximum depth 20)"),
            (&wide, 1, "too many columns in result set"),
            (&arguments, 1, "too many arguments"),
            (
                "SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4",
                1,
                "too many terms in compound SELECT",
            ),
            (
                "SELECT ?11",
                1,
                "variable number must be between ?1 and ?10",
            ),
            (
                "SELECT 'a' LIKE 'aaaaaaaaaaaaaaa'",
                1,
                "LIKE or GLOB pattern too complex",
            ),
            (
                "UPDATE t SET b = 2 RETURNING randomblob(5000)",
                18,
                "reply_bytes_max",
            ),
        ],
    );
    let mut many = Request::execute("SELECT 1");
    many.statements = vec![many.statements[0].clone(); 3];
    for reply in [bed.write(&many), bed.read(&many)] {
        let Outcome::Failed(error) = only(reply) else {
            panic!()
        };
        assert_eq!(
            error.message,
            "the request has 3 statements, more than 2 (statements_max); split it"
        );
    }
}

/// Rule 40: what the authorizer refuses, with what to do instead.
#[test]
fn what_reaches_outside_the_database_or_the_request_is_refused() {
    const AUTH: i32 = ffi::SQLITE_AUTH;
    let cases = [
        ("BEGIN", AUTH, "transaction=true"),
        ("/* */ begin immediate", AUTH, "transaction=true"),
        ("COMMIT", AUTH, "transaction=true"),
        ("ROLLBACK", AUTH, "transaction=true"),
        ("SAVEPOINT s", AUTH, "transaction=true"),
        ("RELEASE s", AUTH, "transaction=true"),
        ("ATTACH 'x' AS y", AUTH, "ATTACH and DETACH aren't allowed"),
        ("ATTACH '' AS y", AUTH, "ATTACH and DETACH aren't allowed"),
        (
            "EXPLAIN ATTACH 'x' AS y",
            AUTH,
            "ATTACH and DETACH aren't allowed",
        ),
        ("DETACH main", AUTH, "ATTACH and DETACH aren't allowed"),
        (
            "SELECT load_extension('x')",
            AUTH,
            "load_extension isn't allowed",
        ),
        (
            "SELECT fts3_tokenizer('x')",
            AUTH,
            "fts3_tokenizer isn't allowed",
        ),
        ("CREATE TEMP TABLE x(a)", AUTH, "TEMP objects"),
        ("CREATE TABLE temp.x(a)", AUTH, "TEMP objects"),
        ("CREATE TEMP VIEW x AS SELECT 1", AUTH, "TEMP objects"),
        (
            "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
            AUTH,
            "TEMP objects",
        ),
        (
            "CREATE VIRTUAL TABLE temp.x USING fts5(a)",
            AUTH,
            "TEMP objects",
        ),
        (
            "CREATE VIRTUAL TABLE x USING dbstat",
            AUTH,
            "module dbstat aren't allowed",
        ),
        (
            "DELETE FROM sqlrep_counters",
            AUTH,
            "reserved for the server",
        ),
        ("CREATE TABLE SQLREP_x(a)", AUTH, "reserved for the server"),
    ];
    let mut bed = seeded();
    check(&mut bed, &cases);
    bed.finish();
    for (sql, code, words) in &cases[..12] {
        let error = bed.query_error(sql);
        assert!(
            error.message.contains(words) && error.code == *code,
            "{sql}: {error:?}"
        );
    }
}

/// Rules 35 and 40: pragmas by allow-list, and what differs between builds, wherever it hides.
#[test]
fn pragmas_and_version_functions_that_differ_between_nodes_are_refused() {
    const AUTH: i32 = ffi::SQLITE_AUTH;
    let mut bed = seeded();
    bed.run("CREATE TABLE c(a CHECK (a != 3))");
    check(
        &mut bed,
        &[
            (
                "PRAGMA journal_mode=WAL",
                AUTH,
                "takes the place of a journal",
            ),
            ("PRAGMA journal_mode", AUTH, "takes the place of a journal"),
            (
                "SELECT * FROM pragma_journal_mode",
                AUTH,
                "takes the place of a journal",
            ),
            (
                "PRAGMA locking_mode=EXCLUSIVE",
                AUTH,
                "never lock each other",
            ),
            (
                "PRAGMA page_size=8192",
                AUTH,
                "fixed when the database is made",
            ),
            (
                "PRAGMA auto_vacuum=1",
                AUTH,
                "PRAGMA auto_vacuum isn't allowed",
            ),
            (
                "PRAGMA encoding='UTF-16'",
                AUTH,
                "PRAGMA encoding isn't allowed",
            ),
            (
                "PRAGMA analysis_limit=7",
                AUTH,
                "PRAGMA analysis_limit isn't allowed",
            ),
            ("PRAGMA optimize", AUTH, "run ANALYZE instead"),
            ("PRAGMA synchronous=FULL", AUTH, "makes commits durable"),
            (
                "PRAGMA wal_checkpoint",
                AUTH,
                "takes the place of a journal",
            ),
            ("PRAGMA mmap_size=1", AUTH, "the server's business"),
            ("PRAGMA cache_spill=0", AUTH, "the server's business"),
            ("PRAGMA writable_schema=1", AUTH, "break what protects"),
            (
                "PRAGMA foreign_keys=ON",
                AUTH,
                "setting of the whole cluster and is OFF",
            ),
            (
                "PRAGMA recursive_triggers=1",
                AUTH,
                "setting of the whole cluster and is OFF",
            ),
            ("PRAGMA case_sensitive_like=1", AUTH, "use GLOB"),
            (
                "PRAGMA defer_foreign_keys=1",
                AUTH,
                "DEFERRABLE INITIALLY DEFERRED",
            ),
            ("PRAGMA data_version", AUTH, "isn't allowed"),
            ("PRAGMA no_such_pragma", AUTH, "isn't allowed"),
            (
                "INSERT INTO t(b) SELECT data_version FROM pragma_data_version",
                AUTH,
                "isn't allowed",
            ),
            (
                "INSERT INTO t(b) SELECT file FROM pragma_database_list",
                AUTH,
                "send it as a query",
            ),
            (
                "INSERT INTO t(b) SELECT count(*) FROM pragma_compile_options",
                AUTH,
                "send it as a query",
            ),
            ("PRAGMA integrity_check", AUTH, "send it as a query"),
            (
                "INSERT INTO t(b) VALUES (sqlite_version())",
                AUTH,
                "differs between nodes",
            ),
            (
                "INSERT INTO t(b) SELECT version FROM v",
                AUTH,
                "differs between nodes",
            ),
            (
                "INSERT INTO t(b) VALUES (sqlite_source_id())",
                AUTH,
                "differs between nodes",
            ),
            (
                "INSERT INTO t(b) VALUES (sqlite_compileoption_get(1))",
                AUTH,
                "differs between nodes",
            ),
            (
                "INSERT INTO t(b) VALUES (sqlite_compileoption_used('X'))",
                AUTH,
                "differs between nodes",
            ),
            (
                "INSERT INTO t(b) SELECT data FROM sqlite_dbpage",
                AUTH,
                "send it as a query",
            ),
            (
                "CREATE TABLE d(a, b DEFAULT (sqlite_version()))",
                AUTH,
                "differs between nodes",
            ),
        ],
    );
    for sql in [
        "PRAGMA foreign_keys",
        "PRAGMA foreign_keys=OFF",
        "PRAGMA table_info(t)",
        "PRAGMA index_list(t)",
        "PRAGMA foreign_key_list(t)",
        "PRAGMA user_version",
        "PRAGMA foreign_key_check",
        "PRAGMA schema_version",
        "INSERT INTO t(b) SELECT name FROM pragma_table_info('t')",
    ] {
        bed.run(sql);
    }
    bed.run("PRAGMA user_version=7");
    bed.run("PRAGMA application_id=9");
    for (sql, text) in [
        ("PRAGMA user_version", "7"),
        ("PRAGMA application_id", "9"),
        ("PRAGMA integrity_check", "ok"),
        ("PRAGMA quick_check", "ok"),
        ("SELECT user_version FROM pragma_user_version", "7"),
        ("SELECT count(*) > 0 FROM pragma_function_list", "1"),
        ("SELECT sqlite_version() = version FROM v", "1"),
        ("SELECT count(*) > 0 FROM pragma_table_list", "1"),
    ] {
        assert_eq!(bed.text(sql), text, "{sql}");
    }
    let error = bed.query_error("PRAGMA user_version=8");
    assert_eq!(
        error.message,
        "attempt to change database via query operation"
    );
}

/// Rule 40: savepoints within a transaction only, and balanced.
#[test]
fn savepoints_are_balanced_within_a_transaction() {
    let mut bed = seeded();
    let good = transaction(&[
        "SAVEPOINT a",
        "INSERT INTO t VALUES (2, 2)",
        "SAVEPOINT b",
        "INSERT INTO t VALUES (3, 3)",
        "ROLLBACK TO B",
        "RELEASE A",
        "SAVEPOINT c; RELEASE c",
    ]);
    let reply = bed.write(&good);
    assert!(
        !reply
            .outcomes
            .iter()
            .any(|one| matches!(one, Outcome::Failed(_))),
        "{reply:?}"
    );
    assert_eq!(bed.text("SELECT count(*) FROM t"), "2");
    for (statements, words) in [
        (
            &["SAVEPOINT a", "INSERT INTO t VALUES (4, 4)"][..],
            "savepoint a is still open",
        ),
        (
            &["SAVEPOINT a", "SAVEPOINT b", "RELEASE b"][..],
            "savepoint a is still open",
        ),
        (
            &["SAVEPOINT a", "ROLLBACK TO a"][..],
            "savepoint a is still open",
        ),
        (
            &["INSERT INTO t VALUES (4, 4)", "RELEASE a"][..],
            "no such savepoint: a",
        ),
        (
            &["INSERT INTO t VALUES (4, 4)", "COMMIT"][..],
            "transaction=true",
        ),
        (
            &["INSERT INTO t VALUES (4, 4)", "VACUUM"][..],
            "VACUUM has to be a request of its own",
        ),
    ] {
        let before = bed.store.newest();
        let reply = bed.write(&transaction(statements));
        assert_eq!(reply.outcomes.len(), statements.len());
        let Some(Outcome::Failed(error)) = reply.outcomes.last() else {
            panic!("{statements:?}: {reply:?}")
        };
        assert!(error.message.contains(words), "{error:?}");
        assert_eq!(bed.store.newest(), before);
    }
    assert_eq!(bed.text("SELECT count(*) FROM t"), "2");
}

/// Rule 40: VACUUM is a request of its own, and writes no file.
#[test]
fn vacuum_runs_alone_and_into_no_file() {
    let mut bed = seeded();
    bed.run("INSERT INTO t(b) SELECT randomblob(2000) FROM pragma_table_info('t')");
    bed.run("DELETE FROM t WHERE a > 1");
    check(
        &mut bed,
        &[
            (
                "VACUUM INTO 'x.db'",
                ffi::SQLITE_AUTH,
                "ask the server for a backup",
            ),
            ("VACUUM; SELECT 1", ffi::SQLITE_AUTH, "a request of its own"),
            ("SELECT 1; VACUUM", ffi::SQLITE_AUTH, "a request of its own"),
            ("vacuum; ; selec", ffi::SQLITE_AUTH, "a request of its own"),
        ],
    );
    let mut two = Request::execute("VACUUM");
    two.statements = vec![two.statements[0].clone(); 2];
    for outcome in bed.write(&two).outcomes {
        assert!(
            matches!(outcome, Outcome::Failed(error) if error.message.contains("a request of its own"))
        );
    }
    for sql in [
        "VACUUM",
        " /* all */ vacuum main ; -- done",
        "EXPLAIN VACUUM",
    ] {
        let before = bed.store.newest();
        bed.execute(sql);
        assert_eq!(
            bed.store.newest() > before,
            !sql.starts_with("EXPLAIN"),
            "{sql}"
        );
    }
    assert_eq!(bed.text("PRAGMA integrity_check"), "ok");
    assert_eq!(
        bed.query_error("VACUUM").message,
        "attempt to change database via query operation"
    );
}

/// Rule 34: what SQLite would draw from random numbers of its own.
#[test]
fn the_largest_rowid_and_columns_numbered_at_random_are_refused() {
    let mut bed = seeded();
    bed.run("CREATE TABLE auto(a INTEGER PRIMARY KEY AUTOINCREMENT, b)");
    bed.run("CREATE VIRTUAL TABLE words USING fts5(w)");
    bed.run("CREATE TRIGGER tr AFTER INSERT ON auto WHEN new.b = 7 BEGIN INSERT INTO t VALUES (9223372036854775807, 7); END");
    let rowid = "rowid 9223372036854775807 isn't allowed";
    let code = ffi::SQLITE_CONSTRAINT_ROWID;
    check(
        &mut bed,
        &[
            ("INSERT INTO t VALUES (9223372036854775807, 2)", code, rowid),
            ("UPDATE t SET a = 9223372036854775807", code, rowid),
            (
                "INSERT OR REPLACE INTO auto VALUES (9223372036854775807, 2)",
                code,
                rowid,
            ),
            ("INSERT INTO auto(b) VALUES (7)", code, rowid),
            (
                "INSERT INTO words(rowid, w) VALUES (9223372036854775807, 'x')",
                code,
                rowid,
            ),
            (
                "INSERT INTO t VALUES (5, 5), (9223372036854775807, 6) RETURNING a",
                code,
                rowid,
            ),
            (
                "CREATE TABLE n AS SELECT 1 AS a, 2 AS a, 3 AS a, 4 AS a, 5 AS a, 6 AS a",
                1,
                "name them with AS",
            ),
            (
                "CREATE TABLE n AS SELECT 1 AS \"x:17\"",
                1,
                "name them with AS",
            ),
        ],
    );
    let reply = bed.write(&transaction(&[
        "INSERT INTO t VALUES (9223372036854775807, 2)",
        "DELETE FROM t",
    ]));
    assert_eq!(reply.outcomes.len(), 1);
    bed.run("CREATE TABLE n AS SELECT 1 AS a, 2 AS a, 3 AS a");
    bed.run("CREATE TABLE o(\"x:17\")");
    bed.run("INSERT INTO t VALUES (9223372036854775806, 2)");
    // Rowids are used up: SQLite's own FULL is an answer (rule 36).
    bed.run("UPDATE sqlite_sequence SET seq = 1");
    bed.run("INSERT INTO auto(b) VALUES (1)");
    bed.run("UPDATE sqlite_sequence SET seq = 9223372036854775807");
    let error = bed.error("INSERT INTO auto(b) VALUES (2)");
    assert_eq!(error.code, ffi::SQLITE_FULL);
}

/// Rule 36: the size of a transaction is an answer that names the limit.
#[test]
fn a_transaction_over_the_limit_is_refused() {
    let mut bed = Bed::with(SqlSettings {
        transaction_pages_max: 16,
        ..SqlSettings::default()
    });
    bed.run("CREATE TABLE t(a)");
    let words = "the transaction changes more than 16 pages (transaction_pages_max); split it into smaller ones";
    let fill = "INSERT INTO t SELECT zeroblob(100000)";
    check(&mut bed, &[(fill, ffi::SQLITE_FULL, words)]);
    let reply = bed.write(&transaction(&["INSERT INTO t VALUES (1)", fill]));
    assert_eq!(reply.outcomes.len(), 2);
    assert!(matches!(&reply.outcomes[1], Outcome::Failed(error) if error.message == words));
    bed.run("INSERT INTO t VALUES (1)");
    assert_eq!(bed.text("SELECT count(*) FROM t"), "1");
}

#[test]
fn a_deferred_constraint_fails_at_the_commit() {
    let mut bed = Bed::with(SqlSettings {
        foreign_keys: true,
        ..SqlSettings::default()
    });
    bed.run(
        "CREATE TABLE p(a INTEGER PRIMARY KEY); \
             CREATE TABLE c(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    );
    let code = ffi::SQLITE_CONSTRAINT_FOREIGNKEY;
    check(
        &mut bed,
        &[(
            "INSERT INTO c VALUES (1)",
            code,
            "FOREIGN KEY constraint failed",
        )],
    );
    let reply = bed.write(&transaction(&["INSERT INTO c VALUES (1)", "SELECT 1"]));
    let [Outcome::Written(_), Outcome::Failed(error)] = &reply.outcomes[..] else {
        panic!("{reply:?}")
    };
    assert_eq!(error.message, "FOREIGN KEY constraint failed");
    bed.write(&transaction(&[
        "INSERT INTO c VALUES (1)",
        "INSERT INTO p VALUES (1)",
    ]));
    assert_eq!(bed.text("SELECT count(*) FROM c"), "1");
}

#[test]
fn a_query_never_writes() {
    let mut bed = seeded();
    let mut query = Request::query("INSERT INTO t VALUES (2, 2) RETURNING a");
    for sql in [
        "DELETE FROM t",
        "CREATE TABLE x(a)",
        "INSERT INTO t VALUES (2, 2) RETURNING a",
        "REINDEX",
        "ANALYZE",
    ] {
        query.statements[0].sql = sql.to_owned();
        for reply in [bed.read(&query), bed.write(&query)] {
            let Outcome::Failed(error) = only(reply) else {
                panic!("{sql}")
            };
            assert_eq!(
                error.message,
                "attempt to change database via query operation"
            );
            assert_eq!(error.code, ffi::SQLITE_READONLY);
        }
        query.shape = Shape::Request;
        assert!(matches!(only(bed.read(&query)), Outcome::Failed(_)));
        query.shape = Shape::Query;
    }
    assert_eq!(bed.text("SELECT count(*) FROM t"), "1");
}
