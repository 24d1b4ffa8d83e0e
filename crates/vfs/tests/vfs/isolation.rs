//! Readers see entry ends, whole and unmoving.

use crate::bed::{Bed, error_of, one, run, sound};
use sqlrep_vfs::Kind;

#[test]
fn a_reader_sees_a_transaction_when_its_entry_ends() {
    let bed = Bed::new(4096);
    let (writer, reader) = (bed.writer(), bed.reader());
    run(&writer, "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    assert_eq!(error_of(&reader, "SELECT * FROM t"), "no such table: t");
    assert_eq!(one::<i64>(&writer, "SELECT count(*) FROM t"), 1);
    bed.commit();
    assert_eq!(one::<i64>(&reader, "SELECT count(*) FROM t"), 1);
    run(&writer, "INSERT INTO t VALUES (2)");
    assert_eq!(one::<i64>(&reader, "SELECT count(*) FROM t"), 1);
    bed.commit();
    assert_eq!(one::<i64>(&reader, "SELECT count(*) FROM t"), 2);
}

#[test]
fn a_readers_transaction_stays_on_its_version() {
    let bed = Bed::new(1024);
    let (writer, reader) = (bed.writer(), bed.reader());
    run(&writer, "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    bed.commit();
    run(&reader, "PRAGMA cache_size=1; BEGIN");
    assert_eq!(one::<i64>(&reader, "SELECT sum(a) FROM t"), 1);
    for number in 2..50 {
        run(&writer, &format!("INSERT INTO t VALUES ({number})"));
        bed.commit();
    }
    run(&writer, "DROP TABLE t; VACUUM");
    bed.commit();
    assert_eq!(one::<i64>(&reader, "SELECT sum(a) FROM t"), 1);
    assert!(sound(&reader));
    run(&reader, "COMMIT");
    let tables = one::<i64>(&reader, "SELECT count(*) FROM sqlite_schema");
    assert_eq!(tables, 0);
}

#[test]
fn a_reader_at_a_version_never_moves() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    bed.commit();
    let pin = bed.pin();
    run(&writer, "UPDATE t SET a = 2");
    bed.commit();
    let old = bed.open(Kind::ReaderAt(pin));
    assert_eq!(one::<i64>(&old, "SELECT a FROM t"), 1);
    assert_eq!(one::<i64>(&bed.reader(), "SELECT a FROM t"), 2);
    assert_eq!(one::<i64>(&old, "SELECT a FROM t"), 1);
}

#[test]
fn a_reader_cant_write() {
    let bed = Bed::new(4096);
    run(&bed.writer(), "CREATE TABLE t(a)");
    bed.commit();
    for reader in [bed.reader(), bed.open(Kind::ReaderAt(bed.pin()))] {
        // A client may unset query_only; it isn't what protects.
        run(&reader, "PRAGMA query_only=OFF");
        for sql in [
            "INSERT INTO t VALUES (1)",
            "CREATE TABLE u(a)",
            "PRAGMA user_version=3",
            "VACUUM",
        ] {
            let error = error_of(&reader, sql);
            assert!(
                error.contains("attempt to write a readonly database"),
                "{sql}: {error}"
            );
        }
        assert_eq!(one::<i64>(&reader, "SELECT count(*) FROM t"), 0);
    }
}

#[test]
fn readers_share_nothing_but_the_store() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    bed.commit();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let reader = bed.reader();
            scope.spawn(move || {
                let mut before = 0;
                while before < 200 {
                    let seen = one::<i64>(&reader, "SELECT count(*) FROM t");
                    assert!(seen >= before);
                    before = seen;
                }
            });
        }
        for _ in 0..200 {
            run(&writer, "INSERT INTO t VALUES (1)");
            bed.commit();
        }
    });
}

/// An abort takes versions away and the writer is opened anew: the change counter, the schema cookie and the size can be
/// equal in the aborted and the new history, so an old cache would pass SQLite's test.
#[test]
fn after_an_abort_a_new_writer_sees_nothing_of_it() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a); INSERT INTO t VALUES ('old')");
    let end = bed.commit();
    run(
        &writer,
        "CREATE TABLE lost(x); INSERT INTO lost VALUES ('lost')",
    );
    drop(writer);
    bed.store.abort();
    assert_eq!(bed.store.newest(), (end.version, end.pages));
    let writer = bed.writer();
    run(
        &writer,
        "CREATE TABLE kept(x); INSERT INTO kept VALUES ('kept')",
    );
    assert_eq!(one::<String>(&writer, "SELECT x FROM kept"), "kept");
    assert!(error_of(&writer, "SELECT * FROM lost").contains("no such table"));
    bed.commit();
    let reader = bed.reader();
    assert_eq!(one::<String>(&reader, "SELECT x FROM kept"), "kept");
    assert!(sound(&reader));
}
