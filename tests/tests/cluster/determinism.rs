//! Equal bytes on every node, whatever SQL does: chance, time, triggers, virtual tables, changes of the schema; whoever
//! gathered the requests into entries, and whatever a node went through meanwhile.

use crate::client::{Client, Outcome};
use crate::cluster::Cluster;
use crate::process::NodeProcess;
use crate::waiting::{pause, until};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const SCHEMA: [&str; 14] = [
    "CREATE TABLE ledger (id INTEGER)",
    "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a, b TEXT DEFAULT CURRENT_TIMESTAMP, c BLOB,
       d TEXT DEFAULT (CURRENT_DATE || CURRENT_TIME), twice AS (a * 2) STORED, shown AS (id || '/' || a))",
    "CREATE INDEX t_a ON t (a)",
    "CREATE INDEX t_shown ON t (shown)",
    "CREATE TABLE log (what, at REAL DEFAULT (julianday('now')), luck INTEGER DEFAULT (random()))",
    "CREATE TRIGGER t_insert AFTER INSERT ON t BEGIN
       INSERT INTO log (what) VALUES (new.id || '/' || last_insert_rowid() || '/' || changes()); END",
    "CREATE TRIGGER t_delete AFTER DELETE ON t BEGIN
       INSERT INTO log (what) VALUES (hex(randomblob(8)) || total_changes()); END",
    "CREATE VIEW recent AS SELECT * FROM t WHERE b <= datetime('now')",
    "CREATE TRIGGER recent_insert INSTEAD OF INSERT ON recent BEGIN
       INSERT INTO t (a, b) VALUES (new.a, new.b); END",
    "CREATE VIRTUAL TABLE words USING fts5 (body, tokenize = 'porter')",
    "CREATE VIRTUAL TABLE places USING rtree (id, x0, x1, y0, y1)",
    "CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
    "CREATE TABLE altered (x, y, z)",
    "CREATE TABLE moments (a, b, c, d, e, f, g, h)",
];

const STATEMENTS: [&str; 28] = [
    "INSERT INTO t (a, c) VALUES (random(), randomblob(300))",
    "INSERT INTO t (a, c) VALUES (abs(random() % 100), zeroblob(2000)), (1, randomblob(10))",
    "INSERT INTO t (a) SELECT a + 1 FROM t ORDER BY random() LIMIT 3",
    "UPDATE t SET a = random() % 7, b = strftime('%Y-%m-%d %H:%M:%f', 'now') WHERE id % 5 = abs(random() % 5)",
    "DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY random() LIMIT 1)",
    "INSERT INTO t (a, c) VALUES (0.1, randomblob(abs(random() % 5000))) RETURNING id, b, twice, random()",
    "INSERT INTO recent (a, b) VALUES (last_insert_rowid(), datetime('now', 'localtime'))",
    "INSERT INTO moments VALUES (date('now'), time('now'), datetime('now', '+1 day'), julianday('now'),
       unixepoch('now', 'subsec'), strftime('%s %f %J', 'now'), timediff('now', '2000-01-01'), CURRENT_TIME)",
    "INSERT INTO moments SELECT CURRENT_DATE, CURRENT_TIMESTAMP, unixepoch(), count(*), max(b), min(d), 1, 2 FROM t",
    "DELETE FROM moments WHERE rowid % 3 = 0",
    "INSERT INTO words (body) VALUES ('the quick brown fox ' || hex(randomblob(20)))",
    "INSERT INTO words (body) SELECT 'running runner ran ' || id || ' ' || hex(c) FROM t WHERE c IS NOT NULL LIMIT 4",
    "DELETE FROM words WHERE rowid IN (SELECT rowid FROM words ORDER BY rowid LIMIT 1)",
    "UPDATE words SET body = body || ' changed' WHERE rowid % 9 = 0 AND length(body) < 200",
    "INSERT INTO words (words) VALUES ('optimize')",
    "INSERT INTO words (words, rank) VALUES ('merge', 4)",
    "INSERT INTO places SELECT 1 + ifnull(max(id), 0), 1, 2, 3, 4 FROM places",
    "INSERT OR REPLACE INTO places VALUES (abs(random() % 50), 10, 20, abs(random() % 9), 10)",
    "DELETE FROM places WHERE id % 7 = 3",
    "INSERT INTO keyed VALUES (hex(randomblob(1)), datetime('now')) ON CONFLICT DO UPDATE SET v = excluded.v || k",
    "INSERT INTO keyed SELECT what, at FROM log WHERE true ORDER BY luck LIMIT 3 ON CONFLICT DO NOTHING",
    "INSERT INTO log (what) SELECT count(*) || avg(a) || group_concat(b) FROM (SELECT * FROM recent LIMIT 9)",
    "ALTER TABLE altered ADD COLUMN more DEFAULT 'd'",
    "ALTER TABLE altered RENAME COLUMN more TO less",
    "ALTER TABLE altered DROP COLUMN less",
    "INSERT INTO altered (x, y, z) VALUES (random(), 2.5, 'z')",
    "ANALYZE",
    "VACUUM",
];

