//! The same requests give the same bytes and the same replies on every node.

use crate::bed::{Bed, transaction, untimed};
use sqlrep_sql::{Outcome, Request, Shape};

/// Everything whose result could hang on the machine, the moment or the connection.
const SCRIPT: &[&str] = &[
    "CREATE TABLE t(a INTEGER PRIMARY KEY, b, made DEFAULT CURRENT_TIMESTAMP, dice DEFAULT (random()), \
       doubled GENERATED ALWAYS AS (b * 2) STORED, tripled AS (b * 3))",
    "CREATE TABLE log(a INTEGER PRIMARY KEY AUTOINCREMENT, text, at DEFAULT (julianday('now')))",
    "CREATE TABLE pairs(k TEXT, n INTEGER, v, PRIMARY KEY (k, n)) WITHOUT ROWID",
    "CREATE VIEW dice AS SELECT random() % 6 AS die, datetime('now', 'localtime') AS at",
    "CREATE TRIGGER noted AFTER INSERT ON t BEGIN \
       INSERT INTO log(text) SELECT die || at || changes() || total_changes() FROM dice; END",
    "INSERT INTO t(b) VALUES (1), (random()), (CURRENT_TIME)",
    "INSERT INTO t(b) SELECT hex(randomblob(200)) FROM t, t",
    "INSERT INTO pairs SELECT 'k' || b, a, unixepoch('subsec') FROM t ORDER BY random()",
    "INSERT INTO pairs VALUES ('k1', 1, 2) ON CONFLICT DO UPDATE SET v = excluded.v + strftime('%s')",
    "UPDATE t SET b = last_insert_rowid() WHERE a IN (SELECT a FROM t ORDER BY random() LIMIT 3) RETURNING *",
    "INSERT INTO t(b) VALUES (changes()), (last_insert_rowid()), (total_changes())",
    "CREATE INDEX by_b ON t(b)",
    "DELETE FROM t WHERE a IN (SELECT a FROM t ORDER BY random() LIMIT 2)",
    "INSERT OR IGNORE INTO t(a, b) VALUES (3, 3)",
    "INSERT OR REPLACE INTO t(a, b) VALUES (3, date('now', '+1 month'))",
    "INSERT OR FAIL INTO t(a, b) VALUES (1000, 1), (3, 3), (1001, 1)",
    "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, +label)",
    "INSERT INTO boxes SELECT a, a, a + random() % 50 + 50, hex(randomblob(3)) FROM t",
    "DELETE FROM boxes WHERE x0 > 5",
    "ALTER TABLE t ADD COLUMN late DEFAULT 'x'",
    "ALTER TABLE t RENAME COLUMN b TO c",
    "UPDATE t SET c = (SELECT group_concat(c) FROM (SELECT c FROM t ORDER BY a LIMIT 9)) WHERE a < 5",
    "INSERT INTO pairs SELECT 'j', t.a * 10 + j.key, j.value FROM json_each('[1,2,3]') AS j CROSS JOIN t",
    "CREATE TABLE copy AS SELECT *, row_number() OVER (ORDER BY random()) AS place FROM t",
    "ANALYZE",
    "DROP TABLE copy",
    "VACUUM",
    "REINDEX",
    "INSERT INTO t(c) SELECT zeroblob(3000) FROM t LIMIT 20",
    "ALTER TABLE t DROP COLUMN late",
    "DELETE FROM t",
    "PRAGMA user_version=5",
    "VACUUM",
    "INSERT INTO log(text) SELECT quote(c) FROM t UNION SELECT datetime(CURRENT_TIMESTAMP, 'start of day')",
];

const WORDS: &[&str] = &[
    "CREATE VIRTUAL TABLE words USING fts5(w, tokenize='porter', prefix='2 3')",
    "INSERT INTO words SELECT hex(randomblob(20)) || ' apples and ' || a FROM (SELECT 1 AS a UNION SELECT 2 UNION SELECT 3)",
    "INSERT INTO words SELECT w || ' pears' FROM words",
    "DELETE FROM words WHERE words MATCH 'pears'",
    "INSERT INTO words(words, rank) VALUES ('automerge', 2)",
    "UPDATE words SET w = w || ' ' || datetime() WHERE words MATCH 'appl*'",
    "INSERT INTO words SELECT w FROM words, (SELECT 1 UNION SELECT 2)",
    "INSERT INTO words(words, rank) VALUES ('merge', -4)",
    "INSERT INTO words(words) VALUES ('optimize')",
    "CREATE VIRTUAL TABLE old USING fts4(w)",
    "INSERT INTO old SELECT w FROM words",
    "DELETE FROM old WHERE old MATCH 'apples' AND docid % 2",
    "INSERT INTO old(old) VALUES ('optimize')",
];

