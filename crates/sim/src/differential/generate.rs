//! Statements, drawn from a seed.
//!
//! Names come from a small set, so that statements meet: a table is often there, sometimes not, and a constraint is often
//! in the way. What a statement means is SQLite's business; an error is as good an answer as a row.
//!
//! It doesn't make: what sqlrep refuses by rule (transactions, ATTACH, PRAGMA, TEMP), and what isn't a function of the
//! statements (random numbers, the time).

use crate::draw::Draw;

const TABLES: [&str; 4] = ["a", "b", "c", "d"];
const COLUMNS: [&str; 4] = ["k", "x", "y", "z"];
const TYPES: [&str; 7] = ["", "INT", "TEXT", "REAL", "BLOB", "NUMERIC", "VARCHAR(9)"];
const VERBS: [&str; 8] = [
    "INSERT INTO",
    "INSERT INTO",
    "INSERT INTO",
    "REPLACE INTO",
    "INSERT OR IGNORE INTO",
    "INSERT OR ROLLBACK INTO",
    "INSERT OR ABORT INTO",
    "INSERT OR FAIL INTO",
];

/// Draws statements.
pub(crate) struct Generator {
    draw: Draw,
    triggers: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let draw = Draw::new(seed, "statements");
        let triggers = draw.chance(60);
        Self { draw, triggers }
    }

    pub(crate) fn draw(&self) -> &Draw {
        &self.draw
    }

    fn pick(&self, words: &[&'static str]) -> &'static str {
        self.draw.pick::<&'static str>(words)
    }

    fn table(&self) -> &'static str {
        self.pick(&TABLES)
    }

    fn column(&self) -> &'static str {
        self.pick(&COLUMNS)
    }

    /// The first statement: without a table, most others are errors.
    pub(crate) fn first(&self) -> String {
        self.create_table()
    }

    /// Any statement.
    pub(crate) fn statement(&self) -> String {
        match self.draw.below(100) {
            0..8 => self.create_table(),
            8..10 => format!("DROP TABLE {}{}", self.if_exists(), self.table()),
            10..15 => self.index(),
            15..20 => self.view(),
            20..28 if self.triggers => self.trigger(),
            28..32 => self.alter(),
            32..62 => self.insert(),
            62..74 => self.update(),
            74..80 => self.delete(),
            80..82 => self
                .pick(&["REINDEX", "ANALYZE", "SELECT 1 WHERE 0", "ANALYZE a"])
                .to_owned(),
            _ => self.select(),
        }
    }

    fn if_exists(&self) -> &'static str {
        self.pick(&["", "IF EXISTS "])
    }

    fn create_table(&self) -> String {
        let table = self.table();
        let without = self.draw.chance(25);
        let key = match (without, self.draw.below(4)) {
            (true, _) => "k PRIMARY KEY",
            (_, 0) => "k INTEGER PRIMARY KEY AUTOINCREMENT",
            (_, 1) => "k UNIQUE",
            _ => "k INTEGER PRIMARY KEY",
        };
        let x = self.constrained("x");
        let y = self.constrained("y");
        let z = match self.draw.below(5) {
            0 => "z AS (x || '-' || y) STORED".to_owned(),
            1 => "z GENERATED ALWAYS AS (length(x) + coalesce(y, 1)) VIRTUAL".to_owned(),
            2 => format!("z REFERENCES {}(k) ON DELETE CASCADE", self.table()),
            _ => self.constrained("z"),
        };
        let end = match (without, self.draw.below(8)) {
            (true, 0) => " WITHOUT ROWID, STRICT",
            (true, _) => " WITHOUT ROWID",
            _ => "",
        };
        let unique = self.pick(&["", "", ", UNIQUE (x, y)", ", CHECK (x IS NOT y)"]);
        let new = self.pick(&["", "IF NOT EXISTS "]);
        format!("CREATE TABLE {new}{table} ({key}, {x}, {y}, {z}{unique}){end}")
    }

    fn constrained(&self, name: &str) -> String {
        let type_name = self.pick(&TYPES);
        let constraint = match self.draw.below(9) {
            0 => "NOT NULL".to_owned(),
            1 => "UNIQUE".to_owned(),
            2 => format!("DEFAULT {}", self.literal()),
            3 => format!("CHECK ({name} <> 3)"),
            4 => "COLLATE NOCASE".to_owned(),
            5 => format!("NOT NULL ON CONFLICT IGNORE DEFAULT {}", self.literal()),
            _ => String::new(),
        };
        format!("{name} {type_name} {constraint}")
    }

    fn index(&self) -> String {
        let (name, table) = (self.pick(&["i", "j", "l"]), self.table());
        match self.draw.below(5) {
            0 => format!("DROP INDEX {}{name}", self.if_exists()),
            1 => format!("CREATE UNIQUE INDEX {name} ON {table} ({})", self.column()),
            2 => format!(
                "CREATE INDEX {name} ON {table} ({}) WHERE {}",
                self.column(),
                self.condition(1)
            ),
            3 => format!(
                "CREATE INDEX {name} ON {table} (abs({}), y DESC)",
                self.column()
            ),
            _ => format!(
                "CREATE INDEX IF NOT EXISTS {name} ON {table} (x, {})",
                self.column()
            ),
        }
    }

    fn view(&self) -> String {
        match self.draw.below(4) {
            0 => format!("DROP VIEW {}v", self.if_exists()),
            1 => format!("CREATE VIEW IF NOT EXISTS v AS {}", self.select()),
            _ => format!(
                "CREATE VIEW v (k, x, y) AS SELECT k, x, y FROM {}",
                self.table()
            ),
        }
    }

    fn trigger(&self) -> String {
        let name = self.pick(&["r", "s"]);
        if self.draw.chance(20) {
            return format!("DROP TRIGGER {}{name}", self.if_exists());
        }
        let event = self.pick(&["INSERT", "DELETE", "UPDATE", "UPDATE OF x"]);
        let row = if event == "DELETE" { "old" } else { "new" };
        let other = self.table();
        let body = match self.draw.below(5) {
            0 => format!("DELETE FROM {other} WHERE x IS {row}.x"),
            1 => format!("UPDATE {other} SET y = {row}.y WHERE k = {row}.k"),
            2 => format!(
                "SELECT RAISE({}, 'refused by a trigger') WHERE {row}.x = 3",
                self.pick(&["ABORT", "IGNORE", "ROLLBACK"])
            )
            .replace("RAISE(IGNORE, 'refused by a trigger')", "RAISE(IGNORE)"),
            _ => format!("INSERT OR IGNORE INTO {other} (x, y) VALUES ({row}.x, {row}.k)"),
        };
        let (when, on) = if self.draw.chance(20) {
            ("INSTEAD OF", "v")
        } else {
            (self.pick(&["BEFORE", "AFTER"]), self.table())
        };
        format!("CREATE TRIGGER {name} {when} {event} ON {on} BEGIN {body}; END")
    }

    fn alter(&self) -> String {
        let table = self.table();
        match self.draw.below(4) {
            0 => format!(
                "ALTER TABLE {table} ADD COLUMN w DEFAULT {}",
                self.literal()
            ),
            1 => format!("ALTER TABLE {table} RENAME COLUMN y TO z"),
            2 => format!("ALTER TABLE {table} DROP COLUMN {}", self.column()),
            _ => format!("ALTER TABLE {table} RENAME TO {}", self.table()),
        }
    }

    fn insert(&self) -> String {
        let into = if self.draw.chance(6) {
            "v"
        } else {
            self.table()
        };
        let verb = self.pick(&VERBS);
        let returning = self.returning();
        let source = match self.draw.below(10) {
            0 => return format!("{verb} {into} DEFAULT VALUES{returning}"),
            1 => format!(
                "SELECT {}, x, y FROM {} ORDER BY k LIMIT 3",
                self.key(),
                self.table()
            ),
            2 => format!(
                "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT \
                 i, i * 2, 'n' || i FROM n",
                1 + self.draw.below(40)
            ),
            _ => self.rows(),
        };
        let upsert = if verb == "INSERT INTO" {
            self.upsert()
        } else {
            String::new()
        };
        // SQLite asks for a WHERE between a SELECT and ON CONFLICT.
        let source = if upsert.is_empty() || source.starts_with("VALUES") {
            source
        } else {
            format!("SELECT * FROM ({source}) WHERE true")
        };
        format!("{verb} {into} (k, x, y) {source}{upsert}{returning}")
    }

    fn rows(&self) -> String {
        let row = || {
            let key = self.key();
            format!("({key}, {}, {})", self.value(1), self.value(1))
        };
        let rows: Vec<String> = (0..=self.draw.below(4)).map(|_| row()).collect();
        format!("VALUES {}", rows.join(", "))
    }

    fn key(&self) -> String {
        if self.draw.chance(25) {
            "NULL".to_owned()
        } else {
            self.draw.below(12).to_string()
        }
    }

    fn upsert(&self) -> String {
        match self.draw.below(6) {
            0 => " ON CONFLICT DO NOTHING".to_owned(),
            1 => format!(
                " ON CONFLICT (k) DO UPDATE SET x = excluded.x, y = {}",
                self.value(1)
            ),
            2 => " ON CONFLICT (x) DO UPDATE SET y = y + 1 WHERE y < 9".to_owned(),
            _ => String::new(),
        }
    }

    fn returning(&self) -> &'static str {
        self.pick(&[
            "",
            "",
            "",
            " RETURNING *",
            " RETURNING k, typeof(x), x AS again",
        ])
    }

    fn update(&self) -> String {
        let (or, table) = (
            self.pick(&["", "", "OR IGNORE ", "OR REPLACE "]),
            self.table(),
        );
        let (column, returning) = (self.column(), self.returning());
        let from = if self.draw.chance(15) {
            format!(" FROM (SELECT max(k) AS m FROM {}) AS other", self.table())
        } else {
            String::new()
        };
        format!(
            "UPDATE {or}{table} SET {column} = {}{from} WHERE {}{returning}",
            self.value(2),
            self.condition(2)
        )
    }

    fn delete(&self) -> String {
        format!(
            "DELETE FROM {} WHERE {}{}",
            self.table(),
            self.condition(2),
            self.returning()
        )
    }

    fn select(&self) -> String {
        let (one, other) = (self.table(), self.table());
        let condition = self.condition(2);
        match self.draw.below(9) {
            0 => format!(
                "SELECT count(*), sum(x), group_concat(y, '|' ORDER BY y) FROM {one} WHERE {condition}"
            ),
            1 => format!(
                "SELECT l.k, r.x FROM {one} AS l LEFT JOIN {other} AS r ON l.k = r.k ORDER BY 1, 2"
            ),
            2 => format!("SELECT x, count(*) FROM {one} GROUP BY x HAVING count(*) > 1 ORDER BY 1"),
            3 => format!("SELECT k FROM {one} EXCEPT SELECT k FROM {other} ORDER BY 1"),
            4 => format!(
                "SELECT k, row_number() OVER (ORDER BY k DESC), lag(x) OVER (ORDER BY k) FROM {one}"
            ),
            5 => format!(
                "SELECT {} AS value, typeof({})",
                self.value(3),
                self.value(2)
            ),
            6 => "SELECT * FROM v ORDER BY 1".to_owned(),
            7 => format!(
                "SELECT * FROM {one} WHERE k IN (SELECT k FROM {other} WHERE {condition}) ORDER BY k"
            ),
            _ => format!("SELECT * FROM {one} WHERE {condition} ORDER BY k, x LIMIT 20"),
        }
    }

    fn condition(&self, depth: u64) -> String {
        let column = self.column();
        match self.draw.below(8) {
            0 => "true".to_owned(),
            1 => format!("{column} IS NULL"),
            2 => format!("{column} BETWEEN {} AND {}", self.literal(), self.literal()),
            3 => format!("{column} LIKE '%{}%'", self.draw.below(4)),
            4 if depth > 0 => {
                format!(
                    "({}) OR NOT ({})",
                    self.condition(depth - 1),
                    self.condition(depth - 1)
                )
            }
            5 if depth > 0 => {
                let table = self.table();
                format!("EXISTS (SELECT 1 FROM {table} AS e WHERE e.k = {column})")
            }
            _ => format!(
                "{column} {} {}",
                self.pick(&["=", "<", ">=", "<>", "IS"]),
                self.literal()
            ),
        }
    }

    /// A literal, or an expression of some depth.
    fn value(&self, depth: u64) -> String {
        if depth == 0 || self.draw.chance(60) {
            return self.literal();
        }
        let (one, other) = (self.value(depth - 1), self.value(depth - 1));
        match self.draw.below(12) {
            0 => format!("({one} + {other})"),
            1 => format!("({one} || {other})"),
            2 => format!("abs({one})"),
            3 => format!("coalesce({one}, {other})"),
            4 => format!(
                "CAST({one} AS {})",
                self.pick(&["INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC"])
            ),
            5 => format!("CASE WHEN {one} < {other} THEN {one} ELSE {other} END"),
            6 => format!("printf('%.3f|%s', {one}, {other})"),
            7 => format!("hex({one})"),
            8 => format!("substr({one}, 2, 3)"),
            9 => format!("json_array({one}, {other})"),
            10 => format!("json_extract({one}, '$[0]')"),
            _ => format!("({one} % {other})"),
        }
    }

    fn literal(&self) -> String {
        match self.draw.below(16) {
            0 => "NULL".to_owned(),
            1 => self
                .pick(&["9223372036854775807", "-9223372036854775808", "0", "-1"])
                .to_owned(),
            2 => self
                .pick(&["0.5", "1e300", "-2.25", "9e999", "3.0"])
                .to_owned(),
            3 => self
                .pick(&["x''", "x'00ff'", "x'41'", "zeroblob(600)"])
                .to_owned(),
            4 => self
                .pick(&["''", "'it''s'", "'ÄÖ'", "'12'", "'1e3'", "'[1,2]'"])
                .to_owned(),
            5 => format!(
                "'{}'",
                "long ".repeat(usize::try_from(self.draw.below(200)).unwrap_or(0))
            ),
            6..10 => format!("'t{}'", self.draw.below(6)),
            _ => self.draw.below(10).to_string(),
        }
    }
}
