//! Commits that this VFS refuses, at both points where it can, and pragmas.

use crate::bed::{Bed, error_of, one, run, sound};
use rusqlite::ErrorCode;
use sqlrep_store::{Change, PageCount};
use sqlrep_vfs::{Connection, PRAGMAS, Refusal};
use std::collections::BTreeMap;

/// A recursive insert of `rows` rows of about 500 bytes.
fn fill(rows: u32) -> String {
    format!(
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         SELECT hex(randomblob(250)) FROM n"
    )
}

fn code_of(connection: &Connection, sql: &str) -> ErrorCode {
    let error = connection.sqlite().execute_batch(sql).unwrap_err();
    error.sqlite_error_code().unwrap()
}

/// Rule 36: the size of a transaction is judged once, at its commit, by distinct pages.
#[test]
fn a_transaction_over_the_limit_is_refused_at_its_commit_and_harms_nothing() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a); INSERT INTO t VALUES ('first')");
    bed.commit();
    writer.set_transaction_pages_max(20);
    // A cache of ten pages spills, a large one doesn't: one verdict.
    for cache in [10, 2000] {
        run(&writer, &format!("PRAGMA cache_size={cache}; BEGIN"));
        run(&writer, &fill(400));
        assert_eq!(one::<i64>(&writer, "SELECT count(*) FROM t"), 401);
        let before = bed.store.newest();
        assert_eq!(code_of(&writer, "COMMIT"), ErrorCode::DiskFull);
        assert!(writer.sqlite().is_autocommit());
        assert_eq!(bed.store.newest(), before);
        let refusal = writer.take_refusal();
        let Some(Refusal::TooLarge {
            pages,
            pages_max: 20,
        }) = refusal
        else {
            panic!("{refusal:?}");
        };
        assert!((40..80).contains(&pages), "{pages}");
        assert_eq!(writer.take_refusal(), None);
        assert_eq!(one::<String>(&writer, "SELECT a FROM t"), "first");
        assert!(sound(&writer));
    }
    run(&writer, &fill(10));
    assert_eq!(writer.take_published(), Some(bed.store.newest().0));
    assert_eq!(one::<i64>(&writer, "SELECT count(*) FROM t"), 11);
}

#[test]
fn a_vacuum_over_the_limit_is_refused_and_harms_nothing() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    for _ in 0..40 {
        run(&writer, "INSERT INTO t VALUES (hex(randomblob(800)))");
    }
    run(&writer, "DELETE FROM t WHERE rowid % 2");
    let before = bed.store.newest();
    writer.set_transaction_pages_max(10);
    assert_eq!(code_of(&writer, "VACUUM"), ErrorCode::DiskFull);
    assert!(matches!(
        writer.take_refusal(),
        Some(Refusal::TooLarge { .. })
    ));
    assert_eq!(bed.store.newest(), before);
    assert_eq!(one::<i64>(&writer, "SELECT count(*) FROM t"), 20);
    assert!(sound(&writer));
    writer.set_transaction_pages_max(u32::MAX);
    run(&writer, "VACUUM");
    assert!(bed.store.newest().1 < before.1);
    assert!(sound(&writer));
}

/// The call by which a commit is refused is made by a rollback, too, with as many pages: it has put back those that were
/// changed and spilled.
#[test]
fn the_rollback_of_a_transaction_over_the_limit_is_no_refusal() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a); PRAGMA cache_size=10");
    run(&writer, &fill(400));
    let content = one::<String>(&writer, "SELECT group_concat(a) FROM t");
    writer.set_transaction_pages_max(5);
    for _ in 0..2 {
        run(&writer, "BEGIN; UPDATE t SET a = a || 'x'; ROLLBACK");
        assert_eq!(writer.take_refusal(), None);
        let after = one::<String>(&writer, "SELECT group_concat(a) FROM t");
        assert_eq!(content, after);
        run(&writer, "CREATE TABLE u(x); DROP TABLE u");
    }
    assert!(sound(&writer));
}

#[test]
fn sqlites_own_full_is_no_refusal() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(
        &writer,
        "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT)",
    );
    run(&writer, "INSERT INTO t VALUES (9223372036854775807)");
    let code = code_of(&writer, "INSERT INTO t DEFAULT VALUES");
    assert_eq!(code, ErrorCode::DiskFull);
    assert_eq!(writer.take_refusal(), None);
}

