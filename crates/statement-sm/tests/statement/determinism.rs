//! The same log gives the same bytes, whatever a node went through meanwhile.

use super::bed::*;
use bytes::Bytes;
use sqlrep_core::{Epoch, Step};
use sqlrep_disk::Loss;
use sqlrep_env::{Entropy, SimulatedEntropy};
use sqlrep_sql::{Outcome, Parameter, Request, Shape, SqlSettings, Statement, Value};

/// Schema and statements over everything that could depend on a node.
const SCHEMA: [&str; 12] = [
    "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b TEXT DEFAULT CURRENT_TIMESTAMP, c BLOB)",
    "CREATE INDEX t_a ON t(a)",
    "CREATE TABLE log(what, at REAL DEFAULT (julianday('now')), luck INTEGER DEFAULT (random()))",
    "CREATE TRIGGER t_insert AFTER INSERT ON t BEGIN
       INSERT INTO log(what) VALUES (new.id || '/' || last_insert_rowid() || '/' || changes()); END",
    "CREATE TRIGGER t_delete AFTER DELETE ON t BEGIN
       INSERT INTO log(what) VALUES (hex(randomblob(8)) || total_changes()); END",
    "CREATE VIEW recent AS SELECT * FROM t WHERE b <= datetime('now')",
    "CREATE VIRTUAL TABLE words USING fts5(body, tokenize = 'porter')",
    "CREATE VIRTUAL TABLE places USING rtree(id, x0, x1, y0, y1)",
    "CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT UNIQUE) STRICT",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent(id) ON DELETE CASCADE)",
    "CREATE TABLE keyed(k TEXT PRIMARY KEY, v) WITHOUT ROWID",
    "CREATE TABLE altered(x, y, z)",
];

const STATEMENTS: [&str; 31] = [
    "INSERT INTO t(a, c) VALUES (random(), randomblob(300))",
    "INSERT INTO t(a, c) VALUES (abs(random() % 100), zeroblob(2000)), (1, randomblob(10))",
    "INSERT INTO t(a) SELECT a + 1 FROM t ORDER BY random() LIMIT 3",
    "UPDATE t SET a = random() % 7, b = strftime('%Y-%m-%d %H:%M:%f', 'now') WHERE id % 5 = abs(random() % 5)",
    "DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY random() LIMIT 2)",
    "INSERT INTO words(body) VALUES ('the quick brown fox ' || hex(randomblob(20)))",
    "INSERT INTO words(body) SELECT 'running runner ran ' || id || ' ' || hex(c) FROM t WHERE c IS NOT NULL LIMIT 4",
    "DELETE FROM words WHERE rowid IN (SELECT rowid FROM words ORDER BY rowid LIMIT 1)",
    "UPDATE words SET body = body || ' changed' WHERE rowid % 3 = 0",
    "INSERT INTO words(words) VALUES ('optimize')",
    "INSERT INTO words(words, rank) VALUES ('merge', 4)",
    "INSERT INTO places SELECT 1 + ifnull(max(id), 0), 1, 2, 3, 4 FROM places",
    "INSERT OR REPLACE INTO places VALUES (abs(random() % 50), 10, 20, abs(random() % 9), 10)",
    "DELETE FROM places WHERE id % 7 = 3",
    "INSERT INTO parent(name) VALUES (hex(randomblob(4)))",
    "INSERT INTO child(p) SELECT id FROM parent ORDER BY random() LIMIT 2",
    "DELETE FROM parent WHERE id = (SELECT min(id) FROM parent)",
    "INSERT INTO parent(id, name) VALUES (1, 'one'), (1, 'one again')",
    "INSERT INTO keyed VALUES (hex(randomblob(2)), datetime('now')) ON CONFLICT DO UPDATE SET v = v || excluded.v",
    "INSERT INTO keyed SELECT what, at FROM log WHERE true ORDER BY luck LIMIT 3 ON CONFLICT DO NOTHING",
    "INSERT INTO log(what) SELECT count(*) || avg(a) || group_concat(b) FROM recent",
    "ALTER TABLE altered ADD COLUMN more DEFAULT 'd'",
    "ALTER TABLE altered RENAME COLUMN more TO less",
    "ALTER TABLE altered DROP COLUMN less",
    "INSERT INTO altered(x, y, z) VALUES (random(), 2.5, 'z')",
    "CREATE TABLE IF NOT EXISTS late AS SELECT id, a FROM t",
    "DROP TABLE IF EXISTS late",
    "ANALYZE",
    "REINDEX",
    "VACUUM",
    "INSERT INTO nowhere VALUES (1)",
];