fn request(sql: &str) -> Request {
    let mut request = Request::execute(sql);
    request.shape = Shape::Request;
    request
}

fn compare(one: &mut Bed, other: &mut Bed, request: &Request) {
    let (mine, theirs) = (one.write(request), other.write(request));
    for outcome in &mine.outcomes {
        let meant = matches!(outcome, Outcome::Failed(error) if error.message == "UNIQUE constraint failed: t.a");
        assert!(
            meant || !matches!(outcome, Outcome::Failed(_)),
            "{request:?}: {outcome:?}"
        );
    }
    assert_eq!(untimed(mine), untimed(theirs), "{request:?}");
    assert_eq!(one.checksum(), other.checksum(), "{request:?}");
    assert_eq!(one.counters, other.counters, "{request:?}");
}

/// Rules 34, 35, 38: a connection with a long history and one opened for each request write the same bytes.
#[test]
fn history_and_cache_have_no_say() {
    let (mut long, mut fresh) = (Bed::new(), Bed::new());
    for sql in SCRIPT {
        fresh.reopen();
        compare(&mut long, &mut fresh, &request(sql));
        // Only one of them runs what leaves nothing behind.
        let reads = [
            "SELECT count(*) FROM sqlite_schema, sqlite_schema",
            "SELECT random()",
            "oops",
        ];
        let before = long.counters;
        long.write(&transaction(&reads));
        long.write(&transaction(&[
            "CREATE TABLE gone AS SELECT random() AS r",
            "INSERT INTO gone VALUES (1)",
            "oops",
        ]));
        long.counters = before;
        long.repeat_number(2);
    }
    assert_eq!(long.text("PRAGMA integrity_check"), "ok");
}

/// Rules 34, 35: with the same reset points, full-text indexes are the same, too.
#[test]
fn full_text_indexes_are_the_same_with_the_same_reset_points() {
    let (mut one, mut other) = (Bed::new(), Bed::new());
    for (number, sql) in WORDS.iter().enumerate() {
        compare(&mut one, &mut other, &request(sql));
        if number % 4 == 3 {
            one.reopen();
            other.reopen();
        }
    }
    let check = "INSERT INTO words(words) VALUES ('integrity-check')";
    compare(&mut one, &mut other, &request(check));
    assert_eq!(one.text("PRAGMA integrity_check"), "ok");
}

/// The script as one transaction, where it can be.
#[test]
fn one_transaction_is_the_same_everywhere() {
    let (mut one, mut other) = (Bed::new(), Bed::new());
    let script: Vec<&str> = SCRIPT
        .iter()
        .copied()
        .filter(|sql| *sql != "VACUUM" && !sql.contains("OR FAIL"))
        .collect();
    other.run("CREATE TABLE x(a)");
    other.run("DROP TABLE x");
    one.run("CREATE TABLE x(a)");
    one.run("DROP TABLE x");
    other.reopen();
    compare(&mut one, &mut other, &transaction(&script));
    let last = one.text("SELECT count(*) FROM log");
    assert_ne!(last, "0");
}

/// The scene decides: another time or seed, other bytes.
#[test]
fn the_scene_is_what_sql_sees() {
    let mut bed = Bed::new();
    bed.run("CREATE TABLE t(at DEFAULT CURRENT_TIMESTAMP, r DEFAULT (random()))");
    for _ in 0..3 {
        bed.run("INSERT INTO t DEFAULT VALUES");
    }
    assert_eq!(bed.text("SELECT count(DISTINCT r) FROM t"), "3");
    assert_eq!(bed.text("SELECT min(at) FROM t"), "2026-01-01 00:00:02");
}
