//! Time and randomness belong to a connection.

use crate::bed::{Bed, error_of, one, run};
use sqlrep_env::{SimulatedClock, UnixMillis};
use std::sync::Arc;
use std::time::Duration;

const NEW_YEAR: UnixMillis = UnixMillis(1_767_225_600_000);

#[test]
fn now_is_what_the_connection_was_told_everywhere_in_sql() {
    let bed = Bed::new(4096);
    let (writer, other) = (bed.writer(), bed.writer());
    writer.set_time(Some(NEW_YEAR));
    other.set_time(Some(UnixMillis(0)));
    run(
        &writer,
        "CREATE TABLE t(a, at DEFAULT CURRENT_TIMESTAMP);
         CREATE TABLE log(at);
         CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (datetime()); END;
         CREATE VIEW v AS SELECT date('now') AS today;
         INSERT INTO t(a) VALUES (1)",
    );
    for sql in [
        "SELECT at FROM t",
        "SELECT at FROM log",
        "SELECT datetime('now')",
    ] {
        assert_eq!(one::<String>(&writer, sql), "2026-01-01 00:00:00", "{sql}");
    }
    assert_eq!(one::<String>(&writer, "SELECT today FROM v"), "2026-01-01");
    assert_eq!(one::<f64>(&writer, "SELECT julianday('now')"), 2_461_041.5);
    assert_eq!(
        one::<String>(&other, "SELECT datetime('now')"),
        "1970-01-01 00:00:00"
    );
    writer.set_time(Some(UnixMillis(NEW_YEAR.0 + 1500)));
    let subsec = one::<String>(&writer, "SELECT datetime('now', 'subsec')");
    assert_eq!(subsec, "2026-01-01 00:00:01.500");
}

#[test]
fn without_a_stamp_now_is_the_clocks_and_stands_still_within_a_statement() {
    let mut bed = Bed::new(4096);
    let clock = Arc::new(SimulatedClock::counting());
    bed.env.clock = clock.clone();
    let writer = bed.writer();
    assert_eq!(
        one::<String>(&writer, "SELECT datetime('now')"),
        "2026-01-01 00:00:00"
    );
    clock.jump(Duration::from_secs(86_400));
    assert_eq!(one::<String>(&writer, "SELECT date('now')"), "2026-01-02");
    let equal = "SELECT julianday('now') = julianday('now')";
    assert_eq!(one::<i64>(&writer, equal), 1);
}

/// Rule 34: `random()` and `randomblob()` are ours on every connection.
#[test]
fn random_numbers_follow_from_the_seed_everywhere_in_sql() {
    let draw = || {
        let bed = Bed::new(4096);
        let writer = bed.writer();
        writer.set_random(Some(42));
        run(
            &writer,
            "CREATE TABLE t(a DEFAULT (random()), b DEFAULT (randomblob(5)));
             CREATE TABLE log(r);
             CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (random()); END;
             INSERT INTO t DEFAULT VALUES;
             INSERT INTO t SELECT random(), randomblob('3x') FROM t;",
        );
        let sql = "SELECT (SELECT group_concat(a || hex(b)) FROM t) || (SELECT group_concat(r) FROM log) \
                   || (SELECT group_concat(v) FROM (SELECT value AS v FROM json_each('[1,2,3,4,5,6,7]') ORDER BY random()))";
        one::<String>(&writer, sql)
    };
    let drawn = draw();
    assert_eq!(drawn, draw());
    assert!(drawn.len() > 100);

    let bed = Bed::new(4096);
    let writer = bed.writer();
    writer.set_random(Some(42));
    let seeded: i64 = one(&writer, "SELECT random()");
    writer.set_random(None);
    assert_ne!(seeded, one(&writer, "SELECT random()"));
    writer.set_random(Some(42));
    assert_eq!(seeded, one(&writer, "SELECT random()"));
    let distinct = "SELECT count(DISTINCT random()) FROM json_each('[1,2,3,4,5,6,7,8]')";
    assert_eq!(one::<i64>(&writer, distinct), 8);
}

#[test]
fn a_random_blob_is_bounded_like_any_value() {
    let bed = Bed::new(4096);
    let writer = bed.writer();
    assert_eq!(one::<i64>(&writer, "SELECT length(randomblob(NULL))"), 1);
    assert_eq!(one::<i64>(&writer, "SELECT length(randomblob(1000))"), 1000);
    for huge in ["9223372036854775807", "2000000000"] {
        let error = error_of(&writer, &format!("SELECT randomblob({huge})"));
        assert!(error.contains("too big"), "{error}");
    }
}
