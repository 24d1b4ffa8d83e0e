//! What becomes a version: whole pages, all of them, and the size.

use crate::bed::{Bed, error_of, one, run, sound};
use sqlrep_disk::{RealDisk, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_store::{Change, Image, Options, PageCount, PageNumber, PageSize, Progress, Store};
use sqlrep_vfs::{Connection, Kind, PAGE_ONE_VERSION};
use std::sync::Arc;

fn rows(connection: &Connection) -> (i64, i64) {
    let sql = "SELECT count(*), coalesce(sum(length(a)), 0) FROM t";
    let answer = connection
        .sqlite()
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
    answer.unwrap()
}

fn page(bed: &Bed, number: u32) -> Vec<u8> {
    let mut image = vec![0; bed.store.page_size().bytes() as usize];
    let number = PageNumber::new(number).unwrap();
    bed.store.read_newest(number, 0, &mut image).unwrap();
    image
}

#[test]
fn rollbacks_savepoints_and_failed_statements_leave_nothing() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(
        &writer,
        "CREATE TABLE t(a TEXT UNIQUE); PRAGMA cache_size=10",
    );
    run(&writer, "INSERT INTO t VALUES ('kept')");
    let before = bed.store.newest();
    let many = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                SELECT printf('%0100d', i) FROM n";
    run(&writer, &format!("BEGIN; {many}; ROLLBACK"));
    let twice = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                 SELECT printf('%0100d', i) FROM n UNION ALL SELECT 'kept'";
    assert!(error_of(&writer, twice).contains("UNIQUE"));
    assert_eq!(bed.store.newest(), before);
    assert_eq!(writer.take_published(), Some(before.0));

    run(
        &writer,
        &format!("BEGIN; INSERT INTO t VALUES ('x'); SAVEPOINT s; {many}; ROLLBACK TO s"),
    );
    assert!(error_of(&writer, twice).contains("UNIQUE"));
    run(&writer, "INSERT INTO t VALUES ('y'); COMMIT");
    assert_eq!(rows(&writer), (3, 6));
    assert!(sound(&writer));
    bed.commit();
    assert_eq!(rows(&bed.reader()), (3, 6));
}

#[test]
fn a_transaction_without_changes_makes_no_version() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    let before = writer.take_published();
    assert_eq!(before, Some(bed.store.newest().0));
    run(
        &writer,
        "BEGIN IMMEDIATE; SELECT * FROM t; COMMIT; DELETE FROM t WHERE 0; BEGIN; COMMIT",
    );
    assert_eq!(writer.take_published(), None);
    assert_eq!(before, Some(bed.store.newest().0));
}

/// VACUUM cuts the file behind `FCNTL_SYNC`: what is captured there would be too long.
#[test]
fn vacuum_shrinks_the_version() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a)");
    for _ in 0..100 {
        run(&writer, "INSERT INTO t VALUES (hex(randomblob(300)))");
    }
    run(&writer, "DELETE FROM t WHERE rowid > 5");
    let large = bed.store.newest().1;
    run(&writer, "PRAGMA cache_size=10; VACUUM");
    let small = bed.store.newest().1;
    assert!(small.0 * 4 < large.0, "{large:?} to {small:?}");
    assert_eq!(rows(&writer), (5, 3000));
    bed.commit();
    let reader = bed.reader();
    assert_eq!(rows(&reader), (5, 3000));
    assert!(sound(&reader));
}

