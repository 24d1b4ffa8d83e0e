//! A random history of transactions, entries, aborts and checkpoints, and what a plain SQLite makes of it.
//!
//! A script is drawn before it runs and hangs on nothing but its seed: so it can run again with a crash at any call.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sqlrep_env::{Entropy, SimulatedEntropy};
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_64;

/// Money that transfers move between accounts: its sum never changes.
pub(crate) const MONEY: i64 = 100 * 100;

const SCHEMA: &str = "
    CREATE TABLE account(id INTEGER PRIMARY KEY, money INT);
    INSERT INTO account WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) SELECT i, 100 FROM n;
    CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);
    CREATE INDEX by_v ON t(v);
    CREATE TABLE pairs(a INT, b INT, PRIMARY KEY(a, b)) WITHOUT ROWID;
    CREATE VIRTUAL TABLE words USING fts5(body);
    CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);
    CREATE TRIGGER count_pairs AFTER DELETE ON t BEGIN INSERT OR REPLACE INTO pairs VALUES (old.id % 50, length(old.v)); END";

pub(crate) struct Dice(SimulatedEntropy);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SimulatedEntropy::new(seed))
    }

    pub(crate) fn below(&self, limit: u64) -> u64 {
        self.0.next() % limit
    }

    fn chance(&self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

pub(crate) enum Statement {
    Plain(String),
    /// Inside a savepoint that is rolled back.
    Undone(String),
    /// Fails in its last row.
    Fails(String),
}

pub(crate) enum Ending {
    Commit,
    RollBack,
    /// Refused by the VFS at its commit.
    Refused,
}

pub(crate) struct Transaction {
    pub(crate) cache_pages: u64,
    pub(crate) statements: Vec<Statement>,
    pub(crate) ending: Ending,
}

pub(crate) enum Step {
    Transaction(Transaction),
    Vacuum,
    /// An entry of the first `transactions` that wait.
    Entry {
        transactions: usize,
    },
    /// What waits is dropped.
    Abort,
    /// Begins a checkpoint, or does the next step of the one under way.
    Checkpoint,
}

/// One committed unit of SQL.
#[derive(Clone)]
pub(crate) struct Unit {
    pub(crate) sql: Vec<String>,
    pub(crate) transactional: bool,
}

impl Unit {
    pub(crate) fn run(&self, sqlite: &Connection) -> rusqlite::Result<()> {
        if self.transactional {
            sqlite.execute_batch("BEGIN")?;
        }
        for sql in &self.sql {
            sqlite.execute_batch(sql)?;
        }
        if self.transactional {
            sqlite.execute_batch("COMMIT")?;
        }
        Ok(())
    }
}

/// A script, and what must be there after each of its entries.
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    /// By index of the entry; the first makes the schema.
    pub(crate) entries: Vec<Vec<Unit>>,
    /// Content after each entry.
    pub(crate) digests: Vec<u64>,
}

impl Script {
    pub(crate) fn draw(seed: u64, length: usize) -> Self {
        let dice = Dice::new(seed);
        let steps = (0..length).map(|_| step(&dice)).collect();
        let mut script = Self {
            steps,
            entries: vec![vec![schema()]],
            digests: Vec::new(),
        };
        script.gather();
        let plain = Connection::open_in_memory().unwrap();
        for entry in &script.entries {
            for unit in entry {
                unit.run(&plain).unwrap();
            }
            script.digests.push(digest(&plain));
        }
        script
    }

    /// Finds out which unit ends up in which entry.
    fn gather(&mut self) {
        let mut waiting = Vec::new();
        for step in &self.steps {
            match step {
                Step::Transaction(transaction) => waiting.extend(transaction.unit()),
                Step::Vacuum => waiting.push(vacuum()),
                Step::Entry { transactions } => {
                    let taken = waiting.len().min(*transactions);
                    self.entries.push(waiting.drain(..taken).collect());
                }
                Step::Abort => waiting.clear(),
                Step::Checkpoint => {}
            }
        }
    }
}

pub(crate) fn schema() -> Unit {
    Unit {
        sql: vec![SCHEMA.to_owned()],
        transactional: true,
    }
}

fn vacuum() -> Unit {
    Unit {
        sql: vec!["VACUUM".to_owned()],
        transactional: false,
    }
}

impl Transaction {
    /// What stays of it.
    fn unit(&self) -> Option<Unit> {
        let sql = self
            .statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::Plain(sql) => Some(sql.clone()),
                Statement::Undone(_) | Statement::Fails(_) => None,
            });
        matches!(self.ending, Ending::Commit).then(|| Unit {
            sql: sql.collect(),
            transactional: true,
        })
    }
}

