//! Random histories against a plain SQLite, with readers on other threads and checkpoints in between.

use crate::bed::{Bed, Limits, one, run, sound};
use crate::runner::{Counts, Runner};
use crate::script::{MONEY, Script, digest};
use sqlrep_store::StoreError;
use sqlrep_vfs::Connection;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What readers on other threads did.
#[derive(Default)]
struct Readers {
    stop: AtomicBool,
    reads: AtomicU32,
    /// Reads that the store ended to make room.
    ended: AtomicU32,
}

impl Readers {
    /// One transaction: money adds up, and nothing moves while it lasts.
    fn read(&self, reader: &Connection, number: u32) -> rusqlite::Result<()> {
        let sqlite = reader.sqlite();
        sqlite.execute_batch("BEGIN")?;
        let money: Option<i64> =
            sqlite.query_row("SELECT sum(money) FROM account", [], |row| row.get(0))?;
        assert_eq!(money, Some(MONEY));
        let length = "SELECT count(*) || '/' || total(length(v)) || '/' || total(id) FROM t";
        let before: String = sqlite.query_row(length, [], |row| row.get(0))?;
        if number.is_multiple_of(20) {
            // FTS5 checks what it remembers of the index, unless a query made it look again; a plain SQLite does so too.
            let words = "SELECT count(*) FROM words WHERE words MATCH 'all'";
            sqlite.query_row(words, [], |row| row.get::<_, i64>(0))?;
            let sound: String = sqlite.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            if sound != "ok" {
                // An ended read is told in the answer, too.
                return Err(rusqlite::Error::UserFunctionError(sound.into()));
            }
        }
        std::thread::yield_now();
        let after: String = sqlite.query_row(length, [], |row| row.get(0))?;
        assert_eq!(before, after, "the snapshot moved");
        sqlite.execute_batch("COMMIT")
    }

    fn run(&self, reader: &Connection) {
        run(reader, "PRAGMA cache_size=20");
        let mut number = 0;
        // A few in any case: on a busy machine the history may be over before a reader has begun.
        while number < 6 || !self.stop.load(Ordering::Acquire) {
            number += 1;
            if let Err(error) = self.read(reader, number) {
                let reason = reader.take_store_error();
                assert!(
                    matches!(reason, Some(StoreError::PinEnded)),
                    "{error}: {reason:?}"
                );
                self.ended.fetch_add(1, Ordering::Relaxed);
                if !reader.sqlite().is_autocommit() {
                    run(reader, "ROLLBACK");
                }
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Stops the readers also when a check fails.
struct StopAtEnd<'a>(&'a Readers);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
    }
}

fn fuzz(seed: u64, page_bytes: u32, limits: Limits) -> (Counts, u32) {
    let script = Script::draw(seed, 250);
    let bed = Bed::with(page_bytes, limits);
    let readers = Readers::default();
    let mut runner = Runner::start(&bed).unwrap();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&readers);
        for _ in 0..2 {
            let reader = bed.reader();
            scope.spawn(|| {
                let reader = reader;
                readers.run(&reader);
            });
        }
        let fresh = bed.reader();
        let check = |index: u64| {
            let expected = script.digests[usize::try_from(index).unwrap()];
            assert_eq!(
                digest(fresh.sqlite()),
                expected,
                "entry {index} of seed {seed}"
            );
        };
        runner.run(&script, check).unwrap();
    });
    let counts = runner.counts;
    drop(runner);
    bed.store.abort();
    let writer = bed.writer();
    assert_eq!(Some(&digest(writer.sqlite())), script.digests.last());
    assert!(sound(&writer));
    assert_eq!(one::<i64>(&writer, "SELECT sum(money) FROM account"), MONEY);
    bed.check_copy(*script.digests.last().unwrap());
    assert!(readers.reads.load(Ordering::Relaxed) > 10);
    (counts, readers.ended.load(Ordering::Relaxed))
}

#[test]
fn random_histories_equal_those_of_a_plain_sqlite() {
    let mut total = Counts::default();
    for (seed, page_bytes) in [
        (1, 4096),
        (2, 512),
        (3, 1024),
        (4, 4096),
        (5, 16384),
        (6, 4096),
    ] {
        let (counts, _) = fuzz(seed, page_bytes, Limits::Roomy);
        total.commits += counts.commits;
        total.rollbacks += counts.rollbacks;
        total.refusals += counts.refusals;
        total.aborts += counts.aborts;
        total.entries += counts.entries;
        total.checkpoints += counts.checkpoints;
        total.vacuums += counts.vacuums;
    }
    println!("{total:?}");
    assert!(
        total.commits > 300 && total.rollbacks > 20 && total.refusals > 5,
        "{total:?}"
    );
    assert!(
        total.aborts > 10 && total.entries > 100 && total.vacuums > 5,
        "{total:?}"
    );
    assert!(total.checkpoints > 20, "{total:?}");
}

/// Rule 11: with little memory for versions and little spill, old readers are ended, and nobody reads wrong bytes.
#[test]
fn random_histories_are_right_when_versions_have_little_room() {
    for (seed, page_bytes) in [(11, 4096), (12, 1024)] {
        let (counts, ended) = fuzz(seed, page_bytes, Limits::Tight);
        println!("seed {seed}: {counts:?}, {ended} reads ended");
    }
}

/// Rule 26: buffer, journal, sub-journal and VACUUM's database of each transaction in scratch files, or some of them.
#[test]
fn random_histories_are_right_when_transactions_have_little_room() {
    let mut total = Counts::default();
    for (seed, page_bytes, room) in [
        (31, 4096, 0),
        (32, 512, 0),
        (33, 65536, 0),
        (34, 16384, 0),
        (35, 4096, 70_000),
        (36, 65536, 1_000_000),
    ] {
        let (counts, _) = fuzz(seed, page_bytes, Limits::Transaction(room));
        assert!(counts.scratch_bytes > 500_000, "{counts:?}");
        total.rollbacks += counts.rollbacks;
        total.refusals += counts.refusals;
        total.aborts += counts.aborts;
        total.vacuums += counts.vacuums;
    }
    println!("{total:?}");
    assert!(total.rollbacks > 20 && total.refusals > 5, "{total:?}");
    assert!(total.aborts > 10 && total.vacuums > 5, "{total:?}");
}