/// An incremental vacuum frees one page per step of the statement.
#[test]
fn incremental_vacuum_shrinks_step_by_step() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(&writer, "PRAGMA auto_vacuum=INCREMENTAL; CREATE TABLE t(a)");
    for _ in 0..50 {
        run(&writer, "INSERT INTO t VALUES (hex(randomblob(600)))");
    }
    run(&writer, "DELETE FROM t");
    let free: u32 = one(&writer, "PRAGMA freelist_count");
    assert!(free > 40);
    let large = bed.store.newest().1;
    let mut statement = writer
        .sqlite()
        .prepare("PRAGMA incremental_vacuum(10)")
        .unwrap();
    let mut steps = statement.query([]).unwrap();
    while steps.next().unwrap().is_some() {}
    drop(steps);
    drop(statement);
    assert_eq!(bed.store.newest().1, PageCount(large.0 - 10));
    run(&writer, "INSERT INTO t VALUES ('more')");
    assert!(sound(&writer));
}

/// Pages that go to the freelist in the transaction that added them are never written: captured they are zeros.
#[test]
fn growth_without_a_write_is_captured_as_zeros() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(&writer, "CREATE TABLE t(a); CREATE TABLE u(a)");
    let before = bed.store.newest().1;
    run(
        &writer,
        "BEGIN; INSERT INTO t VALUES (zeroblob(40000)); INSERT INTO u VALUES (zeroblob(3000)); DELETE FROM t; COMMIT",
    );
    let after = bed.store.newest().1;
    assert!(after.0 > before.0 + 30);
    let zeros = (before.0 + 1..=after.0).filter(|number| page(&bed, *number) == [0; 1024]);
    assert!(
        zeros.count() > 10,
        "no page grew unwritten: this test tests nothing"
    );
    assert!(sound(&writer));
    bed.commit();
    assert!(sound(&bed.reader()));
}

#[test]
fn a_table_dropped_and_made_again_reads_as_new() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(&writer, "PRAGMA auto_vacuum=FULL; CREATE TABLE t(a)");
    for round in 0..20 {
        run(
            &writer,
            &format!(
                "INSERT INTO t VALUES (printf('%0{}d', {round}))",
                100 + 400 * round
            ),
        );
        run(
            &writer,
            "BEGIN; CREATE TABLE u AS SELECT * FROM t; DROP TABLE t; CREATE TABLE t AS SELECT * FROM u; DROP TABLE u; COMMIT",
        );
        bed.commit();
    }
    assert_eq!(rows(&bed.reader()).0, 20);
    assert!(sound(&bed.reader()));
}

/// Rule 32: page 1 doesn't tell which SQLite wrote it.
#[test]
fn a_normalizing_writer_hides_sqlites_version() {
    for normalize_version in [true, false] {
        let bed = Bed::new(4096);
        let writer = bed.open(Kind::Writer { normalize_version });
        run(&writer, "CREATE TABLE t(a)");
        run(&writer, "PRAGMA cache_size=10; BEGIN; CREATE TABLE u(a)");
        run(
            &writer,
            "INSERT INTO t VALUES (zeroblob(200000)); COMMIT; VACUUM",
        );
        let version = u32::from_be_bytes(page(&bed, 1)[96..100].try_into().unwrap());
        let own = u32::try_from(rusqlite::version_number()).unwrap();
        let expected = if normalize_version {
            PAGE_ONE_VERSION
        } else {
            own
        };
        assert_eq!(version, expected);
        assert_ne!(
            PAGE_ONE_VERSION, own,
            "with this SQLite the test tests nothing"
        );
        assert!(sound(&writer));
    }
}

/// Readers and writers may be opened before there is a database.
#[test]
fn every_page_size_works_from_an_empty_database_on() {
    for page_bytes in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] {
        let bed = Bed::new(page_bytes);
        let (reader, writer) = (bed.reader(), bed.writer());
        assert_eq!(one::<i64>(&reader, "SELECT count(*) FROM sqlite_schema"), 0);
        run(
            &writer,
            "PRAGMA cache_size=10; CREATE TABLE t(a); CREATE INDEX i ON t(a)",
        );
        run(&writer, "BEGIN");
        for number in 0..60 {
            let bytes = (number * number * 31) % 9000;
            run(
                &writer,
                &format!("INSERT INTO t VALUES (zeroblob({bytes}) || hex(randomblob(20)))"),
            );
        }
        run(&writer, "COMMIT; DELETE FROM t WHERE rowid % 3 = 0");
        bed.commit();
        assert_eq!(rows(&reader), rows(&writer));
        assert_eq!(one::<u32>(&reader, "PRAGMA page_size"), page_bytes);
        assert_eq!(one::<u32>(&bed.reader(), "PRAGMA page_size"), page_bytes);
        run(&writer, "VACUUM");
        bed.commit();
        assert!(sound(&reader) && sound(&writer));
        assert_eq!(rows(&reader).0, 40);
        assert_eq!(
            one::<u32>(&reader, "PRAGMA page_count"),
            bed.store.newest().1.0
        );
    }
}