/// A client's request, by chance.
fn request(luck: &SimulatedEntropy) -> Request {
    let pick = |limit: usize| usize::try_from(luck.next() % u64::try_from(limit).unwrap()).unwrap();
    let one = || Statement::text(STATEMENTS[pick(STATEMENTS.len())]);
    match pick(6) {
        0 => Request {
            statements: (0..pick(4)).map(|_| one()).chain([one()]).collect(),
            transaction: true,
            ..Request::default()
        },
        1 => Request {
            statements: (0..pick(4)).map(|_| one()).chain([one()]).collect(),
            ..Request::default()
        },
        2 => Request {
            statements: vec![Statement {
                sql: "INSERT INTO t(a, c) VALUES (?, :c) RETURNING id, a, b, random()".to_owned(),
                parameters: vec![
                    Parameter::Positional(Value::Real(0.1)),
                    Parameter::Named("c".to_owned(), Value::Blob(vec![7; pick(5000)])),
                ],
            }],
            shape: Shape::Request,
            ..Request::default()
        },
        _ => Request {
            statements: vec![one()],
            ..Request::default()
        },
    }
}

/// A log of bodies, made by `bed`, whose pages behind each entry are those that others have to show.
struct Log {
    bodies: Vec<Bytes>,
    replies: Vec<Vec<sqlrep_sql::Reply>>,
    checksums: Vec<u64>,
}

fn index(place: usize) -> u64 {
    u64::try_from(place).unwrap() + 1
}

impl Log {
    fn made_by(bed: &Bed, entries: usize, luck: &SimulatedEntropy) -> Self {
        let mut log = Self {
            bodies: Vec::new(),
            replies: Vec::new(),
            checksums: Vec::new(),
        };
        let mut epoch = begin(&bed.machine);
        let schema = SCHEMA.map(Request::execute);
        let mut gathered = schema.to_vec();
        for _ in 0..entries {
            let body = sealed(&mut epoch, &gathered);
            let replies = bed.apply(index(log.bodies.len()), &body);
            log.bodies.push(body);
            log.replies
                .push(replies.into_iter().map(timeless).collect());
            log.checksums.push(bed.checksum());
            gathered = (0..=luck.next() % 6).map(|_| request(luck)).collect();
            if luck.next().is_multiple_of(40) {
                epoch = begin(&bed.machine);
            }
        }
        log.replies[0].iter().for_each(good);
        log
    }

    /// Applies the entry behind the applied end and compares.
    fn step(&self, bed: &Bed) -> bool {
        let place = usize::try_from(bed.next()).unwrap() - 1;
        let Some(body) = self.bodies.get(place) else {
            return false;
        };
        let replies: Vec<_> = bed
            .apply(index(place), body)
            .into_iter()
            .map(timeless)
            .collect();
        assert_eq!(
            replies,
            self.replies[place],
            "replies of entry {}",
            index(place)
        );
        assert_eq!(
            bed.checksum(),
            self.checksums[place],
            "pages behind entry {}",
            index(place)
        );
        true
    }
}

/// What a node is told that goes through restarts and installs; it answers what the leader answered, and shows the same bytes.
fn lived(seed: u64, steps_max: u64) -> Vec<sqlrep_sql::Reply> {
    let luck = SimulatedEntropy::new(seed);
    let bed = |salt| {
        let settings = SqlSettings {
            steps_max,
            ..SqlSettings::default()
        };
        Bed::with(salt + seed, settings)
    };
    let leader = bed(100);
    let log = Log::made_by(&leader, 150, &luck);
    let (mut restarts, mut installs) = (0, 0);
    let mut node = bed(200);
    while log.step(&node) {
        match luck.next() % 30 {
            0 => {
                node = node.crashed(Loss::Random { seed });
                restarts += 1;
            }
            1..=3 => drop(node.checkpoint()),
            4 if node.durable().is_some() => {
                let fresh = bed(300);
                fresh.install(&node);
                node = fresh;
                installs += 1;
            }
            _ => {}
        }
    }
    assert!(
        restarts > 2 && installs > 2,
        "{restarts} restarts, {installs} installs"
    );
    assert_eq!(node.pages(), leader.pages());
    assert_eq!(node.machine.checksum_mismatches(), 0);
    assert_eq!(
        node.value("PRAGMA integrity_check"),
        Value::Text("ok".to_owned())
    );
    log.replies.concat()
}

