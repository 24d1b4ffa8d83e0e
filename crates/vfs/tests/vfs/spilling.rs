//! Transactions without memory: the same bytes, the same answers, and a failing scratch file is no answer.

use crate::bed::{Bed, Limits, one, run, sound};
use crate::script::Script;
use proptest::prelude::*;
use sqlrep_disk::{Fault, Operation};
use sqlrep_store::StoreError;
use sqlrep_vfs::{Connection, Kind};

/// What every large thing does at least once: inserts, updates with and without a way back, sorts, an index, a cut.
const STORY: [&str; 9] = [
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT UNIQUE, n INT)",
    "INSERT INTO t WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 2000) \
     SELECT i, printf('%0200d', i * 7919 % 2003), i FROM i",
    "SAVEPOINT s; UPDATE t SET v = v || 'x'; ROLLBACK TO s; DELETE FROM t WHERE id % 3 = 0; RELEASE s",
    "BEGIN; UPDATE t SET n = n + 1; DELETE FROM t; ROLLBACK",
    "CREATE TABLE sorted AS SELECT v, sum(n) OVER (ORDER BY v DESC) AS total FROM t ORDER BY v",
    "CREATE INDEX by_n ON t(n, v)",
    "UPDATE OR IGNORE t SET v = (SELECT max(v) FROM t) WHERE id % 2",
    "BEGIN; DELETE FROM sorted WHERE rowid % 2; DROP INDEX by_n; COMMIT",
    "VACUUM",
];

fn bed(bytes_max: u64, page_bytes: u32) -> (Bed, Connection) {
    let bed = Bed::with(page_bytes, Limits::Transaction(bytes_max));
    let writer = bed.writer();
    run(&writer, "PRAGMA cache_size=10");
    (bed, writer)
}

/// Rule 33: how much memory there is for a transaction, and so what is spilled when, has no say in a byte of the database.
#[test]
fn databases_are_equal_whatever_was_spilled() {
    for page_bytes in [1024, 16384] {
        let (mut files, mut spilled) = (Vec::new(), Vec::new());
        for (bytes_max, journal) in [
            (0, "delete"),
            (200_000, "delete"),
            (1 << 30, "delete"),
            // SQLite's own, in memory.
            (1 << 30, "memory"),
        ] {
            let (bed, writer) = bed(bytes_max, page_bytes);
            run(&writer, &format!("PRAGMA journal_mode={journal}"));
            STORY.iter().for_each(|sql| run(&writer, sql));
            assert!(sound(&writer));
            let bytes = writer.transaction_bytes();
            assert!(
                bytes.memory_most <= bytes_max && bytes.memory == 0,
                "{bytes:?}"
            );
            spilled.push(bytes.scratch_written);
            files.push(bed.file());
        }
        assert!(files.iter().all(|file| *file == files[0]));
        assert!(spilled[0] > 2_000_000 && spilled[1] > 0 && spilled[1] < spilled[0]);
        assert_eq!(spilled[2..], [0, 0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Rule 33: the same for random histories and any bound.
    #[test]
    fn random_databases_are_equal_whatever_was_spilled(seed: u64, bytes_max in 0..400_000_u64, cache in 1..40_u32) {
        let script = Script::draw(seed, 60);
        let files = [bytes_max, u64::MAX].map(|bytes_max| {
            let (bed, writer) = bed(bytes_max, 4096);
            run(&writer, &format!("PRAGMA cache_size={cache}"));
            for unit in script.entries.iter().flatten() {
                unit.run(writer.sqlite()).unwrap();
            }
            bed.file()
        });
        prop_assert!(files[0] == files[1]);
    }
}

/// Runs the story; a statement that fails for its scratch file is told so, leaves nothing, and is done again.
fn story_with(bed: &Bed, writer: &Connection, fault: &Fault, struck: &mut u32) {
    for sql in STORY {
        let before = bed.store.newest();
        let injected = bed.disk.injected();
        bed.disk.inject(fault.clone());
        let done = writer.sqlite().execute_batch(sql);
        let noted = writer.take_store_error();
        bed.disk.heal();
        if done.is_ok() {
            continue;
        }
        assert!(bed.disk.injected() > injected, "{sql}: {done:?}");
        assert!(
            matches!(noted, Some(StoreError::Disk(_))),
            "{sql}: {done:?}, {noted:?}"
        );
        *struck += 1;
        if !writer.sqlite().is_autocommit() {
            run(writer, "ROLLBACK");
        }
        assert_eq!(bed.store.newest(), before);
        run(writer, sql);
    }
}

/// Rule 36: a scratch file that can't be written or read is a failure of this node, at whichever call it happens; what was answered is
/// the same as ever, and the connection goes on.
#[test]
fn a_scratch_file_that_fails_is_never_an_answer() {
    let (plain, writer) = bed(1 << 30, 1024);
    STORY.iter().for_each(|sql| run(&writer, sql));
    let expected = (digest_of(&writer), plain.file().len());
    let mut struck = 0;
    for nth in [1, 2, 3, 10, 100, 500, 1000, 2000] {
        let faults = [
            Fault::full(nth).only(Operation::Write),
            Fault::io(nth).only(Operation::Write),
            Fault::io(nth).only(Operation::Read),
            Fault::full(nth).only(Operation::Open),
        ];
        for fault in faults {
            let (bed, writer) = bed(0, 1024);
            story_with(&bed, &writer, &fault.under("tmp/scratch"), &mut struck);
            assert!(sound(&writer));
            assert_eq!((digest_of(&writer), bed.file().len()), expected, "{nth}");
            assert_eq!(writer.transaction_bytes().memory, 0);
        }
    }
    assert!(struck > 50, "{struck}");
}

fn digest_of(writer: &Connection) -> String {
    let sql = "SELECT (SELECT group_concat(v || n) FROM t) || (SELECT group_concat(v || total) FROM sorted)";
    one(writer, sql)
}

/// A private writer's commits stay where they were put, and its later ones find them there.
#[test]
fn a_private_writer_spills_too() {
    let digests = [0, 100_000, 1 << 30].map(|bytes_max| {
        let (bed, writer) = bed(bytes_max, 1024);
        STORY[..2].iter().for_each(|sql| run(&writer, sql));
        bed.commit();
        let private = bed.open(Kind::Private(bed.pin()));
        run(&private, "PRAGMA cache_size=10");
        STORY[2..].iter().for_each(|sql| run(&private, sql));
        STORY[2..].iter().for_each(|sql| run(&writer, sql));
        assert!(sound(&private));
        assert_eq!(digest_of(&private), digest_of(&writer));
        digest_of(&private)
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}