#[test]
fn sorts_and_temporary_tables_go_to_the_machines_own_files() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(
        &writer,
        "PRAGMA temp_store=FILE; PRAGMA cache_size=10; PRAGMA temp.cache_size=10; CREATE TABLE t(a)",
    );
    run(
        &writer,
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
         SELECT hex(randomblob(100)) FROM n",
    );
    let pages = bed.store.newest();
    run(
        &writer,
        "CREATE TEMP TABLE sorted AS SELECT a FROM t ORDER BY a",
    );
    let wrong =
        "SELECT count(*) FROM sorted x JOIN sorted y ON y.rowid = x.rowid + 1 WHERE x.a > y.a";
    assert_eq!(one::<i64>(&writer, wrong), 0);
    assert_eq!(one::<i64>(&writer, "SELECT count(*) FROM sorted"), 3000);
    assert_eq!(bed.store.newest(), pages);
}

/// SQLite leaves out the page with the lock byte, at 1 GiB, and so do we: in versions, sums and files.
#[test]
fn a_database_grows_over_the_lock_page() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        Store::open(Options {
            page_size: PageSize::new(65536),
            version_bytes_max: 4 << 30,
            ..Options::new(Arc::new(RealDisk::open(folder.path()).unwrap()))
        })
        .unwrap()
    };
    let bed = Bed {
        env: Env::inline(7),
        disk: SimulatedDisk::new(7),
        store: open(),
    };
    let lock_page = bed.store.page_size().lock_page();
    run(&bed.writer(), "CREATE TABLE t(a)");
    bed.commit();
    grow(&bed, lock_page.get() - 1);
    let writer = bed.writer();
    run(&writer, "BEGIN");
    for number in 0..5 {
        run(
            &writer,
            &format!("INSERT INTO t VALUES (zeroblob(60000) || 'row {number}')"),
        );
    }
    run(&writer, "COMMIT");
    let end = bed.commit();
    assert!(end.pages.0 > lock_page.get() + 2, "{:?}", end.pages);
    let rows_of = |reader: &Connection| rows(reader);
    let before = rows_of(&bed.reader());
    let mut checkpoint = bed.store.begin_checkpoint(None).unwrap();
    while !matches!(checkpoint.step().unwrap(), Progress::Done(_)) {}
    drop((checkpoint, writer));

    let again = Bed {
        env: Env::inline(8),
        disk: SimulatedDisk::new(8),
        store: open(),
    };
    assert_eq!(again.store.committed().position, end.position);
    assert_eq!(again.store.committed().checksum, end.checksum);
    assert_eq!(again.store.verify_pages().unwrap(), []);
    assert_eq!(rows_of(&again.reader()), before);
    assert_eq!(before.0, 5);
}

/// Makes the database `count` pages long with pages that belong to nothing, as a crash of SQLite itself may leave them.
fn grow(bed: &Bed, count: u32) {
    let one = PageNumber::new(1).unwrap();
    let mut header = page(bed, 1);
    header[28..32].copy_from_slice(&count.to_be_bytes());
    let change = Change {
        pages: [(one, Image::from(header))].into(),
        count: PageCount(count),
    };
    bed.store.publish(change).unwrap();
    bed.commit();
}