/// Clients at work, each through its own node.
const CLIENTS: usize = 6;

/// Statements that are asked for in one part of the story.
const PART: usize = 240;

/// Sends `PART` requests through `clients` at once, and tells whether `meanwhile` is done while they do.
fn at_once(clients: &[Client], meanwhile: impl FnOnce()) {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for place in 0..CLIENTS {
            let (client, next, done) = (&clients[place % clients.len()], &next, &done);
            scope.spawn(move || {
                while let Some(at) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < PART)
                {
                    if client.write("/db/request", &request(at, place)) == Outcome::Done {
                        done.fetch_add(1, Ordering::Relaxed);
                    } else {
                        // A killed node refuses at once, and would use up all the requests.
                        pause();
                    }
                }
            });
        }
        meanwhile();
    });
    assert!(done.into_inner() > PART / 4, "hardly anything was done");
}

/// A statement alone, or several as one transaction or one after the other.
fn request(at: usize, client: usize) -> Value {
    let one = |step: usize| STATEMENTS[(at * 5 + step * 11) % STATEMENTS.len()];
    match (at + client) % 5 {
        0 => json!([one(0), one(1), one(2)]),
        _ => json!([one(0)]),
    }
}

/// A reset point lies behind everything, so that all nodes' last checkpoints are of one state: entries that change
/// nothing lead to it, since every 64th is one.
fn to_a_reset_point(node: &NodeProcess) {
    for _ in 0..64 {
        node.must("DELETE FROM ledger WHERE id = 0");
    }
}

/// Rules 33, 34 and 38: see the file's story.
#[test]
fn the_same_requests_give_the_same_bytes() {
    let mut cluster = Cluster::with(3, &["--log-retention-entries=10"]);
    cluster.start_all();
    for sql in SCHEMA {
        cluster.nodes[0].must(sql);
    }
    let clients: Vec<Client> = cluster
        .nodes
        .iter()
        .map(|node| node.client.clone())
        .collect();

    at_once(&clients, || {
        let follower = (cluster.leader() + 1) % 3;
        cluster.nodes[follower].kill();
        cluster.start_all();
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        cluster.start_all();
    });
    cluster.agree_on_bytes();

    let leader = cluster.leader();
    let away = (leader + 2) % 3;
    let missed = cluster.nodes[away].status()["store"]["db_applied_index"].as_u64();
    cluster.nodes[away].kill();
    let had = cluster.nodes[away].generations();
    let others = [clients[leader].clone(), clients[(leader + 1) % 3].clone()];
    at_once(&others, || {});
    until("what the third missed is purged", || {
        others[0].must("INSERT INTO words (body) SELECT hex(randomblob(500)) FROM t LIMIT 20");
        let purged = cluster.nodes[leader].status()["sqlrep"]["purged_index"].as_u64();
        (purged > missed).then_some(())
    });
    cluster.start_all();
    let has = cluster.nodes[away].generations();
    assert!(has.last() > had.last(), "no snapshot: {had:?}, {has:?}");
    at_once(&clients, || {});
    cluster.agree_on_bytes();
    cluster.agree("SELECT * FROM t ORDER BY id");
    cluster.agree("SELECT rowid, * FROM log ORDER BY rowid");

    to_a_reset_point(&cluster.nodes[0]);
    cluster.agree_on_bytes();
    for node in &mut cluster.nodes {
        assert!(node.stop().success());
    }
    equal_files(&cluster);
}

/// The files of stopped nodes are one database, and plain SQLite finds nothing wrong with it.
fn equal_files(cluster: &Cluster) {
    let files: Vec<Vec<u8>> = cluster
        .nodes
        .iter()
        .map(|node| std::fs::read(main_file(node)).unwrap())
        .collect();
    assert!(files[0].len() > 4096);
    for (file, node) in files.iter().zip(&cluster.nodes) {
        let differs = file
            .iter()
            .zip(&files[0])
            .position(|(one, other)| one != other);
        assert_eq!(differs, None, "main.db of node {} differs there", node.id);
        assert_eq!(file.len(), files[0].len(), "main.db of node {}", node.id);
    }
    let path = main_file(&cluster.nodes[0]);
    let plain = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let one = |sql: &str| plain.query_row(sql, [], |row| row.get::<_, rusqlite::types::Value>(0));
    assert_eq!(
        one("PRAGMA integrity_check").unwrap(),
        "ok".to_owned().into()
    );
    for table in ["t", "log", "words", "keyed", "altered", "moments"] {
        let rows = one(&format!("SELECT count(*) > 0 FROM {table}")).unwrap();
        assert_eq!(rows, 1.into(), "{table} has no rows");
    }
}

/// The newest generation is the live one; a former one goes at the next start.
fn main_file(node: &NodeProcess) -> std::path::PathBuf {
    let live = node
        .generations()
        .last()
        .copied()
        .expect("it has a database");
    let folder = node.directory.join("db").join(live.to_string());
    folder.join("main.db")
}
