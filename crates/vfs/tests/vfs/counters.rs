//! Rule 38: counting from zero, compared with a connection that was just opened.

use crate::bed::{Bed, one, run};
use proptest::prelude::*;

const SCHEMA: &str = "
    CREATE TABLE t(a INTEGER PRIMARY KEY, b);
    CREATE TABLE log(c, total, id);
    CREATE TABLE u(x);
    CREATE TRIGGER before_t BEFORE INSERT ON t BEGIN
        INSERT INTO log VALUES (changes(), total_changes(), last_insert_rowid());
    END;
    CREATE TRIGGER after_t AFTER INSERT ON t BEGIN
        INSERT INTO log VALUES (changes(), total_changes(), last_insert_rowid());
        UPDATE u SET x = x + 1 WHERE x % 2;
        INSERT INTO log VALUES (changes(), total_changes(), last_insert_rowid());
    END;
    CREATE TRIGGER after_u AFTER UPDATE ON u BEGIN
        INSERT INTO log VALUES (changes(), total_changes(), last_insert_rowid());
    END;
    CREATE VIEW counts AS SELECT changes() AS c, total_changes() AS total, last_insert_rowid() AS id;
";

const STATEMENTS: [&str; 12] = [
    "INSERT INTO t(b) VALUES (1)",
    "INSERT INTO t(b) SELECT x FROM u LIMIT 3",
    "INSERT OR IGNORE INTO t VALUES (1, 2)",
    "INSERT INTO u SELECT count(*) FROM t",
    "UPDATE u SET x = x + 1",
    "UPDATE u SET x = 5 WHERE 0",
    "DELETE FROM u WHERE x % 3 = 0",
    "DELETE FROM t",
    "INSERT INTO log SELECT * FROM counts",
    "INSERT INTO log SELECT changes(), total_changes(), last_insert_rowid()",
    "REPLACE INTO t VALUES (2, 3), (4, 5)",
    // Fails in its second row.
    "INSERT INTO t VALUES (1000, 1), (1000, 2)",
];

/// Runs a request and gives all that it could see of the counters.
fn request(sqlite: &rusqlite::Connection, statements: &[usize]) -> Vec<String> {
    let mut seen = Vec::new();
    let mut look = |sqlite: &rusqlite::Connection| {
        let sql = "SELECT changes() || '/' || total_changes() || '/' || last_insert_rowid() || '/' || \
                   (SELECT c || '/' || total || '/' || id FROM counts)";
        seen.push(
            sqlite
                .query_row(sql, [], |row| row.get::<_, String>(0))
                .unwrap(),
        );
    };
    look(sqlite);
    for statement in statements {
        let failed = sqlite.execute_batch(STATEMENTS[*statement]).is_err();
        assert_eq!(failed, *statement == 11);
        look(sqlite);
    }
    let sql = "SELECT group_concat(c || '/' || total || '/' || id) FROM log";
    seen.push(
        sqlite
            .query_row(sql, [], |row| row.get::<_, Option<String>>(0))
            .unwrap()
            .unwrap_or_default(),
    );
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A used connection whose counters were reset answers as a fresh one, in triggers and views, too.
    #[test]
    fn a_reset_connection_counts_as_a_fresh_one(
        requests in proptest::collection::vec(proptest::collection::vec(0..STATEMENTS.len(), 0..6), 1..6),
    ) {
        let bed = Bed::new(1024);
        let used = bed.writer();
        run(&used, SCHEMA);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain.db");
        let plain = || {
            let plain = rusqlite::Connection::open(&path).unwrap();
            plain.execute_batch("PRAGMA synchronous=OFF").unwrap();
            plain
        };
        plain().execute_batch(SCHEMA).unwrap();
        for statements in &requests {
            used.reset_counters().unwrap();
            prop_assert_eq!((used.changes(), used.total_changes(), used.last_insert_rowid()), (0, 0, 0));
            let fresh = plain();
            prop_assert_eq!(request(used.sqlite(), statements), request(&fresh, statements));
            prop_assert_eq!(used.changes(), fresh.changes());
            prop_assert_eq!(used.total_changes(), fresh.total_changes());
            prop_assert_eq!(used.last_insert_rowid(), fresh.last_insert_rowid());
        }
    }
}

/// At the end of a trigger SQLite puts `changes()` back to what it was before the statement. Hidden behind a
/// comparison of totals, the value from before the reset would come back there.
#[test]
fn nothing_from_before_the_reset_comes_back_behind_a_trigger() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(&writer, SCHEMA);
    run(&writer, "INSERT INTO u VALUES (1), (2), (3), (4), (5)");
    assert_eq!(writer.changes(), 5);
    writer.reset_counters().unwrap();
    run(&writer, "INSERT INTO t(b) VALUES (1)");
    let seen: i64 = one(&writer, "SELECT max(c) FROM log WHERE total < 5");
    assert!(seen < 4, "{seen}");
    assert_eq!(one::<i64>(&writer, "SELECT c FROM log LIMIT 1"), 0);
}

#[test]
fn a_reset_makes_no_version_and_works_on_readers_and_in_transactions() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)");
    bed.commit();
    let newest = bed.store.newest();
    writer.reset_counters().unwrap();
    bed.reader().reset_counters().unwrap();
    assert_eq!(bed.store.newest(), newest);
    run(&writer, "BEGIN; INSERT INTO t VALUES (3)");
    writer.reset_counters().unwrap();
    assert_eq!(
        one::<i64>(
            &writer,
            "SELECT changes() + total_changes() + last_insert_rowid()"
        ),
        0
    );
    run(&writer, "COMMIT");
    assert_eq!(one::<i64>(&writer, "SELECT count(*) FROM t"), 3);
}

#[test]
fn the_table_behind_it_is_empty_and_stays_so() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    let rows: i64 = one(&writer, "SELECT count(*) FROM sqlrep_counters");
    assert_eq!(rows, 0);
    let error = writer
        .sqlite()
        .execute("INSERT INTO sqlrep_counters VALUES (1)", [])
        .unwrap_err();
    assert!(error.to_string().contains("always empty"), "{error}");
    let error = writer
        .sqlite()
        .execute_batch("CREATE VIEW v AS SELECT * FROM sqlrep_counters; SELECT * FROM v");
    assert!(error.unwrap_err().to_string().contains("unsafe use"));
}