/// Refusing behind the cut of the file, too, leaves the connection good.
#[test]
fn a_transaction_that_another_writer_overtook_is_refused() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    run(&writer, "BEGIN; UPDATE t SET a = 2");
    let (began_on, count) = bed.store.newest();
    // Another writer's transaction, which changed no page.
    let change = Change {
        pages: BTreeMap::new(),
        count,
    };
    let newest = bed.store.publish(change).unwrap();
    let code = code_of(&writer, "COMMIT");
    assert_eq!(code, ErrorCode::SystemIoFailure);
    assert!(writer.sqlite().is_autocommit());
    let refusal = writer.take_refusal();
    assert_eq!(refusal, Some(Refusal::Overtaken { began_on, newest }));
    assert_eq!(one::<i64>(&writer, "SELECT a FROM t"), 1);
    run(&writer, "UPDATE t SET a = 3");
    assert_eq!(writer.take_refusal(), None);
    assert_eq!(one::<i64>(&writer, "SELECT a FROM t"), 3);
    assert!(sound(&writer));
    assert!(bed.store.newest().1 >= PageCount(2));
}

#[test]
fn pragmas_that_would_break_the_capture_are_refused_with_a_reason() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    bed.commit();
    for connection in [writer, bed.reader()] {
        for (sql, message) in [
            ("PRAGMA journal_mode=WAL", "PRAGMA journal_mode is refused"),
            (
                "PRAGMA main.journal_mode=OFF",
                "captured from the page cache",
            ),
            ("PRAGMA locking_mode=EXCLUSIVE", "never lock each other"),
            ("PRAGMA page_size=8192; VACUUM", "when the database is made"),
            ("PRAGMA synchronous=FULL", "makes commits durable"),
            ("PRAGMA wal_checkpoint", "has no WAL"),
            ("PRAGMA wal_checkpoint(TRUNCATE)", "has no WAL"),
            ("PRAGMA mmap_size=1000000", "no file to map"),
            ("PRAGMA cache_spill=OFF", "hang on the cache"),
            ("PRAGMA writable_schema=ON", "by SQL only"),
            ("PRAGMA soft_heap_limit=1", "whole process"),
            ("/* */ pragma synchronous(full)", "makes commits durable"),
            ("ATTACH 'other.db' AS other", "unable to open database"),
            ("ATTACH 'main' AS other", "unable to open database"),
        ] {
            let error = error_of(&connection, sql);
            assert!(error.contains(message), "{sql}: {error}");
        }
        let page_size: i64 = one(&connection, "PRAGMA page_size");
        assert_eq!(page_size, 4096);
    }
    let writer = bed.writer();
    assert_eq!(one::<String>(&writer, "PRAGMA journal_mode"), "delete");
    assert_eq!(one::<String>(&writer, "PRAGMA locking_mode"), "normal");
    assert_eq!(one::<i64>(&writer, "PRAGMA synchronous"), 0);
    assert_eq!(one::<i64>(&writer, "PRAGMA trusted_schema"), 0);
    assert_eq!(one::<i64>(&writer, "PRAGMA cell_size_check"), 1);
}

#[test]
fn extensions_and_raw_pages_are_refused() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    assert!(error_of(&writer, "SELECT load_extension('x')").contains("not authorized"));
    let raw = "UPDATE sqlite_dbpage SET data = zeroblob(4096) WHERE pgno = 2";
    assert!(error_of(&writer, raw).contains("read-only"));
    let schema = "UPDATE sqlite_schema SET sql = '' WHERE name = 't'";
    assert!(error_of(&writer, schema).contains("may not be modified"));
    let handle = writer.sqlite();
    // SAFETY: nothing can be loaded, which is what is tested.
    let _guard = unsafe { rusqlite::LoadExtensionGuard::new(handle) }.unwrap();
    // SAFETY: as above.
    let loaded = unsafe { handle.load_extension("no-such-extension", None::<&str>) };
    let error = loaded.unwrap_err().to_string();
    assert!(error.contains("can't be loaded"), "{error}");
}

/// What `/status` tells of connections is what they answer.
#[test]
fn pragmas_are_what_connections_answer() {
    let bed = Bed::new(4096);
    let (reader, writer) = (bed.reader(), bed.writer());
    let answer = |connection: &Connection, name: &str| {
        let sql = format!("PRAGMA {name}");
        let row = connection
            .sqlite()
            .query_row(&sql, [], |row| row.get::<_, rusqlite::types::Value>(0));
        match row.unwrap() {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{name}: {other:?}"),
        }
    };
    for (name, reading, writing) in PRAGMAS {
        let answers = (answer(&reader, name), answer(&writer, name));
        assert_eq!(answers, (reading.to_owned(), writing.to_owned()), "{name}");
    }
}