/// Rules 33, 34 and 38: nodes that restart from a checkpoint and replay, or take over a snapshot and go on, give the same
/// replies and the same pages behind every entry: FTS5, R-Tree, AUTOINCREMENT, triggers, VACUUM, ALTER and chance included.
#[test]
fn restarts_and_installs_do_not_show_in_the_bytes() {
    (1..=2).for_each(|seed| drop(lived(seed, SqlSettings::default().steps_max)));
}

/// Rule 37: which statements pass the budget is the same on a long-running node and on one that has just replayed or installed,
/// with full-text search, R-Trees and triggers.
#[test]
fn restarts_and_installs_do_not_show_in_the_budget() {
    for seed in 3..=4 {
        let replies = lived(seed, 2_000);
        let outcomes = replies.iter().flat_map(|reply| &reply.outcomes);
        let spent = |outcome: &&Outcome| matches!(outcome, Outcome::Failed(error) if error.message.contains("steps"));
        let spent = outcomes.clone().filter(spent).count();
        assert!(spent > 20 && spent < outcomes.count() / 2, "{spent}");
    }
}

/// Requests whose result doesn't hang on stamp, seed or the apply connection's history.
fn plain(luck: &SimulatedEntropy) -> Request {
    let n = luck.next() % 1000;
    let sql = match n % 8 {
        0 => format!("DELETE FROM t WHERE a % 10 = {}", n % 10),
        1 => format!("UPDATE t SET b = b || {n} WHERE a % 7 = {}", n % 7),
        2 => "VACUUM".to_owned(),
        3 => format!("CREATE TABLE IF NOT EXISTS u{}(x)", n % 5),
        4 => format!("DROP TABLE IF EXISTS u{}", n % 5),
        5 => "INSERT INTO nowhere VALUES (1)".to_owned(),
        _ => format!("INSERT INTO t(a, b) VALUES ({n}, zeroblob({}))", n * 5),
    };
    Request {
        transaction: n.is_multiple_of(3),
        ..Request::execute(sql)
    }
}

/// The unit of commit is the request: how requests were gathered into entries doesn't show in the bytes.
#[test]
fn gathering_does_not_show_in_the_bytes() {
    let luck = SimulatedEntropy::new(5);
    let mut requests = vec![Request::execute(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b)",
    )];
    requests.extend((0..300).map(|_| plain(&luck)));
    let gathered = |sizes: &dyn Fn() -> usize| {
        let bed = Bed::new(6);
        let mut epoch = begin(&bed.machine);
        let mut left = &requests[..];
        while !left.is_empty() {
            let (now, later) = left.split_at(sizes().min(left.len()));
            bed.apply(bed.next(), &sealed(&mut epoch, now));
            left = later;
        }
        bed.pages()
    };
    let alone = gathered(&|| 1);
    assert!(alone.len() > 20);
    assert!(gathered(&|| 1000) == alone, "all in one entry");
    let sizes = SimulatedEntropy::new(7);
    assert!(
        gathered(&|| 1 + usize::try_from(sizes.next() % 9).unwrap()) == alone,
        "by chance"
    );
}

/// Equal requests in one body get chance of their own each; a transaction sees one time.
#[test]
fn each_request_has_its_own_chance_and_all_have_one_time() {
    let bed = Bed::new(8);
    good(&bed.write("CREATE TABLE t(luck, at)"));
    let mut epoch = begin(&bed.machine);
    let insert = Request::execute("INSERT INTO t VALUES (random(), strftime('%f', 'now'))");
    for _ in 0..50 {
        assert!(matches!(epoch.run(insert.clone()), Step::Encoded));
    }
    bed.apply(2, &epoch.seal().unwrap().body);
    assert_eq!(
        bed.value("SELECT count(DISTINCT luck) FROM t"),
        Value::Integer(50)
    );
    assert_eq!(
        bed.value("SELECT count(DISTINCT at) FROM t"),
        Value::Integer(1)
    );
}
