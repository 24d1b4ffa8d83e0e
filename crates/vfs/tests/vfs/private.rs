//! A private writer: SQL runs for real, nobody sees it.

use crate::bed::{Bed, one, run, sound};
use sqlrep_vfs::{Kind, Refusal};

#[test]
fn a_private_writer_works_over_its_version_and_publishes_nothing() {
    let bed = Bed::new(1024);
    let writer = bed.writer();
    run(
        &writer,
        "CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(20000)), (1)",
    );
    bed.commit();
    let private = bed.open(Kind::Private(bed.pin()));
    run(&writer, "UPDATE t SET a = 2 WHERE a = 1");
    bed.commit();
    let before = bed.store.newest();

    run(
        &private,
        "PRAGMA cache_size=10; BEGIN; INSERT INTO t VALUES (3); CREATE TABLE own(b)",
    );
    run(&private, "INSERT INTO own VALUES (zeroblob(30000)); COMMIT");
    run(&private, "BEGIN; DELETE FROM t; ROLLBACK");
    assert_eq!(
        one::<i64>(&private, "SELECT sum(a) FROM t WHERE typeof(a) = 'integer'"),
        4
    );
    // Shrinks and grows again over pages of the pinned version.
    run(
        &private,
        "DELETE FROM t WHERE typeof(a) = 'blob'; DROP TABLE own; VACUUM",
    );
    run(&private, "INSERT INTO t VALUES (zeroblob(50000))");
    assert!(sound(&private));
    assert_eq!(one::<i64>(&private, "SELECT sum(length(a)) FROM t"), 50_002);

    assert_eq!(bed.store.newest(), before);
    assert_eq!(private.take_published(), None);
    assert_eq!(
        one::<i64>(&writer, "SELECT sum(a) FROM t WHERE typeof(a) = 'integer'"),
        2
    );
    let again = bed.open(Kind::Private(bed.pin()));
    assert_eq!(one::<i64>(&again, "SELECT count(*) FROM t"), 2);
}

#[test]
fn its_limit_counts_all_it_changed() {
    let bed = Bed::new(1024);
    run(&bed.writer(), "CREATE TABLE t(a)");
    bed.commit();
    let private = bed.open(Kind::Private(bed.pin()));
    private.set_transaction_pages_max(40);
    run(&private, "INSERT INTO t VALUES (zeroblob(20000))");
    let error = private
        .sqlite()
        .execute("INSERT INTO t VALUES (zeroblob(30000))", []);
    assert!(error.is_err());
    let refusal = private.take_refusal();
    assert!(
        matches!(refusal, Some(Refusal::TooLarge { .. })),
        "{refusal:?}"
    );
    assert_eq!(one::<i64>(&private, "SELECT count(*) FROM t"), 1);
}