fn step(dice: &Dice) -> Step {
    match dice.below(100) {
        0..50 => Step::Transaction(transaction(dice)),
        50..52 => Step::Vacuum,
        52..72 => Step::Entry {
            transactions: usize::try_from(dice.below(4)).unwrap(),
        },
        72..75 => Step::Abort,
        _ => Step::Checkpoint,
    }
}

fn transaction(dice: &Dice) -> Transaction {
    let statements = if dice.chance(12) {
        30 + dice.below(120)
    } else {
        1 + dice.below(8)
    };
    Transaction {
        cache_pages: if dice.chance(2) { 10 } else { 2000 },
        statements: (0..statements).map(|_| statement(dice)).collect(),
        ending: match dice.below(20) {
            0..2 => Ending::RollBack,
            2 => Ending::Refused,
            _ => Ending::Commit,
        },
    }
}

fn statement(dice: &Dice) -> Statement {
    if dice.chance(15) {
        let sql = "INSERT INTO account SELECT id + 1000, 0 FROM account UNION ALL SELECT 1, 1";
        return Statement::Fails(sql.to_owned());
    }
    let sql = sql(dice);
    if dice.chance(12) {
        Statement::Undone(sql)
    } else {
        Statement::Plain(sql)
    }
}

fn sql(dice: &Dice) -> String {
    let number = dice.below(1 << 30);
    match dice.below(24) {
        0..7 => {
            let length = 1 + dice.below(600);
            format!("INSERT INTO t(v) VALUES (printf('%0{length}d', {number}))")
        }
        7 => {
            let length = 5_000 + dice.below(30_000);
            format!("INSERT INTO t(v) VALUES (printf('%0{length}d', {number}))")
        }
        8..10 => format!("DELETE FROM t WHERE id % {} = 0", 5 + dice.below(300)),
        10..12 => format!("UPDATE t SET v = substr(v || '{number}', 1, 700) WHERE id % 17 = 3"),
        12 => format!(
            "CREATE TABLE IF NOT EXISTS x{}(id INTEGER PRIMARY KEY, v)",
            number % 5
        ),
        13 => format!("DROP TABLE IF EXISTS x{}", number % 5),
        14 => format!("CREATE INDEX IF NOT EXISTS i{} ON t(v, id)", number % 3),
        15 => format!("DROP INDEX IF EXISTS i{}", number % 3),
        16 => format!(
            "INSERT INTO words VALUES ('w{} w{} all')",
            number % 7,
            number % 11
        ),
        17 => format!("DELETE FROM words WHERE words MATCH 'w{}'", number % 11),
        18 => format!(
            "INSERT INTO boxes(x0, x1) VALUES ({}, {})",
            number % 90,
            number % 90 + 5
        ),
        19 => format!("PRAGMA user_version={number}"),
        _ => {
            let (from, to, sum) = (number % 100, dice.below(100), dice.below(5));
            format!(
                "UPDATE account SET money = money - {sum} WHERE id = {from}; \
                 UPDATE account SET money = money + {sum} WHERE id = {to}"
            )
        }
    }
}

/// Hash over the schema and everything that a client can read. Shadow tables stay out: FTS5 lays them out as its
/// connection's history has it, and a plain SQLite has another history.
pub(crate) fn digest(sqlite: &Connection) -> u64 {
    let mut text = String::new();
    rows(
        sqlite,
        "SELECT name, sql FROM sqlite_schema ORDER BY name",
        &mut text,
    );
    rows(sqlite, "PRAGMA user_version", &mut text);
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'words_%' AND name NOT LIKE 'boxes_%' \
               ORDER BY name";
    let mut statement = sqlite.prepare(sql).unwrap();
    let names = statement
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap();
    for name in names {
        rows(
            sqlite,
            &format!("SELECT * FROM {} ORDER BY 1", name.unwrap()),
            &mut text,
        );
    }
    rows(
        sqlite,
        "SELECT count(*) FROM words WHERE words MATCH 'all'",
        &mut text,
    );
    rows(sqlite, "SELECT count(*) FROM t WHERE v < '5'", &mut text);
    xxh3_64(text.as_bytes())
}

fn rows(sqlite: &Connection, sql: &str, text: &mut String) {
    let mut statement = sqlite.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        for column in 0..columns {
            match row.get_ref(column).unwrap() {
                ValueRef::Null => text.push_str("null"),
                ValueRef::Integer(value) => write!(text, "{value}").unwrap(),
                ValueRef::Real(value) => write!(text, "{value:?}").unwrap(),
                ValueRef::Text(value) => text.push_str(std::str::from_utf8(value).unwrap()),
                ValueRef::Blob(value) => write!(text, "{value:x?}").unwrap(),
            }
            text.push('|');
        }
        text.push('\n');
    }
}
